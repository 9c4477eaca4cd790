#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Races weir's token bucket against other limiters in one run and writes docs/race.md and docs/race.svg.

Installs what Debian packages (with apt-get, as root or through sudo) unless told not to; a peer that is absent is skipped with a
word. Every repetition visits all limiters, in a new order each time, so that a noisy moment meets all alike; ratios are taken
within a repetition. Of Python it needs the standard library alone.
"""
import argparse
import collections
import math
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time

here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
build = root / "build" / "peers"
guava = pathlib.Path("/usr/share/java/guava.jar")
gopath = pathlib.Path("/usr/share/gocode")
answers = ("granted", "denied")
thread_counts = (1, 2, 16)
columns = [(a, t) for a in answers for t in thread_counts]

# key: (how it is told, program, the row of weir's that it is held against, kind of clock)
limiters = {
    "weir": ("**weir**, `steady_clock`", "cpp", None, "own"),
    "mutex": ("C++ bucket, `std::mutex`", "cpp", "weir", "own"),
    "spin": ("C++ bucket, spinlock", "cpp", "weir", "own"),
    "cas": ("C++ bucket, `double` exchanged", "cpp", "weir", "own"),
    "guava": ("Guava `RateLimiter`", "java", "weir", "own"),
    "go": ("Go `x/time/rate`", "go", "weir", "own"),
    "weir-bounded": ("**weir**, `upper_bound_clock`", "cpp", None, "own"),
    "weir-glance": ("**weir**, `hybrid_clock`", "cpp", None, "own"),
    "weir-tsc": ("**weir**, `tsc_clock`", "cpp", None, "tsc"),
    "mutex-tsc": ("C++ bucket, `std::mutex`, `tsc_clock`", "cpp", "weir-tsc", "tsc"),
    "spin-tsc": ("C++ bucket, spinlock, `tsc_clock`", "cpp", "weir-tsc", "tsc"),
    "cas-tsc": ("C++ bucket, `double` exchanged, `tsc_clock`", "cpp", "weir-tsc", "tsc"),
    "weir-coarse": ("**weir**, `coarse_clock`", "cpp", None, "batch"),
    "rocksdb": ("RocksDB `GenericRateLimiter`", "rocksdb", "weir-coarse", "batch"),
}
only_granted = {"rocksdb"}
# Ratio tables: the row of weir's, the title, the rows that it is held against, which may meet another row of weir's there.
comparisons = [
    ("weir", "Each by its own clock, weir by `steady_clock`", [("weir", k) for k in ("mutex", "spin", "cas", "guava", "go")]),
    ("weir-bounded", "The same, weir by `upper_bound_clock`, which answers as `steady_clock` does and denies without reading it",
     [("weir-bounded", k) for k in ("mutex", "spin", "cas", "guava", "go")]),
    ("weir-tsc", "All by one `weir::tsc_clock`", [("weir-tsc", k) for k in ("mutex-tsc", "spin-tsc", "cas-tsc")]),
    ("weir-coarse", "RocksDB, which reads its clock when it has run out of bytes; weir by `coarse_clock`, which steps as a tick does",
     [(m, "rocksdb") for m in ("weir-coarse", "weir-tsc", "weir")]),
]
plain = lambda text: text.replace("**", "").replace("`", "")


def out_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def install(packages):
    if not shutil.which("apt-get"):
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    if not install.updated:
        subprocess.run([*environment, "update"], stdout=subprocess.DEVNULL, check=False)
        install.updated = True
    subprocess.run([*environment, "install", "-y", "--no-install-recommends", *packages], stdout=subprocess.DEVNULL, check=False)


install.updated = False


def commands(may_install):
    """The commands of the programs that could be built, by name."""
    build.mkdir(parents=True, exist_ok=True)
    found = {}

    def have(peer, present, packages):
        if not present() and may_install:
            install(packages)
        if not present():
            print(f"{peer} is absent (Debian: {' '.join(packages)}): skipped")
        return present()

    def make(peer, *command, env=None):
        done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=env and {**os.environ, **env})
        if done.returncode != 0:
            print(f"{peer} does not build: skipped\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == 0

    tools = lambda *names: all(shutil.which(n) for n in names)
    have("RocksDB", lambda: pathlib.Path("/usr/include/rocksdb/rate_limiter.h").exists(), ["librocksdb-dev"])
    off = [f"-DWEIR_BUILD_{x}=OFF" for x in ("TESTS", "EXAMPLES", "DEMO", "BENCH")]
    if not have("CMake", lambda: tools("cmake", "c++"), ["cmake", "g++", "make"]):
        return found
    if make("C++", "cmake", "-S", str(root), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release", "-DWEIR_BUILD_PEERS=ON", *off):
        if make("C++", "cmake", "--build", str(build), "--target", "race"):
            for name in ("cpp", "rocksdb"):
                if (program := build / "bench" / "peers" / f"race_{name}").exists():
                    found[name] = [str(program)]
    rate = gopath / "src/golang.org/x/time/rate/rate.go"
    if have("x/time/rate", lambda: tools("go") and rate.exists(), ["golang-go", "golang-golang-x-time-dev"]):
        env = {"GO111MODULE": "off", "GOPATH": str(gopath), "GOCACHE": str(build / "gocache")}
        if make("Go", "go", "build", "-o", str(build / "race_go"), "./go", env=env):
            found["go"] = [str(build / "race_go")]
    if have("Guava", lambda: tools("javac", "java") and guava.exists(), ["default-jdk-headless", "libguava-java"]):
        if make("Java", "javac", "-cp", str(guava), "-d", str(build), "Race.java"):
            found["java"] = ["java", "-cp", f"{guava}:{build}", "Race"]
    return found


Outcome = collections.namedtuple("Outcome", "rate surprises attempts percentiles")


class Program:
    """One of the runners, kept alive over the race, so that Java is compiled and warm and nobody pays for a start."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, name, answer, threads, kind, ms):
        self.process.stdin.write(f"{name} {answer} {threads} {kind} {ms}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().split()
        if not line:
            sys.exit(f"the program of {name} has ended")
        attempts, surprises, ns = int(line[0]), int(line[1]), float(line[2])
        cells = [(float(v), int(n)) for v, n in (cell.split(":") for cell in line[3:])]
        total = sum(n for _, n in cells)
        percentiles = []
        for share in (0.5, 0.99, 0.999):
            seen = 0
            for value, n in cells:
                seen += n
                if seen >= share * total:
                    percentiles.append(value)
                    break
        return Outcome(attempts / ns * 1e3, surprises, attempts, percentiles)


def processor_time(processes):
    """What the machine's cores did in all, what others than `processes` did or took of it, in clock ticks."""
    try:
        fields = [int(f) for f in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        own = sum(sum(int(f) for f in pathlib.Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]) for p in processes)
    except (OSError, ValueError, IndexError):
        return 0, 0
    user, nice, system, idle, iowait, irq, softirq, steal = fields
    return sum(fields), user + nice + system + irq + softirq + steal - own


def race(programs, repetitions, scale):
    """The limiters that ran, their outcomes, and how many blocks were disturbed: run again because others used the machine, and
    kept all the same."""
    running = {name: Program(command) for name, command in programs.items()}
    entrants = [(key, programs_key) for key, (_, programs_key, _, _) in limiters.items() if programs_key in running]
    timers = [("timer", name) for name in ("cpp", "go", "java") if name in running]
    results = collections.defaultdict(list)
    order = random.Random(1)
    processes = [p.process for p in running.values()]
    again = kept = 0
    for repetition in range(-1, repetitions):  # the first one is for warming up
        begin = time.monotonic()
        for answer, threads in columns:
            for kind in ("rate", "latency"):
                field = [e for e in entrants if answer == "granted" or e[0] not in only_granted]
                if kind == "latency" and answer == "granted":
                    field = field + timers
                while True:
                    order.shuffle(field)
                    outcomes = []
                    before = processor_time(processes)
                    for key, program in field:
                        ms = round((80 if threads > 2 else 60) * scale * (1 if kind == "rate" else 0.7))
                        outcomes.append((key if key != "timer" else f"timer-{program}",
                                         running[program].run(key, answer, threads, kind, ms)))
                    after = processor_time(processes)
                    disturbed = after[1] - before[1] > 0.03 * (after[0] - before[0])
                    if not disturbed or repetition < 0 or again >= repetitions:
                        kept += disturbed and repetition >= 0
                        break
                    again += 1
                if repetition >= 0:
                    for key, outcome in outcomes:
                        results[(key, answer, threads, kind)].append(outcome)
        print(f"repetition {repetition + 1} of {repetitions}: {time.monotonic() - begin:.1f} s, {again} blocks run again", flush=True)
    for program in running.values():
        program.process.stdin.close()
        program.process.wait()
    return [key for key, _ in entrants], results, (again, kept)


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def rates(results, key, column):
    return [o.rate for o in results[(key, *column, "rate")]]


def ratio(results, mine, other, column):
    """Quartiles of how many times as many attempts a second `mine` makes as `other`, repetition by repetition."""
    return quartiles([a / b for a, b in zip(rates(results, mine, column), rates(results, other, column))])


def percentile(results, key, column, i):
    return statistics.median(o.percentiles[i] for o in results[(key, *column, "latency")])


def versions(present):
    package = lambda name: out_of("dpkg-query", "-W", "-f", "${Version}", name) or "?"
    lines = []
    cpu = next((l.split(":", 1)[1].strip() for l in out_of("lscpu").splitlines() if l.startswith("Model name")), platform.processor())
    fields = dict(l.split(":", 1) for l in out_of("lscpu").splitlines() if ":" in l)
    get = lambda k: fields.get(k, "?").strip()
    guest = ", a guest of " + get("Hypervisor vendor") + " on a shared host" if "Hypervisor vendor" in fields else ""
    lines.append(f"- {cpu} (family {get('CPU family')}, model {get('Model')}), {os.cpu_count()} cores{guest}; Linux {platform.release()}")
    libc = out_of("getconf", "GNU_LIBC_VERSION")
    compiler = next((l.split("=", 1)[1] for l in (build / "CMakeCache.txt").read_text().splitlines()
                     if l.startswith("CMAKE_CXX_COMPILER:")), "c++")
    flags = next((l.split("=", 1)[1] for l in (build / "CMakeCache.txt").read_text().splitlines()
                  if l.startswith("CMAKE_CXX_FLAGS_RELEASE:")), "")
    lines.append(f"- {out_of(compiler, '--version').splitlines()[0]}, {flags}, {libc}")
    if "go" in present:
        lines.append(f"- {out_of('go', 'version').removeprefix('go version ')}, x/time {package('golang-golang-x-time-dev')}")
    if "guava" in present:
        java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()
        lines.append(f"- {java[0] if java else 'java'}, Guava {package('libguava-java')}")
    if "rocksdb" in present:
        lines.append(f"- RocksDB {package('librocksdb-dev')}")
    return lines


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(r) + " |" for r in rows]


def column_name(column):
    return f"{column[0]}, {column[1]} thr."


def times(low, middle, high):
    digits = 2 if middle < 10 else 1
    text = f"{middle:.{digits}f}"
    return f"{text} ({low:.{digits}f}–{high:.{digits}f})"


why = {
    "rocksdb": "RocksDB's `Request` reads no clock while bytes are left of the last refill: it is a mutex and a subtraction, and on one thread that "
               "costs less than a read of `steady_clock`. With a clock as coarse as RocksDB's refills, or with the processor's counter, weir is ahead.",
    "spin": "A spinlock begins with an exchange, which asks for the cache line for writing at once. weir reads its word first, so that a denial "
            "writes nothing, and a grant may then have to ask for the line twice. Where attempts are denied, the spinlock still takes the line.",
    "cas": "The same idea as weir's, one exchange of one word, with fewer checks around it: no change of rate in use, no refund, no horizon. "
           "That is about half a nanosecond of an attempt. In return weir is exact: it counts permits in integers, for 30 years.",
    "mutex": "Threads that find the mutex taken sleep, and the one that runs makes many attempts in a row: throughput bought with waiting.",
    "bounded": "A grant by `upper_bound_clock` pays for the read of the counter and for `steady_clock`. Use it where nearly all attempts are denied.",
}


def behind(results, present):
    """Cells in which weir is not ahead, by what explains them."""
    found = collections.OrderedDict()
    for _, _, pairs in comparisons:
        for mine, key in pairs:
            for column in columns:
                if key not in present or (column[0] == "denied" and key in only_granted):
                    continue
                low, middle, high = ratio(results, mine, key, column)
                if round(middle, 2) <= 1:
                    reason = "bounded" if mine == "weir-bounded" else key.removesuffix("-tsc")
                    found.setdefault(reason, []).append((mine, key, column, low, middle, high))
    return found


def slower(results, present):
    """The same of the latencies."""
    cells = []
    for _, _, pairs in comparisons:
        for mine, key in pairs:
            if key not in present or mine == "weir-bounded":
                continue
            for column in columns:
                if column[0] == "denied" and key in only_granted:
                    continue
                a, b = ([percentile(results, k, column, i) for i in range(3)] for k in (mine, key))
                if any(x > y for x, y in zip(a, b)):
                    told = [" / ".join(f"{x:.0f}" for x in values) for values in (a, b)]
                    cells.append(f"{column_name(column)}, {plain(limiters[mine][0])}: {told[0]}, {plain(limiters[key][0])}: {told[1]}")
    return cells


def circumstances(results, again, kept, rounds):
    """How quiet the machine was, and how many of the threads ran at once."""
    alone, two, many = (statistics.median(rates(results, "weir", ("denied", t))) for t in thread_counts)
    text = (f"**How quiet it was.** {kept} of {rounds} rounds were disturbed by other programs (more than 3% of the machine) and kept; {again} were run "
            f"again. Denials write nothing, so they show how many cores were available: weir's are {two / alone:.2f} times as many by two threads as by one, "
            f"and {many / alone:.2f} by 16 (1: all on one core; {os.cpu_count()}: on all).")
    if two < 1.6 * alone:
        text += (" So the two threads mostly took turns on one core in this run, and the columns of two threads tell little of contention; where the quartiles are "
                 "far apart, some repetitions ran on two cores and some on one.")
    if many > 1.6 * alone:
        text += " The 16 threads used all cores."
    return text


def write_markdown(path, results, present, arguments):
    lines = ["# The race", "",
             "Read this page if you compare weir with another limiter. After it you know how each was measured, and where weir is not ahead.", "",
             "weir's `token_bucket` and other rate limiters, in one run on one machine. Written by `bench/peers/race.py`; the notes on method "
             "are below the tables. ![throughput](race.svg)", ""]
    lines += ["## Ratios", "",
              "weir's attempts a second divided by the other's, all threads together: the median over the repetitions of the ratio "
              "within one, and in brackets its quartiles. Above 1, weir is ahead.", "",
              circumstances(results, *arguments.disturbed, len(columns) * 2 * arguments.repetitions), ""]
    for mine, title, pairs in comparisons:
        body = []
        for m, k in pairs:
            if k not in present:
                continue
            name = limiters[k][0] if m == mine else f"the same, against weir by `{'steady_clock' if m == 'weir' else 'tsc_clock'}`"
            body.append([name] + [times(*ratio(results, m, k, c)) if k not in only_granted or c[0] == "granted" else "—" for c in columns])
        if body:
            lines += [f"**{title}**", ""] + table(["weir against"] + [column_name(c) for c in columns], body) + [""]

    found = behind(results, present)
    lines += ["## Where weir is not ahead", ""]
    for reason, cells in found.items():
        where = "; ".join(f"{'' if reason != 'bounded' else plain(limiters[k][0]) + ', '}{column_name(c)}"
                          f"{'' if m in ('weir', 'weir-bounded') else ' by ' + m.removeprefix('weir-') + '_clock'}: {times(a, b, h)}"
                          for m, k, c, a, b, h in cells)
        title = "`upper_bound_clock`" if reason == "bounded" else limiters[reason][0]
        lines.append(f"- {title}: {where}. {why.get(reason, '')}")
    late = slower(results, present)
    if late:
        lines.append(f"- One attempt, p50 / p99 / p99.9 in ns: {'; '.join(late)}.")
    if not found and not late:
        lines.append("Nowhere: in every row the median ratio is above 1, and no percentile of an attempt is higher.")
    lines.append("")

    lines += ["## Attempts a second", "", "Millions, all threads together, no timer in the loop; median.", ""]
    rows = []
    for k in present:
        rows.append([limiters[k][0]] + [f"{statistics.median(rates(results, k, c)):.1f}" if k not in only_granted or c[0] == "granted" else "—"
                                        for c in columns])
    lines += table(["limiter"] + [column_name(c) for c in columns], rows) + [""]

    lines += ["## One attempt", "",
              "Nanoseconds, p50 / p99 / p99.9, the timer's own cost included; medians over the repetitions.", ""]
    rows = []
    for k in present:
        rows.append([limiters[k][0]] + [" / ".join(f"{percentile(results, k, c, i):.0f}" for i in range(3))
                                        if k not in only_granted or c[0] == "granted" else "—" for c in columns])
    names = {"timer-cpp": "the timer alone, C++ (TSC)", "timer-go": "the timer alone, Go (TSC)", "timer-java": "the timer alone, Java (`nanoTime`)"}
    for k, name in names.items():
        if results.get((k, "granted", 1, "latency")):
            rows.append([name] + [" / ".join(f"{percentile(results, k, c, i):.0f}" for i in range(3)) if c[0] == "granted" else "—" for c in columns])
    lines += table(["limiter"] + [column_name(c) for c in columns], rows) + [""]

    surprises = {(k, *c): sum(o.surprises for kind in ("rate", "latency") for o in results.get((k, *c, kind), [])) for k in present for c in columns}
    attempts = sum(o.attempts for (k, *_), o_list in results.items() if not k.startswith("timer") for o in o_list)
    bad = {k: n for k, n in surprises.items() if n}
    lines += ["## How it was measured", "",
              f"`{' '.join(arguments.shown)}`, {arguments.repetitions} repetitions; it regenerates this page and its picture.", ""]
    lines += versions(present)
    missing = [plain(limiters[k][0]) for k in limiters if k not in present]
    if missing:
        lines.append(f"- absent from this run: {', '.join(missing)}")
    lines += ["",
              "Work: one limiter, attempts for one permit back to back by 1, 2 and 16 threads (16 are more than there are cores). Granted: 10^9 "
              "permits a second and as many at once, in each library's own terms, so that none is denied. Denied: one permit a minute, and that "
              "one is taken. " +
              (f"Of {attempts / 1e9:.1f} thousand million attempts, answers other than the one to be measured: "
               + ("0." if not bad else "; ".join(f"{n} ({k[0]}, {k[1]}, {k[2]} thr.)" for k, n in bad.items()) + ".")),
              "",
              "Each limiter is called as its users call it: `if (bucket.try_acquire())`, `Allow()`, `tryAcquire()`, `Request(1, IO_HIGH, …)`. Each reads "
              "its own clock, except where the table says that all read the same. RocksDB's `Request` waits where the others deny, so it "
              "is measured granted only, at a rate at which it never has to wait. It refills every 100 ms and "
              "reads no clock in between, so its row is compared with weir's by `coarse_clock`.",
              "",
              "The C++ buckets (`bench/peers/buckets.hpp`) read the clock before they lock, never divide, and fill a cache line of their own. The mutex is "
              "glibc's `std::mutex`. The spinlock tests before it sets, backs off exponentially with `pause`, and yields its core after some 10 µs. The exchanged "
              "`double` is folly's `TokenBucket` without its division, with relaxed orders.",
              "",
              "A runner per language stays alive over the whole race and is warmed up by a repetition that does not count. Every repetition visits all limiters for "
              "each column, in a newly shuffled order, 42 to 80 ms each. A round of a column in which other programs had more than 3% of the machine is run again, "
              "up to as many rounds as there are repetitions. Throughput is measured without any timer in the loop. Latencies are taken in runs of "
              "their own by the time-stamp counter between fences (Java: `System.nanoTime`); where the counter itself advances in "
              "steps (10 ns on this processor family), so do they. Goroutines run on as many system threads as there are cores, as Go does it; Java's are platform threads.",
              ""]
    path.write_text("\n".join(lines))


def write_svg(path, results, present):
    colours = {"own": "#0b7285", "tsc": "#5f3dc4", "batch": "#a66300"}
    left, panel, gap, row, top = 290, 215, 22, 19, 70
    height_of = lambda a: row * sum(1 for k in present if a == "granted" or k not in only_granted)
    all_rates = [statistics.median(rates(results, k, c)) for k in present for c in columns if results.get((k, *c, "rate"))]
    low, high = math.floor(math.log10(min(all_rates)) * 2) / 2, math.ceil(math.log10(max(all_rates)) * 4) / 4
    x_of = lambda value: (math.log10(value) - low) / (high - low) * panel
    width = left + len(thread_counts) * (panel + gap) + 30
    out, y = [], top
    for answer in answers:
        keys = [k for k in present if answer == "granted" or k not in only_granted]
        for i, threads in enumerate(thread_counts):
            x0 = left + i * (panel + gap)
            out.append(f'<text x="{x0}" y="{y - 10}" class="h">{answer}, {threads} thread{"s" if threads > 1 else ""}</text>')
            for tick in (5, 10, 20, 50, 100, 200, 500, 1000):
                if low <= math.log10(tick) <= high:
                    x = x0 + x_of(tick)
                    out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + height_of(answer)}" class="g"/>')
                    out.append(f'<text x="{x:.1f}" y="{y + height_of(answer) + 13}" class="t" text-anchor="middle">{tick}</text>')
            for j, key in enumerate(keys):
                name, _, mine, kind = limiters[key]
                cy = y + row * (j + 0.5)
                if i == 0:
                    weight = ' font-weight="bold"' if mine is None else ""
                    out.append(f'<text x="{left - 12}" y="{cy + 4:.1f}" text-anchor="end" fill="{colours[kind]}"{weight}>{plain(name)}</text>')
                a, b, c = quartiles(rates(results, key, (answer, threads)))
                xa, xb, xc = (x0 + x_of(v) for v in (a, b, c))
                colour = colours[kind]
                fill = colour if mine is None else "white"
                out.append(f'<line x1="{xa:.1f}" x2="{xc:.1f}" y1="{cy:.1f}" y2="{cy:.1f}" stroke="{colour}" stroke-width="2"/>')
                out.append(f'<circle cx="{xb:.1f}" cy="{cy:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>')
        y += height_of(answer) + 60
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y - 20}" width="{width}" height="{y - 20}" font-family="sans-serif" font-size="12">',
            "<style>.h{font-weight:bold;fill:#222}.g{stroke:#ddd}.t{font-size:10px;fill:#555}</style>",
            f'<rect width="{width}" height="{y - 20}" fill="white"/>',
            '<text x="16" y="26" font-size="16" font-weight="bold" fill="#222">Attempts a second, in millions (logarithmic): weir filled, others hollow</text>',
            f'<text x="16" y="44" fill="#555">Medians and quartiles of one run. Colours: <tspan fill="{colours["own"]}">each by its own clock</tspan>, '
            f'<tspan fill="{colours["tsc"]}">all by tsc_clock</tspan>, <tspan fill="{colours["batch"]}">coarse or batched clocks</tspan></text>']
    path.write_text("\n".join(head + out + ["</svg>", ""]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=12, help="default %(default)s, some 12 s each")
    parser.add_argument("--scale", type=float, default=1, help="times the length of each run")
    parser.add_argument("--out", type=pathlib.Path, default=root / "docs", help="folder of race.md and race.svg")
    parser.add_argument("--no-install", action="store_true", help="skip what is not installed")
    parser.add_argument("--build-only", action="store_true", help="install and build, and run nothing")
    arguments = parser.parse_args()
    programs = commands(not arguments.no_install)
    if "cpp" not in programs:
        sys.exit("without weir's own program there is no race")
    if arguments.build_only:
        return
    arguments.shown = ([f"nice -n {os.nice(0)}"] if os.nice(0) else []) + ["python3 bench/peers/race.py"] + ([f"--repetitions {arguments.repetitions}"] if arguments.repetitions != 12 else [])
    present, results, arguments.disturbed = race(programs, arguments.repetitions, arguments.scale)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_markdown(arguments.out / "race.md", results, present, arguments)
    write_svg(arguments.out / "race.svg", results, present)
    for (key, answer, threads, kind), outcomes in results.items():
        if (n := sum(o.surprises for o in outcomes)) and not key.startswith("timer"):
            print(f"{key}, {answer}, {threads} threads, {kind}: {n} answers were not what was to be measured")
    print(f"written: {arguments.out / 'race.md'}, {arguments.out / 'race.svg'}")


if __name__ == "__main__":
    main()
