#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Converts between a fuzz corpus file and a directory with one input a file, as libFuzzer needs it.

    tests/fuzz/corpus.py unpack FILE DIR        write each entry of FILE to DIR, and leave other files in DIR alone
    tests/fuzz/corpus.py pack DIR FILE          replace FILE with the inputs in DIR
    tests/fuzz/corpus.py merge FILE SOURCE...   add the inputs of each SOURCE, a directory or a corpus file, to FILE

corpus.hpp describes the format. An entry is written as text where that is not longer than hex. A name of 40 hex digits
(from libFuzzer) or of 12 (from this script) becomes the first 12 hex digits of the SHA-1 of the bytes. Other names are
kept. Inputs with equal bytes become one entry, which keeps a name of the other kind if there is one.
"""
import argparse
import hashlib
import os
import re
import sys

HEADER = b"# weir fuzz corpus, see tests/fuzz/corpus.hpp"
LINE = re.compile(rb'([A-Za-z0-9_.-]+) (?:((?:[0-9a-f]{2})+)|"((?:[ !#-\[\]-~]|\\["\\nrt]|\\x[0-9a-f]{2})*)")')
NAME = re.compile(r"[A-Za-z0-9_.-]+")
HASH_NAME = re.compile(r"[0-9a-f]{12}|[0-9a-f]{40}")
ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
UNESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def encode(data):
    text = "".join(ESCAPES.get(c) or (chr(c) if 32 <= c <= 126 else f"\\x{c:02x}") for c in data)
    return f'"{text}"' if len(text) <= 2 * len(data) else data.hex()


def unescape(match):
    code = match.group(1)
    return bytes([int(code[1:], 16)]) if code.startswith(b"x") else UNESCAPES.get(code, code)


def read_file(path):
    """[(name, bytes)] of a corpus file."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    if lines[0] != HEADER:
        sys.exit(f"{path}: line 1: not the header of a corpus")
    if lines.pop() != b"":
        sys.exit(f"{path}: no newline at the end")
    entries = []
    for number, line in enumerate(lines[1:], 2):
        match = LINE.fullmatch(line)
        if not match:
            sys.exit(f"{path}: line {number}: malformed")
        name, digits, text = match.groups()
        if entries and entries[-1][0] >= name.decode():
            sys.exit(f"{path}: line {number}: names must be sorted and must not repeat")
        data = bytes.fromhex(digits.decode()) if digits else re.sub(rb"\\(x..|.)", unescape, text)
        entries.append((name.decode(), data))
    if not entries:
        sys.exit(f"{path}: no entries")
    return entries


def read_directory(path):
    """[(name, bytes)] of the files in a directory."""
    entries = []
    for name in sorted(os.listdir(path)):
        full = os.path.join(path, name)
        if not os.path.isfile(full):
            continue
        if not NAME.fullmatch(name):
            sys.exit(f"{full}: a name must consist of A-Z a-z 0-9 _ . and -")
        with open(full, "rb") as file:
            entries.append((name, file.read()))
    return entries


def write_file(path, entries):
    names = {}  # by bytes
    for name, data in entries:
        if not HASH_NAME.fullmatch(name):
            names.setdefault(data, name)
    for _, data in entries:
        names.setdefault(data, hashlib.sha1(data).hexdigest()[:12])
    by_name = {}
    for data, name in names.items():
        if name in by_name:
            sys.exit(f"{path}: two inputs are called {name}")
        by_name[name] = data
    if not by_name:
        sys.exit(f"{path}: no entries")
    text = HEADER.decode() + "\n" + "".join(f"{name} {encode(by_name[name])}\n" for name in sorted(by_name))
    with open(path + ".new", "w", encoding="ascii", newline="\n") as file:
        file.write(text)
    os.replace(path + ".new", path)
    return len(by_name)


def unpack(path, directory):
    os.makedirs(directory, exist_ok=True)
    for name, data in read_file(path):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, arguments in (("unpack", ("file", "directory")), ("pack", ("directory", "file"))):
        sub = commands.add_parser(command)
        for argument in arguments:
            sub.add_argument(argument)
    sub = commands.add_parser("merge")
    sub.add_argument("file")
    sub.add_argument("source", nargs="+")
    args = parser.parse_args()

    if args.command == "unpack":
        unpack(args.file, args.directory)
    elif args.command == "pack":
        print(f"{args.file}: {write_file(args.file, read_directory(args.directory))} entries")
    else:
        entries = read_file(args.file)
        before = len(entries)
        for source in args.source:
            entries += read_directory(source) if os.path.isdir(source) else read_file(source)
        print(f"{args.file}: {before} entries before, {write_file(args.file, entries)} now")


if __name__ == "__main__":
    main()
