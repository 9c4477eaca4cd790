#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Changes one thing at a time in a copy of include/weir and asks whether the tests notice.

    tests/mutation/mutate.py --share 0.035 --each 4  the full run: a part of all mutants, drawn with a fixed seed, 4 of each header and operator
    tests/mutation/mutate.py --share 0.1 --header backoff.hpp    of one header, by its name or path (may be repeated)
    tests/mutation/mutate.py --id ID                 one mutant (may be repeated)
    tests/mutation/mutate.py --sample 12             the first 12 that count
    tests/mutation/mutate.py --list                  the mutants and their ids, without a trial
    tests/mutation/mutate.py --share 0.035 --each 4 --keep DIR --json FILE [--again]    continues an earlier run [judges its survivors again]

    tests/mutation/mutate.py --check                 reports the entries of survivors.md that name no mutant, with the nearest mutants
    tests/mutation/mutate.py --rekey [--rename OLD=NEW ...] [--similar 0.8]    gives such entries new ids, and prints each

A mutant counts when the header compiles by itself and the object code of some test differs. It is found when a test that
includes the header fails where the unchanged header passes, does not end, or does not compile for a reason that the test states
(static_assert, a constant expression). Only the checker in tests/model judges memory orders: on one machine no other test can
see them. Code that does not run (requires, concepts, static_assert, the preprocessor) is not changed: compile_fail tests that.

mutants.py says what is changed and how an id is made: a reformat, a move to another header and a rename elsewhere change no id. After a
change of the statements or functions in survivors.md, run --check, then --rekey.

Fails when a mutant survives that survivors.md does not explain, or less than --at-least percent are found. Mutants that are listed
there as equivalent are reported and count neither way.
"""
import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

sys.dont_write_bytecode = True
import survivors  # noqa: E402
from mutants import headers_in, mutants_in  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
INCLUDE = os.path.join(ROOT, "include")
SURVIVORS = os.path.join(HERE, "survivors.md")

# Tests that are asked first, where the header's name does not say which. Headers and tests are named without folders, tests without `llm_`.
NEAREST = {
    "cooldown": ["fallback_chain", "account_pool"],
    "account_throttle": ["session"],
    "letter": ["advice_text"], "phrases": ["advice_text"],
    "decision_head": ["ramp", "ack_window"],
    "dialect": ["verdict"],
    "body_member": ["verdict_cases", "verdict"],
    "error_body": ["verdict", "verdict_cases"],
    "error_rule": ["verdict"],
    "error_text": ["verdict_cases", "verdict"],
    "error_words": ["verdict_cases"],
    "judge": ["verdict", "verdict_cases"],
    "message_text": ["hints", "verdict_cases"],
    "moment_text": ["verdict", "verdict_cases"],
    "gcra": ["gcra", "token_bucket", "leaky_bucket_queue", "token_bucket_property"],
    "gcra_state": ["token_bucket", "token_bucket_refund", "token_bucket_change", "leaky_bucket_queue", "token_bucket_property", "leaky_bucket_queue_property",
                  "gcra_model", "gcra_refund_model", "gcra_change_model", "gcra_orders_model"],
    "gcra_attempt": ["token_bucket_change", "token_bucket_refund", "leaky_bucket_queue", "gcra_refund_model"],
    "ramp": ["ramp", "ramp_simulation"],
    "ramp_state": ["ramp", "ramp_simulation", "ramp_model"],
    "refund_epochs": ["gcra_refund_model", "gcra_orders_model", "token_bucket_refund"],
    "headers": ["hints", "verdict"],
    "json_walk": ["verdict"],
    "number_text": ["advice"],
    "processor_counter": ["upper_bound_clock", "tsc_clock", "upper_bound_clock_model"],
    "quantile": ["estimate"],
    "server_queue": ["ramp"],
    "session": ["session", "session_classes"],
    "session_call": ["session", "session_classes"],
    "session_counters": ["session"],
    "session_drive": ["session", "async_run", "session_classes"],
    "session_options": ["session"],
    "session_reply": ["session"],
    "text": ["hints", "time_text", "verdict"],
    "wide": ["wide", "gcra"],
}
# Programs that need more, or take minutes.
NOT_JUDGES = re.compile(r"(^|/)((qwen_\w+|quota_judge|\w+_simulation|dashscope_\w+|stress)_test\.cpp$|(noexcept|qwen|dashscope|stress|examples)/)")


# ---------------------------------------------------------------- the judges


def files_of(path, cache):
    """The files of this repository that a file includes, directly or not, and itself."""
    path = os.path.realpath(path)
    if path not in cache:
        cache[path] = {path}
        with open(path, encoding="utf-8") as f:
            for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', f.read(), flags=re.M):
                folders = [INCLUDE] if kind == "<" else [os.path.dirname(path), os.path.join(ROOT, "tests"), ROOT, INCLUDE]
                for folder in folders:
                    other = os.path.realpath(os.path.join(folder, name))
                    if os.path.isfile(other):
                        cache[path] |= files_of(other, cache)
                        break
    return cache[path]


def linked_with(files, cache):
    """The sources that a test needs in addition to itself: x.cpp of each x.hpp that it or they include, outside of include/."""
    sources, todo = set(), set(files)
    while todo:
        path = todo.pop()
        source = os.path.splitext(path)[0] + ".cpp"
        if path.endswith(".hpp") and not path.startswith(INCLUDE + os.sep) and os.path.isfile(source) and source not in sources:
            sources.add(source)
            todo |= files_of(source, cache)
    return sorted(sources)


def digest_of(paths, more=()):
    h = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        with open(path, "rb") as f:
            h.update(f.read() + b"\0")
    return h.hexdigest()


class Judge:
    """One test program: built from the unchanged headers once, from a mutant's whenever asked."""

    def __init__(self, source, cache):
        self.source = source
        files = files_of(source, cache)
        self.includes = {os.path.relpath(p, os.path.join(INCLUDE, "weir")) for p in files if p.startswith(INCLUDE + os.sep)}
        self.linked_with = linked_with(files, cache)
        self.version = digest_of([*files, *self.linked_with], FLAGS)
        self.name = os.path.relpath(source, os.path.join(ROOT, "tests"))[:-len("_test.cpp")]
        self.model = "model" in self.name.split("/")
        self.lock = threading.Lock()
        self.digest = None
        self.reason = None
        self.took = {}  # the CPU seconds of each test with the unchanged headers
        self.program = None
        self.optimised = None


# The assertions of the standard library: undefined behaviour must not look as if it worked.
FLAGS = ["-std=c++20", "-w", "-Werror=return-type", "-D_GLIBCXX_ASSERTIONS", "-pthread", f'-DWEIR_TESTS="{ROOT}/tests"']
LEFT_OUT = ["*_slow.*", "*_slow/*", "*_long.*"]
LONG = 0.7  # seconds: tests that take longer run when no other test has noticed the mutant
STATED = re.compile(r"static assertion failed|non-constant condition|constant expression|constexpr")


class CutOff(Exception):
    """The time limit is reached."""


def used(pid, program):
    """The CPU time of a process, or None where it is about to use some or is still the launcher."""
    total = 0
    try:
        if os.readlink(f"/proc/{pid}/exe") != program:
            return None
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            if fields[0] in "RD":
                return None
            total += int(fields[11]) + int(fields[12])
    except OSError:
        return None
    return total


class Lane:
    """A folder with a copy of the headers, and what is built from it."""

    def __init__(self, work, options):
        self.options = options
        self.work = work
        self.include = os.path.join(work, "include")
        shutil.copytree(INCLUDE, self.include)

    def call(self, command, cpu, waits=True, **more):
        """(code, output). The code is None where it does not end: it uses more CPU seconds or, unless `waits`, does nothing for 10 s."""
        program = os.path.realpath(command[0])
        command = ["prlimit", f"--cpu={int(cpu) + 1}:{int(cpu) + 3}", "--core=0", *self.options.launcher, *command]
        idle = 0
        before = None
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                              errors="replace", start_new_session=True, **more) as p:
            while True:
                try:
                    out = p.communicate(timeout=1)[0]
                    break
                except subprocess.TimeoutExpired:
                    now = None if waits else used(p.pid, program)
                    idle = idle + 1 if now is not None and now == before else 0
                    before = now
                    late = time.monotonic() > self.options.deadline
                    if late or idle >= 10:
                        os.killpg(p.pid, signal.SIGKILL)
                        p.stdout.close()
                        if late:
                            raise CutOff
                        return None, ""
        return None if p.returncode in (-signal.SIGXCPU, -signal.SIGKILL) else p.returncode, out

    def flags(self, model, optimised=False):
        level = ["-O2", "-U_FORTIFY_SOURCE"] if model else ["-O1" if optimised else "-O0"]
        return [*FLAGS, *level, f"-I{self.include}", f"-I{ROOT}/tests", f"-I{ROOT}", f"-ffile-prefix-map={self.include}=include"]

    def pch(self, model, shared):
        folder = os.path.join(shared, ("model-" if model else "plain-") + digest_of([], FLAGS)[:8])
        if not os.path.exists(os.path.join(folder, "first.hpp.gch")):
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, "first.hpp"), "w", encoding="utf-8") as f:
                for name in ("gtest/gtest.h", "algorithm", "array", "atomic", "chrono", "condition_variable", "coroutine", "cstdint",
                             "functional", "map", "memory", "mutex", "numeric", "optional", "random", "stop_token", "string", "thread",
                             "tuple", "vector"):
                    f.write(f"#include <{name}>\n")
            code, out = self.call([self.options.compiler, *self.flags(model), "-x", "c++-header", os.path.join(folder, "first.hpp")], 300)
            if code != 0:
                sys.exit(f"the precompiled header does not compile:\n{out}")
        return ["-include", os.path.join(folder, "first.hpp")]

    def compile(self, judge, optimised=False):
        object_file = os.path.join(self.work, "test.o")
        first = [] if optimised else self.options.pch[judge.model]
        code, out = self.call([self.options.compiler, *self.flags(judge.model, optimised), *first, "-c", judge.source, "-o", object_file], 300)
        if code != 0:
            return None, out
        with open(object_file, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest(), out

    def link(self, judge, program):
        more = []
        for source in judge.linked_with:
            more.append(os.path.join(self.work, os.path.basename(source) + ".o"))
            if not os.path.exists(more[-1]):
                command = [self.options.compiler, "-std=c++20", "-w", f"-I{INCLUDE}", f"-I{ROOT}", "-c", source, "-o", more[-1]]
                if self.call(command, 300)[0] != 0:
                    sys.exit(f"does not compile: {shlex.join(command)}")
        command = [self.options.compiler, "-pthread", os.path.join(self.work, "test.o"), *more, "-lgtest", "-lgtest_main", "-o", program]
        code, out = self.call(command, 300)
        if code != 0:
            sys.exit(f"does not link:\n{out}")

    def run(self, judge, program, cpu, tests, mode="fail_fast"):
        return self.call([program, f"--gtest_{mode}", f"--gtest_filter={tests}"], cpu, waits=False, cwd=os.path.dirname(judge.source))

    def baseline(self, judge, shared):
        """Builds and runs the test with the unchanged headers, which this lane must hold."""
        with judge.lock:
            if judge.digest is not None or judge.reason is not None:
                return
            program = os.path.join(shared, judge.name.replace("/", "."))
            known = {}  # tests that took long in an earlier version: not run again to learn that
            if os.path.exists(program + ".json"):  # of an earlier run, in a folder that was kept
                with open(program + ".json", encoding="utf-8") as f:
                    kept = json.load(f)
                if kept["version"] == judge.version:
                    vars(judge).update(kept, program=program)
                    return
                known = {name: seconds for name, seconds in kept["took"].items() if seconds > LONG}
            digest, out = self.compile(judge)
            if digest is None:
                judge.reason = "does not compile with the unchanged headers: " + out[:2000]
                return
            self.link(judge, program)
            code, out = self.run(judge, program, 900, "-" + ":".join(LEFT_OUT + list(known)))
            if code != 0:
                judge.reason = "fails with the unchanged headers: " + out[-2000:]
                return
            judge.took = known | {
                name: int(ms) / 1000 for name, ms in re.findall(r"^\[       OK \] (\S+?)(?:, where .*)? \((\d+) ms\)$", out, flags=re.M)}
            judge.program = program
            judge.optimised = None
            with open(program + ".json", "w", encoding="utf-8") as f:
                json.dump({"version": judge.version, "digest": digest, "took": judge.took}, f)
            judge.digest = digest

    def noticed(self, j, program, long):
        """The name of the judge's test that fails, of the long ones or of the others; None where all pass."""
        tests = [name for name, seconds in j.took.items() if seconds > LONG]
        seconds = sum(s for s in j.took.values() if (s > LONG) == long)
        if not long:
            tests = "-" + ":".join(LEFT_OUT + tests)
        elif tests:
            tests = ":".join(tests)
        else:
            return None
        code, out = self.run(j, program, 5 + 6 * seconds, tests)
        if code == 0:
            return None
        if code is None:
            return f"{j.name}: does not end"
        failed = sorted(set(re.findall(r"^\[  FAILED  \] ([^\s,]+\.[^\s,]+)", out, flags=re.M)))
        if code < 0 or not failed:
            return f"{j.name}: ended by {code}"
        # The unchanged header must pass what the mutant failed.
        return failed[0] if self.run(j, j.program, 900, ":".join(failed))[0] == 0 else None

    def noticed_at_length(self, j, program):
        """The same for the suites that take minutes: they show that each memory order is needed. They stop at the first failure."""
        code, _ = self.run(j, program, 1200, ":".join(LEFT_OUT), "throw_on_failure")
        return None if code == 0 else f"{j.name}: its long cases"

    def trial(self, mutant, judges, shared):
        """(verdict, test): 'found', 'survived', 'same' (no object differs), 'invalid' (does not compile)."""
        path = os.path.join(self.include, "weir", mutant.header)
        with open(path, encoding="utf-8") as f:
            source = f.read()
        # Only the checker sees memory orders. It judges other mutants when no other test has noticed them.
        asked = [[j for j in judges[mutant.header] if not j.model], [j for j in judges[mutant.header] if j.model]]
        if mutant.operator == "order":
            asked = asked[1:]

        def put(text):
            with open(path, "w", encoding="utf-8") as f:
                f.write(source if text is None else source[:mutant.begin] + text + source[mutant.end:])

        def unchanged(work, *arguments):
            put(None)
            work(*arguments)
            put(text)

        differs = []
        text = mutant.texts[0]
        try:
            put(text)
            for mine in asked[:1] if self.options.quick else asked:
                programs = []
                for j in mine:
                    if j.digest is None and j.reason is None:
                        unchanged(self.baseline, j, shared)
                    if j.reason is not None:
                        continue
                    for text in [text] if differs else mutant.texts:
                        put(text)
                        digest, out = self.compile(j)
                        if digest is not None:
                            break
                    if digest is None:
                        errors = [e for e in out.splitlines() if "error:" in e] or [out[:300]]
                        alone = [self.options.compiler, *self.flags(False), *self.options.pch[False], "-fsyntax-only", "-x", "c++", path]
                        if STATED.search(errors[0]) and self.call(alone, 120)[0] == 0:
                            return "found", f"{j.name}: {errors[0].split('error:')[-1].strip()}"
                        return "invalid", "\n".join(errors[:2])
                    if digest == j.digest:
                        continue
                    program = os.path.join(self.work, f"test{len(programs)}")
                    programs.append((j, program))
                    differs.append(j)
                    self.link(j, program)
                    by = self.noticed(j, program, False)
                    if by:
                        return "found", by
                for j, program in [] if self.options.quick else programs:
                    by = self.noticed(j, program, True)
                    if by:
                        return "found", by
            for j, program in [] if self.options.quick or mutant.operator != "order" else programs:
                by = self.noticed_at_length(j, program)
                if by:
                    return "found", by
            # Where the optimiser makes the same code, nothing changed.
            for j in differs:
                with j.lock:
                    if j.optimised is None:
                        def remember():
                            j.optimised = self.compile(j, True)[0]
                        unchanged(remember)
                if self.compile(j, True)[0] != j.optimised:
                    return "survived", ""
            return "same", ""
        finally:
            put(None)


# ---------------------------------------------------------------- the whole


def test_files():
    return sorted(glob.glob(os.path.join(ROOT, "tests", "**", "*_test.cpp"), recursive=True))


def plain_name(path):
    """A test's or a header's name as in NEAREST."""
    return re.sub(r"(_test\.cpp|\.hpp)$", "", os.path.basename(path)).removeprefix("llm_")


def check_nearest():
    """How many names in NEAREST name nothing."""
    headers, tests = {plain_name(h) for h in headers_in(INCLUDE)}, {plain_name(t) for t in test_files()}
    bad = [f"no header {h}" for h in NEAREST if h not in headers]
    bad += [f"no test {t}" for t in sorted({t for ts in NEAREST.values() for t in ts}) if t not in tests]
    for b in bad:
        print(f"NEAREST: {b}")
    return len(bad)


def main():
    global ROOT, INCLUDE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--header", action="append", help="a header, by its name or by its path from include/weir; all without it")
    parser.add_argument("--operator", action="append", help="an operator's name; all without it")
    parser.add_argument("--id", action="append", help="a mutant's id, as --list prints it")
    parser.add_argument("--sample", type=int, default=0, help="stop when so many have counted")
    parser.add_argument("--share", type=float, default=1, help="draw this share of all mutants; the draw of one does not depend on the others")
    parser.add_argument("--each", type=int, default=0, help="and at least so many of each header and of each operator")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judges", type=int, default=0, help="use only so many tests, the nearest: quicker, and finds fewer mutants")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--tolerate", type=int, default=0, help="how many unexplained survivors are no failure")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that time, whatever runs")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--launcher", default=[], type=shlex.split, help="a command to put before every build and run")
    parser.add_argument("--json", help="a file to write each verdict to")
    parser.add_argument("--quick", action="store_true", help="leave out the single tests that take most of the time")
    parser.add_argument("--keep", help="a folder for what is built of the unchanged headers; with --json, to continue where an earlier run ended")
    parser.add_argument("--again", action="store_true", help="judge again the survivors of the run that is continued")
    parser.add_argument("--list", action="store_true", help="print the mutants")
    parser.add_argument("--check", action="store_true", help="report the entries of survivors.md that name no mutant")
    parser.add_argument("--rekey", action="store_true", help="give those entries the ids of similar mutants")
    parser.add_argument("--rename", nargs="+", action="extend", default=[], metavar="OLD=NEW", help="for --rekey: identifiers that were renamed")
    parser.add_argument("--similar", type=float, default=0.8, help="for --rekey: how similar a mutant must be, from 0 to 1")
    parser.add_argument("--root", default=ROOT, help="a tree with include/ and tests/ to use instead of this one")
    parser.add_argument("--survivors", default=SURVIVORS, help="a file to use instead of survivors.md")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.seconds

    def stop(*_):
        options.deadline = 0

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    ROOT = os.path.realpath(options.root)
    INCLUDE = os.path.join(ROOT, "include")
    every = mutants_in(INCLUDE)
    if options.rekey:
        if bad := [r for r in options.rename if not re.fullmatch(r"\w+=\w+", r)]:
            parser.error(f"not OLD=NEW: {bad[0]}")
        return 1 if survivors.rekey(options.survivors, every, dict(r.split("=") for r in options.rename), options.similar) else 0
    if options.check:
        return 1 if survivors.check(options.survivors, every) + check_nearest() else 0

    headers = headers_in(INCLUDE)
    chosen = set()
    for h in options.header or headers:
        named = [x for x in headers if f"/{x}".endswith("/" + h.removeprefix("include/").removeprefix("weir/"))]
        if not named:
            parser.error(f"no header {h}")
        chosen |= set(named)
    for i in options.id or []:
        if not any(m.id == i for m in every):
            parser.error(f"no mutant {i}")
    all_mutants = [m for m in every if m.header in chosen and (not options.operator or m.operator in options.operator) and
                   (not options.id or m.id in options.id)]

    cache = {}
    tests = [Judge(p, cache) for p in test_files()
             if not NOT_JUDGES.search(os.path.relpath(p, os.path.join(ROOT, "tests")))]
    judges = {}
    for h in headers:
        stem = plain_name(h)
        near = NEAREST.get(stem, [stem])

        def rank(j):
            name = plain_name(j.source)
            return (j.model, near.index(name) if name in near else 9, not name.startswith(stem), len(j.includes))

        judges[h] = sorted((j for j in tests if h in j.includes), key=rank)
        if options.judges:
            judges[h] = [j for model in (False, True) for j in [j for j in judges[h] if j.model == model][:options.judges]]
    unjudged = [m for m in all_mutants if m.operator == "order" and not any(j.model for j in judges[m.header])]
    all_mutants = [m for m in all_mutants if judges[m.header] and m not in unjudged]

    # Drawn by their ids: a change of one header leaves the draw of the others as it was.
    def draw(m):
        return int.from_bytes(hashlib.sha256(f"{options.seed}|{m.id}".encode()).digest()[:8], "big") / 2**64

    all_mutants.sort(key=draw)
    drawn, of_each = [], Counter()
    for m in all_mutants:
        if draw(m) < options.share or of_each[m.header] < options.each or of_each[m.operator] < options.each:
            drawn.append(m)
            of_each.update([m.header, m.operator])
    all_mutants = drawn
    if options.list:
        for m in all_mutants:
            print(f"{m.header}:{m.line}: {m.id}: {m.before}  =>  {m.after}")
        print(f"{len(all_mutants)} mutants: {dict(Counter(m.operator for m in all_mutants))}")
        return 0

    wanted = options.sample or len(all_mutants)
    _, entries = survivors.read(options.survivors)
    equivalent = {e.id for e in entries if e.equivalent}
    explained = {e.id for e in entries if not e.equivalent}

    work_folder = tempfile.mkdtemp(prefix="weir-mutation-")
    shared = os.path.abspath(options.keep) if options.keep else work_folder
    os.makedirs(shared, exist_ok=True)
    begin = time.monotonic()
    versions = {h: digest_of([os.path.join(INCLUDE, "weir", h)]) for h in headers}
    results, done = [], set()
    if options.keep and options.json and os.path.exists(options.json):
        with open(options.json, encoding="utf-8") as f:
            results = json.load(f)
        mine = {m.id for m in all_mutants}
        results = [r for r in results if r["id"] in mine and r["version"] == versions.get(r["header"]) and
                   not (options.again and r["verdict"] == "survived" and r["id"] not in equivalent | explained)]
        done = {r["id"] for r in results}
        all_mutants = [m for m in all_mutants if m.id not in done]
    cut_off = 0
    lock = threading.Lock()
    try:
        lanes = [Lane(os.path.join(work_folder, str(i)), options) for i in range(options.lanes)]
        try:
            options.pch = {model: lanes[0].pch(model, shared) for model in {j.model for js in judges.values() for j in js}}
        except CutOff:
            lanes = []
        queue = iter(all_mutants)

        def verdict_of(r):
            return "equivalent" if r["verdict"] == "survived" and r["id"] in equivalent else r["verdict"]

        def work(lane):
            nonlocal cut_off
            while True:
                with lock:
                    counted = sum(verdict_of(r) in ("found", "survived") for r in results)
                    m = next(queue, None) if counted < wanted and time.monotonic() < options.deadline else None
                if m is None:
                    return
                try:
                    verdict, by = lane.trial(m, judges, shared)
                except CutOff:
                    with lock:
                        cut_off += 1
                    return
                with lock:
                    results.append({"id": m.id, "header": m.header, "line": m.line, "before": m.before, "after": m.after,
                                    "version": versions[m.header], "verdict": verdict, "by": by})
                    if verdict == "survived":
                        known = " (equivalent)" if m.id in equivalent else " (explained)" if m.id in explained else ""
                        print(f"survived{known}: {m.header}:{m.line}\n{survivors.lines_of(m)}", flush=True)
                    if options.json:
                        with open(options.json, "w", encoding="utf-8") as f:
                            json.dump(results, f, indent=1)

        with concurrent.futures.ThreadPoolExecutor(max(1, len(lanes))) as pool:
            for f in [pool.submit(work, lane) for lane in lanes]:
                f.result()
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)

    verdicts = Counter(verdict_of(r) for r in results)
    counted = verdicts["found"] + verdicts["survived"]
    for name in sorted({r["header"] for r in results}):
        mine = Counter(verdict_of(r) for r in results if r["header"] == name)
        print(f"{name}: {mine['found']} of {mine['found'] + mine['survived']} found")
    for j in tests:
        if j.reason:
            print(f"not asked: {j.name} {j.reason}")
    if unjudged:
        print(f"{len(unjudged)} memory orders in {sorted({m.header for m in unjudged})} have no test in tests/model to judge them")
    left = len(all_mutants) + len(done) - len(results)
    if cut_off or time.monotonic() > options.deadline:
        print(f"cut off, {cut_off} during a trial; {left} not judged")
    percent = 100 * verdicts["found"] / counted if counted else 0
    unknown = [r for r in results if verdict_of(r) == "survived" and r["id"] not in explained]
    print(f"{verdicts['found']} of {counted} mutants found ({percent:.1f}%), {verdicts['survived']} survived, {len(unknown)} of them unexplained; "
          f"{verdicts['equivalent']} are equivalent, {verdicts['invalid']} did not compile, {verdicts['same']} changed no object code; "
          f"seed {options.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if not counted or len(unknown) > options.tolerate or percent < options.at_least or any(j.reason for j in tests) else 0


if __name__ == "__main__":
    sys.exit(main())
