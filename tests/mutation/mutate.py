#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Changes one thing at a time in a copy of include/weir and asks whether the tests notice.

    tests/mutation/mutate.py --share 0.035 --each 4  a part of all mutants, drawn with a fixed seed, 4 of each header and operator: the full run
    tests/mutation/mutate.py --share 0.1 --header backoff.hpp    those of one header (may be repeated)
    tests/mutation/mutate.py --sample 12             the first 12 of them that count
    tests/mutation/mutate.py --list                  what could be changed, without a trial
    tests/mutation/mutate.py --share 0.035 --each 4 --keep DIR --json FILE [--again]    goes on where a run ended [asks for the survivors anew]

A mutant counts when the header compiles by itself and the object code of some test differs. It is found when a test that
includes the header fails where the unchanged header passes, does not end, or does not compile for a reason that the test states
(static_assert, a constant expression). Memory orders are for the checker in tests/model alone: on one machine no other test can
see them. Code that is not run (requires, concepts, static_assert, the preprocessor) is left as it is: compile_fail tests that.

Fails when a mutant survives that tests/mutation/survivors.md does not explain, or less than --at-least percent are found. Mutants that
are listed there as equivalent are none: they are reported, and count neither way.
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
from collections import Counter, namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = os.path.join(ROOT, "include")
SURVIVORS = os.path.join(ROOT, "tests", "mutation", "survivors.md")

# Tests asked first, where the header's own name does not say which.
NEAREST = {
    "detail/gcra_cell.hpp": ["token_bucket", "leaky_bucket_queue", "token_bucket_property", "leaky_bucket_queue_property",
                             "gcra_model", "gcra_refund_model", "gcra_change_model", "gcra_orders_model"],
    "detail/json_walk.hpp": ["llm_verdict"],
    "detail/number_text.hpp": ["llm_advice"],
    "detail/processor_counter.hpp": ["bounded_clock", "tsc_clock", "bounded_clock_model"],
    "detail/text.hpp": ["llm_hints", "llm_time_text", "llm_verdict"],
    "detail/wide.hpp": ["wide", "gcra"],
    "gcra.hpp": ["gcra", "token_bucket", "leaky_bucket_queue", "token_bucket_property"],
    "llm/absence.hpp": ["llm_fallback_chain", "llm_account_pool"],
    "llm/advice_text.hpp": ["llm_advice"],
    "llm/dialect.hpp": ["llm_verdict"],
    "llm/error_body.hpp": ["llm_verdict"],
    "llm/headers.hpp": ["llm_hints", "llm_verdict"],
    "llm/quantile.hpp": ["llm_estimate"],
    "llm/server_queue.hpp": ["llm_ramp"],
    "llm/account_lane.hpp": ["llm_session"],
    "llm/session.hpp": ["llm_session", "llm_session_shares"],
    "llm/session_call.hpp": ["llm_session", "llm_session_shares"],
    "llm/session_counters.hpp": ["llm_session"],
    "llm/session_drive.hpp": ["llm_session", "llm_async_run", "llm_session_shares"],
    "llm/session_options.hpp": ["llm_session"],
    "llm/session_reply.hpp": ["llm_session"],
    "detail/decision_head.hpp": ["llm_ramp", "llm_arrival_window"],
}
# What a test is linked with, beside the library and GoogleTest: not built from a mutant.
LINKED_WITH = {"llm_advice": ["examples/qwen/ideal.cpp", "examples/qwen/quota_judge.cpp"],
               "llm_adaptive": ["examples/qwen/quota_judge.cpp"], "llm_margin": ["examples/qwen/quota_judge.cpp"]}
# Programs that need more, or take minutes.
NOT_JUDGES = re.compile(r"/(qwen_\w+|quota_judge|\w+_simulation|dashscope_\w+|stress)_test\.cpp$")

Mutant = namedtuple("Mutant", "header operator begin end texts line")


# ---------------------------------------------------------------- the operators


def masked(source):
    """The source with all that is not to be changed blanked out; every character keeps its place."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'', blank, source, flags=re.S)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)
    text = re.sub(r"\[\[.*?\]\]", blank, text)
    text = re.sub(r"\boperator\s*(?:<=>|[-+*/%=!<>&|^~]+|\(\)|\[\])", blank, text)
    out = list(text)

    def erase(begin, end):
        for k in range(begin, end):
            if out[k] != "\n":
                out[k] = " "

    for m in re.finditer(r"\b(static_assert|noexcept|alignas|decltype|sizeof)\s*\(", text):
        erase(m.start() if m.group(1) == "static_assert" else m.end(), closing(text, m.end() - 1))
    for m in re.finditer(r"\btemplate\s*<", text):
        erase(m.start(), closing_angle(text, m.end() - 1))
    for m in re.finditer(r"\bconcept\b[^;]*?(\{.*?\n\}|;)", text, flags=re.S):
        erase(m.start(), m.end())
    # A requires clause ends where its declaration goes on: on the next line, in this layout.
    for m in re.finditer(r"^[ \t]*requires\b[^\n]*(?:\n[ \t]+(?:&&|\|\|)[^\n]*)*|\brequires\s*[({][^\n]*", text, flags=re.M):
        if m.group(0).rstrip().endswith("{") or "if constexpr" in text[text.rfind("\n", 0, m.start()) + 1:m.start()]:
            continue
        erase(m.start(), m.end())
    return "".join(out)


def closing(text, opening):
    depth = 0
    for k in range(opening, len(text)):
        depth += (text[k] in "([{") - (text[k] in ")]}")
        if depth == 0:
            return k + 1
    return len(text)


def closing_angle(text, opening):
    depth = 0
    for k in range(opening, len(text)):
        depth += (text[k] == "<") - (text[k] == ">" and text[k - 1] != "-")
        if depth == 0:
            return k + 1
    return len(text)


CONTROL = re.compile(r"^\s*(?:\}\s*)?(?:else\s+)?(?:if|for|while|switch|catch|else|do|try)\b")


def bodies_and_statements(text):
    """Where functions begin, and the statements in them: [(position after the brace)], [(begin, end)]."""
    bodies, statements = [], []
    stack = [["scope", 0, 0]]  # kind, begin of the statement at hand, parentheses open at the brace
    parens = 0
    for i, c in enumerate(text):
        if c in "([":
            parens += 1
        elif c in ")]":
            parens -= 1
        elif c == "{":
            top = stack[-1]
            # Inside parentheses (a lambda that is an argument), what is before says which brace it is.
            head = text[top[1]:i]
            last = head.rstrip()[-1:]
            if parens == top[2] and re.search(r"\b(namespace|class|struct|enum|union)\b[^()=]*$", head):
                kind = "scope"
            elif last in (")", "]", "}") or re.search(r"(\b(const|noexcept|mutable|else|do|try)|->\s*[\w:<>,&\s*]+)\s*$", head):
                kind = "code"
            elif last == "" and top[0] == "code":
                kind = "code"
            else:
                kind = "init"
            if kind == "code" and not CONTROL.match(head) and last != "" and text[i + 1:i + 2] != "}":
                bodies.append(i + 1)
            stack.append([kind, i + 1, parens])
        elif c == "}":
            kind = stack.pop()[0]
            if kind == "code" and parens == stack[-1][2]:
                tail = text[i + 1:i + 2]
                if tail not in (";", ",", ")", "("):
                    stack[-1][1] = i + 1
        elif c == ";" and parens == stack[-1][2]:
            if stack[-1][0] == "code":
                statements.append((stack[-1][1], i + 1))
            stack[-1][1] = i + 1
    return bodies, statements


SWAPS = [
    ("compare", r"(?<= )<=(?= )", "<"), ("compare", r"(?<= )<(?= )", "<="),
    ("compare", r"(?<= )>=(?= )", ">"), ("compare", r"(?<= )>(?= )", ">="),
    ("equal", r"(?<= )==(?= )", "!="), ("equal", r"(?<= )!=(?= )", "=="),
    ("arithmetic", r"(?<= )\+(?= )", "-"), ("arithmetic", r"(?<= )-(?= )", "+"),
    ("arithmetic", r"(?<= )\*(?= )", "/"), ("arithmetic", r"(?<= )/(?= )", "*"), ("arithmetic", r"(?<= )%(?= )", "/"),
    ("assign", r"(?<= )\+=(?= )", "-="), ("assign", r"(?<= )-=(?= )", "+="),
    ("step", r"\+\+", "--"), ("step", r"(?<!-)--(?!-)", "++"),
    ("bits", r"(?<= )&(?= )", "|"), ("bits", r"(?<= )\|(?= )", "&"),
    ("bits", r"(?<= )<<(?= )", ">>"), ("bits", r"(?<= )>>(?= )", "<<"), ("bits", r"~(?=\w|\()", ""),
    ("logic", r"(?<= )&&(?= )", "||"), ("logic", r"(?<= )\|\|(?= )", "&&"),
    ("negation", r"(?<![\w)\]])!(?=[\w(])", ""),
    ("truth", r"\btrue\b", "false"), ("truth", r"\bfalse\b", "true"),
    ("bound", r"(?<=std::)min(?=[(<])", "max"), ("bound", r"(?<=std::)max(?=[(<])", "min"),
    ("bound", r"\bsaturating_add\b(?=\()", "saturating_sub"), ("bound", r"\bsaturating_sub\b(?=\()", "saturating_add"),
    ("bound", r"(?<=\.)floor\b", "ceil"), ("bound", r"(?<=\.)ceil\b", "floor"),
    ("bound", r"\bmul_div_floor\b", "mul_div_ceil"), ("bound", r"\bmul_div_ceil\b", "mul_div_floor"),
    ("bound", r"(?<=::)min(?=\(\))", "max"), ("bound", r"(?<=::)max(?=\(\))", "min"),
]
ORDERS = [("order", r"memory_order_acquire\b", "memory_order_relaxed"), ("order", r"memory_order_release\b", "memory_order_relaxed"),
          ("order", r"memory_order_acq_rel\b", "memory_order_acquire"), ("order", r"memory_order_acq_rel\b", "memory_order_release")]
NO_STATEMENT = re.compile(r"^(using|typedef|static_assert|friend|template|return|static|struct|class|enum|goto)\b")
LABEL = re.compile(r"^\s*(?:case\b[^:]+|default|public|private|protected)\s*:(?!:)")


def mutants_of(header, source):
    text = masked(source)
    bodies, statements = bodies_and_statements(text)
    found = []

    def add(operator, begin, end, *texts):
        found.append(Mutant(header, operator, begin, end, texts, source.count("\n", 0, begin) + 1))

    for operator, pattern, replacement in SWAPS + ORDERS:
        for m in re.finditer(pattern, text):
            add(operator, m.start(), m.end(), replacement)
    for m in re.finditer(r"(?<![\w.'<])(\d[\d']*|0x[\da-fA-F']+)([uUlL]*)\b(?![.'>])", text):
        value = int(m.group(1).replace("'", ""), 0)
        add("constant", m.start(), m.end(), f"{value + 1}{m.group(2)}")
        if value > 0:
            add("constant", m.start(), m.end(), f"{value - 1}{m.group(2)}")
    for m in re.finditer(r"\bif \(", text):
        end = closing(text, m.end() - 1)
        add("condition", m.end(), end - 1, "true")
        add("condition", m.end(), end - 1, "false")
    for begin, end in statements:
        label = LABEL.match(text[begin:end])
        begin += label.end() if label else 0
        begin += len(text[begin:end]) - len(text[begin:end].lstrip())
        if begin < end - 1 and not NO_STATEMENT.match(text[begin:end]):
            add("delete", begin, end, "{}" if text[begin:end].startswith("else") is False else "else {}")
    for at in bodies:
        if text[at:closing(text, at - 1) - 1].strip():
            add("early return", at, at, " return {};", " return;")
    # A change that yields the same text as another is none of its own.
    seen, unique = set(), []
    for m in found:
        key = (m.begin, m.end, m.texts) if m.begin != m.end else (m.begin, m.texts)
        if key not in seen:
            seen.add(key)
            unique.append(m)
    return unique


# ---------------------------------------------------------------- the judges


def files_of(path, cache):
    """The files of this repository that a file includes, directly or not, and itself."""
    path = os.path.realpath(path)
    if path not in cache:
        cache[path] = {path}
        with open(path, encoding="utf-8") as f:
            for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', f.read(), flags=re.M):
                folders = [INCLUDE] if kind == "<" else [os.path.dirname(path), os.path.join(ROOT, "tests"), INCLUDE]
                for folder in folders:
                    other = os.path.realpath(os.path.join(folder, name))
                    if os.path.isfile(other):
                        cache[path] |= files_of(other, cache)
                        break
    return cache[path]


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
        self.version = digest_of(files, FLAGS)
        self.name = os.path.relpath(source, os.path.join(ROOT, "tests"))[:-len("_test.cpp")]
        self.model = self.name.startswith("model/")
        self.lock = threading.Lock()
        self.digest = None
        self.reason = None
        self.took = {}  # the CPU seconds of each test with the unchanged headers
        self.program = None
        self.optimised = None


# The library's assertions: what is undefined must not look as if it worked.
FLAGS = ["-std=c++20", "-w", "-Werror=return-type", "-D_GLIBCXX_ASSERTIONS", "-pthread"]
LEFT_OUT = ["*_slow.*", "*_slow/*", "*_long.*"]
LONG = 0.7  # seconds: tests that take longer are asked when no other has noticed anything
STATED = re.compile(r"static assertion failed|non-constant condition|constant expression|constexpr")


class CutOff(Exception):
    """The time that was given is over."""


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
        """(code, output); None for one that does not end: more CPU seconds than that, or, unless it waits for others, nothing done for 10 s."""
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
        return [*FLAGS, *level, f"-I{self.include}", f"-I{ROOT}/tests", f"-ffile-prefix-map={self.include}=include"]

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
        for source in LINKED_WITH.get(judge.name, []):
            more.append(os.path.join(self.work, os.path.basename(source) + ".o"))
            if not os.path.exists(more[-1]):
                command = [self.options.compiler, "-std=c++20", "-w", f"-I{INCLUDE}", "-c", os.path.join(ROOT, source), "-o", more[-1]]
                if self.call(command, 300)[0] != 0:
                    sys.exit(f"does not compile: {shlex.join(command)}")
        command = [self.options.compiler, "-pthread", os.path.join(self.work, "test.o"), *more, "-lgtest", "-lgtest_main", "-o", program]
        code, out = self.call(command, 300)
        if code != 0:
            sys.exit(f"does not link:\n{out}")

    def run(self, judge, program, cpu, tests, mode="fail_fast"):
        return self.call([program, f"--gtest_{mode}", f"--gtest_filter={tests}"], cpu, waits=False, cwd=os.path.dirname(judge.source))

    def baseline(self, judge, shared):
        """Builds and runs the test with the unchanged headers, which must be what this lane holds."""
        with judge.lock:
            if judge.digest is not None or judge.reason is not None:
                return
            program = os.path.join(shared, judge.name.replace("/", "."))
            known = {}  # what took long in an earlier version need not be run to know that
            if os.path.exists(program + ".json"):  # of a run before, in a folder that was kept
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
        """By which of the judge's tests, the long or the others, or None."""
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
        """By the suites that take minutes, which say of every order that it is needed: until the first failure, since what they go on to is not asked."""
        code, _ = self.run(j, program, 1200, ":".join(LEFT_OUT), "throw_on_failure")
        return None if code == 0 else f"{j.name}: its long cases"

    def trial(self, mutant, judges, shared):
        """(verdict, by whom): 'found', 'survived', 'same' (no object differs), 'invalid' (does not compile)."""
        path = os.path.join(self.include, "weir", mutant.header)
        with open(path, encoding="utf-8") as f:
            source = f.read()
        # The checker alone sees memory orders. It is asked about all else when no other test has noticed anything.
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
                    who = self.noticed(j, program, False)
                    if who:
                        return "found", who
                for j, program in [] if self.options.quick else programs:
                    who = self.noticed(j, program, True)
                    if who:
                        return "found", who
            for j, program in [] if self.options.quick or mutant.operator != "order" else programs:
                who = self.noticed_at_length(j, program)
                if who:
                    return "found", who
            # What the optimizer sees to be the same is the same.
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


def describe(mutant, source, text):
    """The changed line before and after, which survives a change of line numbers."""
    begin = source.rfind("\n", 0, mutant.begin) + 1
    end = source.find("\n", mutant.end)
    squeeze = lambda s: re.sub(r"\s+", " ", re.sub(r"\s*//.*", "", s)).strip()
    return squeeze(source[begin:end]), squeeze(source[begin:mutant.begin] + text + source[mutant.end:end])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--header", action="append", help="a header under include/weir; all without it")
    parser.add_argument("--operator", action="append", help="an operator's name; all without it")
    parser.add_argument("--sample", type=int, default=0, help="stop when so many have counted")
    parser.add_argument("--share", type=float, default=1, help="draw from that share of all mutants, the same ones for each header alone")
    parser.add_argument("--each", type=int, default=0, help="and of each header and of each operator at least so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judges", type=int, default=0, help="ask only so many tests, the nearest: finds no more, and sooner")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--at-least", type=float, default=0, metavar="PERCENT")
    parser.add_argument("--tolerate", type=int, default=0, help="how many unexplained survivors are no failure")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then, whatever runs")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--launcher", default=[], type=shlex.split, help="a command to put before every build and run")
    parser.add_argument("--json", help="a file to write each verdict to")
    parser.add_argument("--quick", action="store_true", help="leave out the single tests that take most of the time")
    parser.add_argument("--keep", help="a folder for what is built of the unchanged headers, to go on, by --json, where a run of the same sources ended")
    parser.add_argument("--again", action="store_true", help="judge those anew that survived in the run that is gone on with")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.seconds

    def stop(*_):
        options.deadline = 0

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    headers = sorted(os.path.relpath(p, os.path.join(INCLUDE, "weir"))
                     for p in glob.glob(os.path.join(INCLUDE, "weir", "**", "*.hpp"), recursive=True))
    for h in options.header or []:
        if h not in headers:
            parser.error(f"no header {h}")
    sources, all_mutants = {}, []
    for h in headers:
        with open(os.path.join(INCLUDE, "weir", h), encoding="utf-8") as f:
            sources[h] = f.read()
        if not options.header or h in options.header:
            all_mutants += [m for m in mutants_of(h, sources[h]) if not options.operator or m.operator in options.operator]

    cache = {}
    tests = [Judge(p, cache) for p in sorted(glob.glob(os.path.join(ROOT, "tests", "**", "*_test.cpp"), recursive=True))
             if not NOT_JUDGES.search(p) and "/noexcept/" not in p]
    judges = {}
    for h in headers:
        stem = os.path.basename(h)[:-4]
        near = NEAREST.get(h, [stem, "llm_" + stem])

        def rank(j):
            name = os.path.basename(j.name)
            return (j.model, near.index(name) if name in near else 9, not name.startswith((stem, "llm_" + stem)), len(j.includes))

        judges[h] = sorted((j for j in tests if h in j.includes), key=rank)
        if options.judges:
            judges[h] = [j for model in (False, True) for j in [j for j in judges[h] if j.model == model][:options.judges]]
    unjudged = [m for m in all_mutants if m.operator == "order" and not any(j.model for j in judges[m.header])]
    all_mutants = [m for m in all_mutants if m not in set(unjudged) and judges[m.header]]

    # Drawn by what they are: a change of one header leaves the draw of the others as it was.
    def draw(m):
        what = "|".join([str(options.seed), m.header, m.operator, str(m.begin - sources[m.header].rfind("\n", 0, m.begin)),
                         *describe(m, sources[m.header], m.texts[0])])
        return int.from_bytes(hashlib.sha256(what.encode()).digest()[:8], "big") / 2**64

    all_mutants.sort(key=draw)
    drawn, of_each = [], Counter()
    for m in all_mutants:
        if draw(m) < options.share or of_each[m.header] < options.each or of_each[m.operator] < options.each:
            drawn.append(m)
            of_each.update([m.header, m.operator])
    all_mutants = drawn
    if options.list:
        for m in all_mutants:
            before, after = describe(m, sources[m.header], m.texts[0])
            print(f"{m.header}:{m.line}: {m.operator}: {before}  =>  {after}")
        print(f"{len(all_mutants)} mutants: {dict(Counter(m.operator for m in all_mutants))}")
        return 0

    wanted = options.sample or len(all_mutants)
    explained, equivalent = set(), set()
    with open(SURVIVORS, encoding="utf-8") as f:
        for section in re.split(r"^## ", f.read(), flags=re.M)[1:]:
            into = equivalent if section.startswith("Equivalent") else explained
            into |= set(re.findall(r"^- (\S+): `(.+?)` => `(.*?)`$", section, flags=re.M))

    work_folder = tempfile.mkdtemp(prefix="weir-mutation-")
    shared = os.path.abspath(options.keep) if options.keep else work_folder
    os.makedirs(shared, exist_ok=True)
    begin = time.monotonic()
    versions = {h: digest_of([os.path.join(INCLUDE, "weir", h)]) for h in headers}
    results, done = [], set()
    if options.keep and options.json and os.path.exists(options.json):
        with open(options.json, encoding="utf-8") as f:
            results = json.load(f)
        mine = {draw(m) for m in all_mutants}
        results = [r for r in results if r["draw"] in mine and r["version"] == versions[r["header"]] and
                   not (options.again and r["verdict"] == "survived" and (r["header"], r["before"], r["after"]) not in equivalent | explained)]
        done = {r["draw"] for r in results}
        all_mutants = [m for m in all_mutants if draw(m) not in done]
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
            return "equivalent" if r["verdict"] == "survived" and (r["header"], r["before"], r["after"]) in equivalent else r["verdict"]

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
                before, after = describe(m, sources[m.header], m.texts[0])
                with lock:
                    results.append({"header": m.header, "line": m.line, "operator": m.operator, "before": before, "after": after, "draw": draw(m),
                                    "version": versions[m.header], "verdict": verdict, "by": by})
                    if verdict == "survived":
                        known = " (equivalent)" if verdict_of(results[-1]) != verdict else " (explained)" if (m.header, before, after) in explained else ""
                        print(f"survived{known}: {m.header}:{m.line}: {m.operator}\n  - {before}\n  + {after}", flush=True)
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
        print(f"{len(unjudged)} memory orders in {sorted({m.header for m in unjudged})} have no test under tests/model to judge them")
    left = len(all_mutants) + len(done) - len(results)
    if cut_off or time.monotonic() > options.deadline:
        print(f"cut off, {cut_off} in the middle of a trial; {left} not judged")
    percent = 100 * verdicts["found"] / counted if counted else 0
    unknown = [r for r in results if verdict_of(r) == "survived" and (r["header"], r["before"], r["after"]) not in explained]
    print(f"{verdicts['found']} of {counted} mutants found ({percent:.1f}%), {verdicts['survived']} survived, {len(unknown)} of them unexplained; "
          f"{verdicts['equivalent']} are equivalent, {verdicts['invalid']} did not compile, {verdicts['same']} changed no object code; "
          f"seed {options.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if not counted or len(unknown) > options.tolerate or percent < options.at_least or any(j.reason for j in tests) else 0


if __name__ == "__main__":
    sys.exit(main())
