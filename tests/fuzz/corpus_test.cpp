// SPDX-License-Identifier: MIT
//
// The corpus reader: what it decodes, and what it rejects. A replay must not pass because it read nothing.
#include "corpus.hpp"

#include <cstdio>
#include <string>
#include <string_view>

namespace {

int failures = 0;

void expect(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "failed: %s\n", what);
    ++failures;
}

fuzz::corpus parse(std::string_view entries) {
    return fuzz::parse_corpus(std::string{fuzz::corpus_header} + "\n" + std::string{entries});
}

void expect_rejected(std::string_view entries, char const* what) {
    auto const c = parse(entries);
    expect(!c.error.empty() && c.entries.empty(), what);
}

void decodes_text_and_hex() {
    auto const c = parse(
        "B \"\"\n"
        "a-1.x \"say \\\"\\\\\\\" \\n\\r\\t\\x00\\xff\"\n"
        "b 00ff7f80\n");
    expect(c.error.empty() && c.entries.size() == 3, "three entries");
    if (c.entries.size() != 3) return;
    expect(c.entries[0].name == "B" && c.entries[0].bytes.empty(), "an empty input");
    expect(c.entries[1].name == "a-1.x", "a name with punctuation");
    expect(c.entries[1].bytes == std::string_view("say \"\\\" \n\r\t\0\xff", 13), "every escape");
    expect(c.entries[2].bytes == std::string_view("\0\xff\x7f\x80", 4), "hex digits");
}

void rejects_malformed_files() {
    expect(!fuzz::parse_corpus("").error.empty(), "an empty file");
    expect(!fuzz::parse_corpus("a 00\n").error.empty(), "no header");
    expect(!fuzz::read_corpus("/no/such/file.corpus").error.empty(), "a missing file");
    expect(!fuzz::read_corpus("/").error.empty(), "a directory");
    expect_rejected("", "no entries");
    expect_rejected("a 00", "no newline at the end");
    expect_rejected("a 00\n\n", "an empty line");
    expect_rejected("a 00\r\n", "a carriage return");
    expect_rejected("a\n", "a name alone");
    expect_rejected("a \n", "no bytes");
    expect_rejected(" 00\n", "no name");
    expect_rejected("a/b 00\n", "a path as a name");
    expect_rejected("b 00\na 00\n", "names out of order");
    expect_rejected("a 00\na 01\n", "a repeated name");
}

void rejects_malformed_bytes() {
    expect_rejected("a 000\n", "an odd number of hex digits");
    expect_rejected("a 0g\n", "not a hex digit");
    expect_rejected("a 0F\n", "an upper-case hex digit");
    expect_rejected("a 00 \n", "a space at the end");
    expect_rejected("a \"\n", "one quote");
    expect_rejected("a \"b\n", "no closing quote");
    expect_rejected("a \"b\\\"\n", "an escaped closing quote");
    expect_rejected("a \"b\"c\"\n", "a quote without an escape");
    expect_rejected("a \"\\q\"\n", "an unknown escape");
    expect_rejected("a \"\\x1\"\n", "an escape with one digit");
    expect_rejected("a \"\t\"\n", "a control character");
    expect_rejected("a \"\xc3\xa4\"\n", "a byte beyond ASCII");
    expect_rejected("<<<<<<< ours\na 00\n", "a merge conflict");
}

}  // namespace

int main() {
    decodes_text_and_hex();
    rejects_malformed_files();
    rejects_malformed_bytes();
    return failures == 0 ? 0 : 1;
}
