# SPDX-License-Identifier: MIT
"""Reads survivors.md, finds the entries that no longer name a mutant, and gives them the ids of the nearest mutants.

An entry is
    - `id`
      `the statement` => `the statement, changed`
      The reason.
The id alone says which mutant is meant. The statement is for readers, and for finding the mutant when its id has changed.
"""
import re
from collections import Counter, namedtuple
from difflib import SequenceMatcher

from mutants import id_of, tokens_of

ENTRY = re.compile(r"^- `(?P<id>[^`\n]+)`\n  `(?P<before>.*)` => `(?P<after>.*)`$", re.M)

Entry = namedtuple("Entry", "id before after equivalent begin end")  # [begin, end): where its two lines are in the file


def read(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    entries = []
    for m in ENTRY.finditer(text):
        section = re.findall(r"^## (.*)$", text[:m.start()], flags=re.M)[-1:]
        entries.append(Entry(m["id"], m["before"], m["after"], section == ["Equivalent"], m.start(), m.end()))
    if len(entries) != len(re.findall(r"^- ", text, flags=re.M)):
        raise SystemExit(f"{path}: {len(re.findall(r'^- ', text, flags=re.M)) - len(entries)} entries have not the form of an entry")
    return text, entries


def lines_of(mutant):
    return f"- `{mutant.id}`\n  `{mutant.before}` => `{mutant.after}`"


def features(mutant):
    """What is compared of an entry or a mutant: the function's name, and the statement with the change marked in it."""
    before, after = tokens_of(mutant.before), tokens_of(mutant.after)
    shorter = min(len(before), len(after))
    first = next((k for k in range(shorter) if before[k] != after[k]), shorter)
    last = next((k for k in range(shorter - first) if before[-1 - k] != after[-1 - k]), shorter - first)
    return [*mutant.id.rsplit("/", 2)[0].split("::"), "<start>", *before[:first], "<from>", *before[first:len(before) - last], "<to>",
            *after[first:len(after) - last], "<end>", *before[len(before) - last:]]


def nearest(entry, mutants, count=3):
    """[(similarity, mutant)] of the same operator, the most similar first."""
    operator = entry.id.rsplit("/", 2)[1]
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(features(entry))
    found = []
    for m in mutants:
        if m.operator == operator:
            matcher.set_seq1(features(m))
            least = found[-1][0] if len(found) == count else 0.3
            if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least and matcher.ratio() >= least:
                found = sorted([*found, (matcher.ratio(), m)], key=lambda f: (-f[0], f[1].id))[:count]
    return found


def renamed(entry, names):
    """The entry after identifiers have been renamed."""
    new = lambda text: re.sub(r"\w+", lambda m: names.get(m.group(0), m.group(0)), text)
    function, operator, digest = entry.id.rsplit("/", 2)
    before, after = new(entry.before), new(entry.after)
    if (before, after) == (entry.before, entry.after) and new(function) == function:
        return entry
    number = re.search(r"(~\d+)?$", digest).group(0)
    return entry._replace(id=id_of(new(function), operator, before, after) + number, before=before, after=after)


def report(entry, candidates):
    print(f"no mutant: {entry.id}\n    `{entry.before}` => `{entry.after}`")
    for similarity, m in candidates:
        print(f"  {similarity:.2f} {m.id}  ({m.header}:{m.line})\n       `{m.before}` => `{m.after}`")


def check(path, mutants):
    """How many entries name no mutant; each is reported with the nearest mutants that have no entry."""
    _, entries = read(path)
    ids = {m.id for m in mutants}
    listed = Counter(e.id for e in entries)
    free = [m for m in mutants if m.id not in listed]
    bad = [e for e in entries if e.id not in ids]
    for e in bad:
        report(e, nearest(e, free))
    twice = [i for i, n in listed.items() if n > 1]
    for i in twice:
        print(f"listed twice: {i}")
    print(f"{len(entries)} survivors, {len(bad)} without a mutant; {len(mutants)} mutants")
    return len(bad) + len(twice)


def rekey(path, mutants, names, least):
    """Rewrites the entries that name no mutant. How many are left."""
    text, entries = read(path)
    by_id = {m.id: m for m in mutants}
    taken = {e.id for e in entries} & set(by_id)
    chosen = {e: by_id[e.id] for e in entries if e.id in by_id}
    missing = [e for e in entries if e not in chosen]
    for e in missing:  # what the renames explain
        m = by_id.get(renamed(e, names).id)
        if m and m.id not in taken:
            print(f"renamed: {e.id}\n      -> {m.id}")
            chosen[e] = m
            taken.add(m.id)
    free = [m for m in mutants if m.id not in taken]
    offers = []
    for e in missing:
        if e not in chosen:
            near = nearest(renamed(e, names), free)
            tie = len(near) > 1 and near[0][0] == near[1][0]
            if near and near[0][0] >= least and not tie:
                offers.append((near[0][0], e, near[0][1]))
    for similarity, e, m in sorted(offers, key=lambda o: -o[0]):
        if m.id not in taken:
            print(f"similar ({similarity:.2f}): {e.id}\n    `{e.before}` => `{e.after}`\n -> {m.id}\n    `{m.before}` => `{m.after}`")
            chosen[e] = m
            taken.add(m.id)
    left = [e for e in entries if e not in chosen]
    for e in left:
        report(e, nearest(renamed(e, names), [m for m in free if m.id not in taken]))
    for e in reversed(entries):
        if e in chosen:
            text = text[:e.begin] + lines_of(chosen[e]) + text[e.end:]
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    print(f"{len(entries)} survivors, {len(missing) - len(left)} with a new id, {len(left)} without a mutant")
    return len(left)
