#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of the mutants' ids and of survivors.md's upkeep: tests/mutation/mutate_test.py. No compiler, a few seconds."""
import contextlib
import io
import os
import random
import re
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import mutants  # noqa: E402
import survivors  # noqa: E402

INCLUDE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "include")

HEADER = """// SPDX-License-Identifier: MIT
#pragma once
#include <cstdint>
namespace weir::inline v0 {

enum class kind : std::uint8_t { low = 1, high = 2 };
struct row { int status; char const* text; };
inline constexpr row rows[] = {{400, "bad; request"}, {500, "failed"}};

/// A comment with if (a < b) in it.
template <class Clock, int N = (3 > 2)>
    requires clock<Clock> && (N > 0)
class bucket {
public:
    explicit bucket(std::uint64_t burst) noexcept(sizeof(burst) > 4) : burst_{burst + 1}, left_(burst * 2) { reset(); }

    bool take(std::uint64_t n, bool force = false) {
        if (n > left_ && !force) return false;  // too many
        auto const spend = [&](std::uint64_t k) {
            left_ -= k;
            ++count_;
        };
        for (std::uint64_t i = 0; i < n; ++i) {
            spend(1);
        }
        switch (n) {
            case 1: left_ = 0; break;
            default: break;
        }
        return true;
    }

    bool take(kind k) {
        if (n > left_ && !force) return false;
        reset();
        return k == kind::low;
    }

    friend bool operator<=(bucket const& a, bucket const& b) { return a.left_ <= b.left_; }

private:
    std::uint64_t burst_ = 0;
    std::uint64_t left_ = 0;
    std::uint64_t count_{0};
};

template <class Clock, int N>
void bucket<Clock, N>::reset() {
    if (left_ != burst_) {
        left_ = burst_;
    } else if constexpr (requires { left_.size(); }) {
        log("nothing " "to do");
    }
}

}  // namespace weir::inline v0
"""
OTHER = "#pragma once\nnamespace weir {\ninline int twice(int x) { return x * 2; }\n}\n"


def mutants_of(**headers):
    """The mutants of headers by name; `__` is a folder."""
    with tempfile.TemporaryDirectory() as include:
        for name, text in headers.items():
            path = os.path.join(include, "weir", name.replace("__", "/") + ".hpp")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return mutants.mutants_in(include)


def ids_of(**headers):
    return sorted(m.id for m in mutants_of(**headers))


def rewrapped(source, seed):
    """The source with other line breaks and indents, and without its comments."""
    draw = random.Random(seed)
    kept = re.compile(r'(?:::|(?<!operator)\((?!\)))|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*\n|\s+', re.M)

    def change(m):
        part = m.group(0)
        if part in ("::", "("):
            return part + draw.choice(["", "", "", "\n  "])
        if part.isspace():
            return draw.choice([" ", " ", "\n", "\n        "])
        return "\n" + part.lstrip() if part.lstrip().startswith("#") else part

    return kept.sub(change, mutants.LEXICAL.sub(lambda m: " " if m.group(0)[0] == "/" else m.group(0), source))


class Ids(unittest.TestCase):
    def setUp(self):
        self.ids = ids_of(bucket=HEADER, other=OTHER)

    def function(self, begin, end):
        """HEADER without a part, and the part."""
        a, b = HEADER.index(begin), HEADER.index(end)
        return HEADER[:a] + HEADER[b:], HEADER[a:b]

    def test_are_unique_and_name_functions(self):
        self.assertEqual(len(set(self.ids)), len(self.ids))
        functions = {i.rsplit("/", 2)[0] for i in self.ids}
        self.assertEqual(functions, {"namespace", "kind", "bucket", "bucket::bucket", "bucket::take", "bucket::reset", "bucket::operator<=",
                                     "twice"})

    def test_survive_other_line_breaks(self):
        for seed in range(20):
            self.assertEqual(ids_of(bucket=rewrapped(HEADER, seed), other=OTHER), self.ids)

    def test_of_the_library_survive_other_line_breaks(self):
        for name in mutants.headers_in(INCLUDE)[::4]:
            with open(os.path.join(INCLUDE, "weir", name), encoding="utf-8") as f:
                source = f.read()
            ids = sorted(m.id for m in mutants.mutants_of(name, source))
            self.assertEqual(sorted(m.id for m in mutants.mutants_of(name, rewrapped(source, 1))), ids, name)

    def test_survive_a_broken_string_and_a_new_comment(self):
        changed = HEADER.replace('"nothing " "to do"', '"nothing to do"').replace("reset();", "reset(/* all */);").replace("= k;\n", "= k;  // less\n")
        self.assertEqual(ids_of(bucket=changed, other=OTHER), self.ids)

    def test_survive_the_move_of_a_function(self):
        rest, overload = self.function("    bool take(kind k)", "    friend bool")
        self.assertEqual(ids_of(bucket=rest.replace("    bool take(std::", overload + "    bool take(std::"), other=OTHER), self.ids)

    def test_survive_the_move_of_an_overload_without_another_number(self):
        number = lambda found, head: [m.id for m in found if m.before.startswith("if (n > left_") and head in m.head]
        rest, overload = self.function("    bool take(kind k)", "    friend bool")
        before, after = mutants_of(bucket=HEADER), mutants_of(bucket=rest.replace("    bool take(std::", overload + "    bool take(std::"))
        self.assertEqual(sorted(number(before, "kindk")), sorted(number(after, "kindk")))
        self.assertTrue(any(i.endswith("~2") for i in number(before, "kindk") + number(before, "uint64_tn")))

    def test_survive_a_move_to_another_header_and_namespace(self):
        self.assertEqual(ids_of(llm__detail__bucket=HEADER, other=OTHER), self.ids)
        rest, reset = self.function("template <class Clock, int N>\nvoid", "}  // namespace weir")
        self.assertEqual(ids_of(bucket=rest, llm__reset="namespace weir::llm {\n" + reset + "}\n", other=OTHER), self.ids)
        inside = rest.replace("private:", "    void reset() {" + reset.split("{", 1)[1] + "private:")
        self.assertEqual([i for i in ids_of(bucket=inside, other=OTHER) if "early-return" not in i], [i for i in self.ids if "early-return" not in i])

    def test_survive_changes_elsewhere(self):
        changed = HEADER.replace("++count_;", "++calls_; log(1);").replace("count_{0}", "calls_{0}")
        lost = set(self.ids) - set(ids_of(bucket=changed, other=OTHER))
        self.assertEqual({m.before for m in mutants_of(bucket=HEADER) if m.id in lost}, {"++count_;", "std::uint64_t count_{0};"})

    def test_of_a_changed_statement_change(self):
        before = [m for m in mutants_of(bucket=HEADER) if m.before == "left_ -= k;"]
        after = set(ids_of(bucket=HEADER.replace("left_ -= k;", "left_ -= k + k;")))
        self.assertEqual(len(before), 2)  # assign, delete
        self.assertFalse({m.id for m in before} & after)

    def test_of_the_same_statement_in_another_function_differ(self):
        changed = HEADER.replace("bool take(kind k)", "bool try_take(kind k)")
        heads = [m.id for m in mutants_of(bucket=changed) if m.before.startswith("if (n > left_") and m.operator == "delete"]
        self.assertEqual([i.rsplit("/", 2)[0] for i in heads], ["bucket::take", "bucket::try_take"])
        self.assertFalse([i for i in heads if "~" in i])

    def test_each_element_of_a_constructor_and_a_table_is_a_statement(self):
        found = {m.before for m in mutants_of(bucket=HEADER)}
        self.assertLessEqual({"burst_{burst + 1}", "left_(burst * 2)", '400, "bad; request"', "low = 1", "left_ = 0;"}, found)

    def test_code_that_does_not_run_is_not_changed(self):
        found = mutants_of(bucket=HEADER)
        self.assertFalse([m for m in found if m.operator in ("compare", "constant") and ("Clock" in m.before or "sizeof" in m.before)])
        self.assertFalse([m for m in found if "size()" in HEADER[m.begin:m.end]])


class Survivors(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "survivors.md")
        found = mutants_of(bucket=HEADER)
        self.some = [next(m for m in found if m.before == "left_ -= k;" and m.operator == "assign"),
                     next(m for m in found if m.before.startswith("for (") and m.operator == "step")]
        with open(self.path, "w", encoding="utf-8") as f:
            f.write("# Title\n\n## Equivalent\n\n" + survivors.lines_of(self.some[0]) + "\n  One reason.\n\n## Not found\n\n" +
                    survivors.lines_of(self.some[1]) + "\n  Another.\n")

    def run_on(self, function, header, *arguments):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = function(self.path, mutants_of(bucket=header), *arguments)
        return code, out.getvalue()

    def test_are_read(self):
        entries = survivors.read(self.path)[1]
        self.assertEqual([(e.id, e.equivalent) for e in entries], [(self.some[0].id, True), (self.some[1].id, False)])

    def test_check_passes_what_only_moved(self):
        self.assertEqual(self.run_on(survivors.check, rewrapped(HEADER, 3))[0], 0)

    def test_check_reports_a_lost_entry_with_the_nearest_mutant(self):
        code, out = self.run_on(survivors.check, HEADER.replace("left_ -= k;", "left_ -= cost;"))
        self.assertEqual(code, 1)
        self.assertRegex(out, r"no mutant: bucket::take/assign/\w+\n.*\n"
                              r"  0\.\d\d bucket::take/assign/\w+  \(bucket.hpp:\d+\)\n       `left_ -= cost;`")

    def test_rekey_follows_a_rename(self):
        header = HEADER.replace("bucket", "token_store").replace("left_", "tokens_").replace(" k)", " cost)").replace("-= k;", "-= cost;")
        code, out = self.run_on(survivors.rekey, header, {"bucket": "token_store", "left_": "tokens_", "k": "cost"}, 0.8)
        self.assertEqual((code, out.count("renamed: ")), (0, 2))
        self.assertEqual(self.run_on(survivors.check, header)[0], 0)
        with open(self.path, encoding="utf-8") as f:
            self.assertIn("`tokens_ -= cost;` => `tokens_ += cost;`\n  One reason.\n\n## Not found", f.read())

    def test_rekey_takes_a_similar_mutant(self):
        header = HEADER.replace("std::uint64_t i = 0; i < n;", "std::uint64_t j = 0; j < n;").replace("++i)", "++j)")
        code, out = self.run_on(survivors.rekey, header, {}, 0.8)
        self.assertEqual((code, out.count("similar (0.")), (0, 1))

    def test_rekey_leaves_what_is_not_similar(self):
        code, out = self.run_on(survivors.rekey, HEADER.replace("left_ -= k;", "return f(g(3), left_, -k, h);"), {}, 0.8)
        self.assertEqual(code, 1)
        self.assertIn("no mutant: " + self.some[0].id, out)


if __name__ == "__main__":
    unittest.main()
