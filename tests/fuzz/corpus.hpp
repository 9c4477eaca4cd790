// SPDX-License-Identifier: MIT
//
// Reads a fuzz corpus: one text file that holds the inputs of one fuzz target.
//
// Format, all ASCII:
// - The first line is `corpus_header`.
// - Each other line is one entry: NAME, a space, then the input's bytes, either as "text" or as hex digits.
// - Text is printable ASCII. The escapes are \" \\ \n \r \t and \xHH with exactly two digits.
// - Hex digits are lower case, two a byte.
// - Entries are sorted by name, in byte order, and no name occurs twice. A name consists of A-Z a-z 0-9 _ . and -
// - Every line ends with a newline, the last one too.
//
// corpus.py writes this format and reads it by the same rules.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fuzz {

constexpr std::string_view corpus_header = "# weir fuzz corpus, see tests/fuzz/corpus.hpp";

struct corpus_entry {
    std::string name;
    std::string bytes;
};

struct corpus {
    std::vector<corpus_entry> entries;
    std::string error;  // empty, or the reason why the corpus must not be used
};

namespace detail {

/// The value of a lower-case hex digit, or -1.
constexpr int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/// Takes two hex digits from the front of `in` and appends their byte to `out`.
inline bool take_hex(std::string_view& in, std::string& out) {
    if (in.size() < 2) return false;
    int const high = hex_value(in[0]);
    int const low = hex_value(in[1]);
    if (high < 0 || low < 0) return false;
    out += static_cast<char>(static_cast<unsigned char>(high * 16 + low));
    in.remove_prefix(2);
    return true;
}

inline bool decode_hex(std::string_view in, std::string& out) {
    if (in.empty()) return false;
    while (!in.empty()) {
        if (!take_hex(in, out)) return false;
    }
    return true;
}

/// Decodes what is between the quotes.
inline bool decode_text(std::string_view in, std::string& out) {
    while (!in.empty()) {
        char const c = in.front();
        in.remove_prefix(1);
        if (c < ' ' || c > '~' || c == '"') return false;
        if (c != '\\') {
            out += c;
            continue;
        }
        if (in.empty()) return false;
        char const escape = in.front();
        in.remove_prefix(1);
        switch (escape) {
            case '"':
            case '\\': out += escape; break;
            case 'n': out += '\n'; break;
            case 'r': out += '\r'; break;
            case 't': out += '\t'; break;
            case 'x':
                if (!take_hex(in, out)) return false;
                break;
            default: return false;
        }
    }
    return true;
}

inline bool decode(std::string_view in, std::string& out) {
    if (in.size() >= 2 && in.front() == '"' && in.back() == '"') return decode_text(in.substr(1, in.size() - 2), out);
    return decode_hex(in, out);
}

inline bool is_name(std::string_view name) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    return !name.empty() && name.find_first_not_of(allowed) == std::string_view::npos;
}

}  // namespace detail

/// Parses the text of a corpus file. A corpus without entries is an error.
inline corpus parse_corpus(std::string_view text) {
    corpus result;
    std::size_t line_number = 0;
    auto const failure = [&](char const* reason) {
        return corpus{{}, "line " + std::to_string(line_number) + ": " + reason};
    };
    while (!text.empty()) {
        ++line_number;
        auto const end = text.find('\n');
        if (end == std::string_view::npos) return failure("no newline at the end");
        std::string_view const line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (line_number == 1) {
            if (line != corpus_header) return failure("not the header of a corpus");
            continue;
        }
        auto const space = line.find(' ');
        if (space == std::string_view::npos) return failure("no space after the name");
        corpus_entry entry{std::string{line.substr(0, space)}, {}};
        if (!detail::is_name(entry.name)) return failure("a name must consist of A-Z a-z 0-9 _ . and -");
        if (!result.entries.empty() && !(result.entries.back().name < entry.name)) {
            return failure("names must be sorted and must not repeat");
        }
        if (!detail::decode(line.substr(space + 1), entry.bytes)) {
            return failure("bytes must be \"text\" or pairs of lower-case hex digits");
        }
        result.entries.push_back(std::move(entry));
    }
    if (result.entries.empty()) return {{}, "no entries"};
    return result;
}

/// Reads and parses a corpus file.
inline corpus read_corpus(char const* path) {
    std::FILE* const file = std::fopen(path, "rb");
    if (file == nullptr) return {{}, "cannot be opened"};
    std::string text;
    char buffer[4096];
    std::size_t count = 0;
    while ((count = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, count);
    bool const failed = std::ferror(file) != 0;
    std::fclose(file);
    if (failed) return {{}, "cannot be read"};
    return parse_corpus(text);
}

}  // namespace fuzz
