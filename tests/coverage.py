#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which lines of include/weir the tests run: gcov's counts, of all programs and instantiations together.

    cmake --workflow --preset coverage && tests/coverage.py build/coverage

A line counts as run when any instantiation of it was. Fails below --at-least percent. What is run by the compiler alone
(constant expressions) is not seen. What a machine may lack, a processor's counter that keeps time, is not counted.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = os.path.join(ROOT, "include") + os.sep
NOT_EVERYWHERE = ("weir/detail/processor_counter.hpp", "weir/clock/tsc_clock.hpp")


def counts(notes, gcov):
    """{(header, line): times run} of one object file."""
    out = subprocess.run([gcov, "--json-format", "--stdout", notes], capture_output=True, text=True, check=True,
                         cwd=os.path.dirname(notes)).stdout
    found = collections.Counter()
    for document in out.splitlines():
        data = json.loads(document)
        for file in data["files"]:
            path = os.path.normpath(os.path.join(data["current_working_directory"], file["file"]))
            if path.startswith(INCLUDE) and not path.endswith(NOT_EVERYWHERE):
                for line in file["lines"]:
                    found[path[len(INCLUDE):], line["line_number"]] += line["count"]
    return found


def ranges(lines):
    text, lines = [], sorted(lines)
    for n in lines:
        if text and text[-1][1] == n - 1:
            text[-1][1] = n
        else:
            text.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the folder of a build with --coverage whose tests have run")
    parser.add_argument("--at-least", type=float, default=98, metavar="PERCENT")
    parser.add_argument("--gcov", default="gcov")
    parser.add_argument("--show", action="store_true", help="print the lines that were not run")
    options = parser.parse_args()

    notes = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.abspath(options.build)) for name in names
             if name.endswith(".gcda")]
    if not notes:
        sys.exit(f"{options.build}: no counts; build with --coverage and run the tests")
    total = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda n: counts(n, options.gcov), notes):
            for at, times in found.items():
                total[at] += times

    run = all_lines = 0
    for header in sorted({h for h, _ in total}):
        lines = [n for h, n in total if h == header]
        missed = [n for n in lines if total[header, n] == 0]
        run += len(lines) - len(missed)
        all_lines += len(lines)
        print(f"{header:40} {len(lines) - len(missed):5} of {len(lines):5}  {100 * (1 - len(missed) / len(lines)):6.2f}%  {ranges(missed)}")
        if options.show and missed:
            with open(INCLUDE + header, encoding="utf-8") as f:
                text = f.read().splitlines()
            for n in sorted(missed):
                print(f"    {n:5} {text[n - 1]}")
    percent = 100 * run / all_lines
    print(f"{run} of {all_lines} lines run ({percent:.2f}%), by {len(notes)} object files; to reach: {options.at_least:g}%")
    return 0 if percent >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
