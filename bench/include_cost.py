#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What including each header of weir costs, against <atomic> and <chrono>, which every limiter is written in.

Compiles one-line files, each header in turn and all of them `--runs` times over, so that a busy moment of the machine
falls on all of them, and prints the median processor time (user and system, of the compiler alone) and its ratio to the
floor's. `syntax` is -fsyntax-only; `object` is -O2 -c; lines are those that the preprocessor leaves.
With --limit the exit status says whether token_bucket.hpp kept to it in both.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

FLOOR = "<atomic> + <chrono>"


def processor_seconds(command):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"include_cost: failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime


def public_headers(folder):
    """Names such as wait/wait_queue.hpp, the top folder's first; none of detail."""
    found = [p.relative_to(folder) for p in folder.rglob("*.hpp") if "detail" not in p.parts]
    return [str(p) for p in sorted(found, key=lambda p: (len(p.parts), p))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("headers", nargs="*", help="names such as token_bucket.hpp or wait/wait_queue.hpp; default: all but detail")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--flags", default="", help="more flags, such as -stdlib=libc++")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--limit", type=float, help="the most that token_bucket.hpp may cost, as a ratio")
    options = parser.parse_args()

    include = pathlib.Path(__file__).resolve().parent.parent / "include"
    headers = options.headers or public_headers(include / "weir")
    if options.limit and "token_bucket.hpp" not in headers:
        headers.append("token_bucket.hpp")
    base = [options.compiler, "-std=c++20", f"-I{include}", *options.flags.split()]

    with tempfile.TemporaryDirectory() as scratch:
        files = {FLOOR: "#include <atomic>\n#include <chrono>\n"}
        files |= {name: f"#include <weir/{name}>\n" for name in headers}
        for index, (name, text) in enumerate(files.items()):
            path = pathlib.Path(scratch) / f"unit{index}.cpp"
            path.write_text(text)
            files[name] = str(path)
        out = os.path.join(scratch, "unit.o")

        lines = {}
        for name, path in files.items():
            text = subprocess.run([*base, "-E", "-P", path], capture_output=True, text=True, check=True).stdout
            lines[name] = text.count("\n")
        modes = {"syntax": ["-fsyntax-only"], "object": ["-O2", "-c", "-o", out]}
        samples = {(name, mode): [] for name in files for mode in modes}
        for run in range(options.runs + 1):
            for (name, mode), taken in samples.items():
                seconds = processor_seconds([*base, *modes[mode], files[name]])
                if run > 0:  # the first round only warms the file cache
                    taken.append(seconds)

    median = {key: statistics.median(taken) for key, taken in samples.items()}
    version = subprocess.run([options.compiler, "--version"], capture_output=True, text=True, check=True).stdout
    print(f"{version.splitlines()[0]} {options.flags}".rstrip() + f", median of {options.runs}")
    print(f"{'':30} {'lines':>7} {'syntax':>9} {'ratio':>6} {'object':>9} {'ratio':>6}")
    over = False
    for name in files:
        row = f"{name:30} {lines[name]:7}"
        for mode in modes:
            ratio = median[name, mode] / median[FLOOR, mode]
            row += f" {median[name, mode] * 1000:6.0f} ms {ratio:6.2f}"
            over |= bool(options.limit) and name == "token_bucket.hpp" and ratio > options.limit
        print(row)
    if over:
        sys.exit(f"include_cost: token_bucket.hpp costs more than {options.limit} x {FLOOR}")


if __name__ == "__main__":
    main()
