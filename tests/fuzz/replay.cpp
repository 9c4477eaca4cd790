// SPDX-License-Identifier: MIT
//
// fuzz_replay TARGET CORPUS [ENTRY...]: runs a fuzz target on each entry of a corpus file, or only on the named
// entries. This way every compiler tests what a fuzzer found. Fails if there is no such target, if the file is missing
// or malformed, or if it has no such entry.
#include "corpus.hpp"
#include "targets.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

void replay(fuzz::target const& target, fuzz::corpus_entry const& entry) {
    // Printed first, because a target aborts when it fails.
    std::printf("%s\n", entry.name.c_str());
    std::fflush(stdout);
    // An allocation of exactly this size, so that AddressSanitizer detects a read past the end.
    auto const bytes = std::make_unique<std::uint8_t[]>(entry.bytes.size());
    std::transform(entry.bytes.begin(), entry.bytes.end(), bytes.get(),
                   [](char c) { return static_cast<std::uint8_t>(c); });
    target.run(bytes.get(), entry.bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s TARGET CORPUS [ENTRY...]\n", argv[0]);
        return 2;
    }
    auto const target = std::find_if(fuzz::targets.begin(), fuzz::targets.end(),
                                     [&](fuzz::target const& t) { return std::string_view{argv[1]} == t.name; });
    if (target == fuzz::targets.end()) {
        std::fprintf(stderr, "%s: no such target\n", argv[1]);
        return 1;
    }
    auto const corpus = fuzz::read_corpus(argv[2]);
    if (!corpus.error.empty()) {
        std::fprintf(stderr, "%s: %s\n", argv[2], corpus.error.c_str());
        return 1;
    }
    std::vector<std::string> const names(argv + 3, argv + argc);
    for (auto const& name : names) {
        auto const named = [&](fuzz::corpus_entry const& entry) { return entry.name == name; };
        if (std::none_of(corpus.entries.begin(), corpus.entries.end(), named)) {
            std::fprintf(stderr, "%s: no entry %s\n", argv[2], name.c_str());
            return 1;
        }
    }
    std::size_t count = 0;
    for (auto const& entry : corpus.entries) {
        if (!names.empty() && std::find(names.begin(), names.end(), entry.name) == names.end()) continue;
        replay(*target, entry);
        ++count;
    }
    std::printf("%zu entries\n", count);
}
