#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What weir takes in memory, code and compile time: writes docs/size.md (or --out FILE; - is the standard output).

Sizes are read from symbols of compiled objects, so that a target need not be run: sizeof as arrays of so many bytes, code
as functions of one attempt each, compiled with -O2 -DNDEBUG, one limiter to an object. Compilers that are not installed
are left out, and named. Compile times are the processor's, of -O0 and -O2 each; include times are include_cost.py's, `--runs` of them (0: none).
"""
import argparse
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# (name, type, header). all_of has no attempt of its own to measure: its parts' are in it.
LIMITERS = [
    ("token_bucket", "weir::token_bucket<>", "token_bucket.hpp"),
    ("fixed_token_bucket", "weir::fixed_token_bucket<>", "fixed_token_bucket.hpp"),
    ("leaky_bucket", "weir::leaky_bucket<>", "leaky_bucket.hpp"),
    ("leaky_bucket_queue", "weir::leaky_bucket_queue<>", "leaky_bucket_queue.hpp"),
    ("sliding_window_log", "weir::sliding_window_log<>", "sliding_window_log.hpp"),
    ("sliding_window_counter", "weir::sliding_window_counter<>", "sliding_window_counter.hpp"),
    ("keyed_buckets", "weir::keyed_buckets<>", "keyed_buckets.hpp"),
    ("all_of, two buckets", "weir::all_of<weir::token_bucket<>&, weir::token_bucket<>&>", "all_of.hpp"),
    ("quota_limiter", "weir::llm::quota_limiter<>", "llm/quota_limiter.hpp"),
    ("lease of a token_bucket", "weir::lease<weir::token_bucket<>>", "lease.hpp"),
    ("token_bucket by upper_bound_clock", "weir::token_bucket<weir::upper_bound_clock const&>", "clock/upper_bound_clock.hpp"),
    ("token_bucket, unsynchronized", "weir::token_bucket<std::chrono::steady_clock, weir::unsynchronized>", "token_bucket.hpp"),
]
# What a limiter allocates in addition to its object.
ALLOCATES = {
    "sliding_window_log": "8 bytes a permit, and a 16th more",
    "sliding_window_counter": "8 bytes a segment, to a power of two: 1 KiB",
    "keyed_buckets": "9.2 bytes a slot",
    "quota_limiter": "its windows' rings",
}

SESSION = """#include <weir/llm/{header}>
weir::llm::call_end use(weir::llm::fallback_chain<>& models) {{
    weir::llm::session session{{models}};
    return session.run({{.max_tokens = 500}}, [](auto& call) {{ return call.ended({{}}); }}).status;
}}
"""

# (name, program): what it costs to compile a first use.
USES = [
    ("token_bucket", """#include <weir/token_bucket.hpp>
bool use(weir::token_bucket<>& bucket) { return bucket.try_acquire().granted(); }
weir::token_bucket<> made{weir::rate{10, std::chrono::seconds{1}}, 5};
"""),
    ("quota_limiter", """#include <weir/llm/quota_limiter.hpp>
bool use(weir::llm::quota_limiter<>& quota) { return quota.try_acquire({.input = 100, .output = 100}).granted(); }
weir::llm::quota_limiter<> made{weir::llm::quota{.rpm = 600, .rps = 10, .tpm = 1'000'000}};
"""),
    ("wait_queue over a token_bucket", """#include <weir/token_bucket.hpp>
#include <weir/wait/wait_queue.hpp>
bool use(weir::wait_queue<weir::token_bucket<>>& queue) { return queue.try_acquire_for(1, std::chrono::seconds{1}).granted(); }
"""),
    ("all_of a bucket and a window", """#include <weir/all_of.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/token_bucket.hpp>
using both = weir::all_of<weir::token_bucket<>&, weir::sliding_window_counter<>&>;
bool use(both& all) { return all.try_acquire().granted(); }
extern weir::token_bucket<> bucket;
extern weir::sliding_window_counter<> window;
both made{bucket, window};
"""),
    ("llm::session", SESSION.format(header="session.hpp")),
    ("llm::session by extern_session.hpp", SESSION.format(header="extern_session.hpp")),
]

COMPILERS = [("gcc, x86-64", "g++", "nm"), ("clang, x86-64", "clang++", "nm"),
             ("gcc, aarch64", "aarch64-linux-gnu-g++", "aarch64-linux-gnu-nm")]
FLAGS = ["-std=c++20", "-O2", "-DNDEBUG", f"-I{ROOT / 'include'}"]


def symbols(compiler, nm, source, scratch):
    """name -> (kind, bytes) of what an object defines."""
    path = scratch / "unit.cpp"
    path.write_text(source)
    out = scratch / "unit.o"
    done = subprocess.run([compiler, *FLAGS, "-c", str(path), "-o", str(out)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"size: {compiler} failed:\n{done.stderr}")
    lines = subprocess.run([nm, "-S", "--defined-only", str(out)], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in lines.splitlines():
        parts = line.split()
        if len(parts) == 4:
            found[parts[3]] = (parts[2], int(parts[1], 16))
    return found


def objects(compiler, nm, scratch):
    source = "#include <weir/llm/quota_limiter.hpp>\n#include <weir/weir.hpp>\n"
    for i, (_, kind, _) in enumerate(LIMITERS):
        source += f"char object_{i}[sizeof({kind})];\nchar decision_{i}[sizeof({kind}::decision)];\n"
    found = symbols(compiler, nm, source, scratch)
    return [(found[f"object_{i}"][1], found[f"decision_{i}"][1]) for i in range(len(LIMITERS))]


def code(compiler, nm, kind, header, scratch):
    """Bytes of one attempt that reads the clock, of one with the time given, and of what they call out of line, once."""
    cost = "weir::llm::tokens{.input = 100, .output = 100}" if "quota" in kind else "std::uint64_t{7}, 1" if "keyed" in kind else "1"
    source = (f"#include <weir/{header}>\n#include <weir/token_bucket.hpp>\n"
              f"using limiter = {kind};\n"
              f'extern "C" bool own(limiter& l) {{ return l.try_acquire({cost}).granted(); }}\n'
              f'extern "C" bool given(limiter& l, limiter::time_point t) {{ return l.try_acquire({cost}, t).granted(); }}\n')
    found = symbols(compiler, nm, source, scratch)
    sizes = {"own": 0, "given": 0, "shared": 0}
    for name, (where, size) in found.items():
        if where.lower() not in "tw":
            continue
        stem = re.sub(r"\.cold(\.\d+)?$", "", name)
        sizes[stem if stem in sizes else "shared"] += size
    return sizes


def compile_cost(compiler, source, optimise, runs, scratch):
    """(median processor seconds, peak megabytes) of one compilation."""
    path, out = scratch / "use.cpp", scratch / "use.o"
    path.write_text(source)
    seconds, peak = [], 0
    for _ in range(runs):
        process = subprocess.Popen([compiler, "-std=c++20", optimise, f"-I{ROOT / 'include'}", "-c", str(path), "-o", str(out)],
                                   stderr=subprocess.PIPE, text=True)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"size: {compiler} failed:\n{errors}")
        seconds.append(usage.ru_utime + usage.ru_stime)
        peak = max(peak, usage.ru_maxrss // 1024)
    return statistics.median(seconds), peak


def uses(compilers, runs, scratch):
    rows = ["| | " + " | ".join(f"{title}: -O0 | -O2 | memory" for title, _, _ in compilers) + " |",
            "|---|" + "---|---|---|" * len(compilers)]
    floor = {}
    for name, source in USES:
        cells = []
        for title, compiler, _ in compilers:
            for optimise in ("-O0", "-O2"):
                seconds, peak = compile_cost(compiler, source, optimise, runs, scratch)
                ratio = seconds / floor.setdefault((title, optimise), seconds)
                cells.append(f"{seconds:.2f} s ({ratio:.1f})")
            cells.append(f"{peak} MB")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "docs" / "size.md"))
    parser.add_argument("--runs", type=int, default=3, help="compilations for each time that is measured; 0: no times")
    options = parser.parse_args()

    present = [c for c in COMPILERS if shutil.which(c[1]) and shutil.which(c[2])]
    absent = [c[1] for c in COMPILERS if c not in present]
    if not present:
        sys.exit("size: none of the compilers is installed")
    versions = {c: subprocess.run([c, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
                for _, c, _ in present}

    text = ["# What weir takes", "", "Read this page if memory, code size or compile time matter to you. After it you know what each limiter takes.", "", "Written by `bench/size.py`: run it again rather than edit this. Compiled with "
            "`-std=c++20 -O2 -DNDEBUG` by:", ""]
    text += [f"- {title}: {versions[c]}" for title, c, _ in present]
    if absent:
        text.append(f"- not installed, and left out: {', '.join(absent)}")

    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        text += ["", "## Objects", "", "Bytes of a limiter (whole cache lines, so that it shares none), of what an attempt "
                 "returns, and what is allocated at construction. `layout_test` checks the sizes of objects.", ""]
        sizes = {title: objects(c, nm, scratch) for title, c, nm in present}
        text += ["| | " + " | ".join(f"{title}: object | decision" for title, _, _ in present) + " | allocates |",
                 "|---|" + "---|---|" * len(present) + "---|"]
        for i, (name, _, _) in enumerate(LIMITERS):
            cells = " | ".join(f"{sizes[title][i][0]} | {sizes[title][i][1]}" for title, _, _ in present)
            text.append(f"| {name} | {cells} | {ALLOCATES.get(name, 'nothing')} |")

        text += ["", "## Code", "", "Bytes of a function that makes one attempt and returns whether it was granted: with the "
                 "limiter's own clock / with the time given; and in brackets what the two share out of line (advancing a "
                 "window, a changed configuration), once in a program.", ""]
        text += ["| | " + " | ".join(title for title, _, _ in present) + " |", "|---|" + "---|" * len(present)]
        for name, kind, header in LIMITERS:
            cells = []
            for _, compiler, nm in present:
                s = code(compiler, nm, kind, header, scratch)
                cells.append(f"{s['own']} / {s['given']} ({s['shared']})")
            text.append(f"| {name} | " + " | ".join(cells) + " |")

        if options.runs > 0:
            # The compilers of this machine: another target's cost the same.
            native = [c for c in present if "aarch64" not in c[0]]
            text += ["", "## Compile time of a first use", "", f"Processor time (median of {options.runs}) of a file that makes or "
                     "uses one object, in brackets its ratio to token_bucket's; and the most memory, at -O2. Includes are in it.", "",
                     *uses(native, options.runs, scratch)]

    if options.runs > 0:
        cost = subprocess.run([sys.executable, str(ROOT / "bench" / "include_cost.py"), "--runs", str(options.runs)],
                              capture_output=True, text=True)
        if cost.returncode:
            sys.exit(cost.stderr)
        text += ["", "## Includes", "", f"`bench/include_cost.py` on {platform.machine()}: the compiler's own time for a file "
                 "that includes one header, and its ratio to the two that every limiter needs.", "", "```",
                 cost.stdout.rstrip(), "```"]

    page = "\n".join(text) + "\n"
    if options.out == "-":
        sys.stdout.write(page)
    else:
        pathlib.Path(options.out).write_text(page)


if __name__ == "__main__":
    main()
