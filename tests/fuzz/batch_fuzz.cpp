// SPDX-License-Identifier: MIT
//
// The demo's readers: a batch in JSONL, the estimate of a body's tokens, an output file to resume from, a journal.
// Whatever the bytes, each is read or refused with a reason, and what was written is read again as it was.
#include "fuzz.hpp"

#include "../../examples/qwen/batch.hpp"
#include "../../examples/qwen/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace {

void expect(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

/// A file of its own for each process; not a name that another could guess.
std::string const& scratch() {
    // Never destroyed, since it is needed at exit.
    static std::string const& name = *new std::string{[] {
        std::string text = (std::filesystem::temp_directory_path() / "weir_fuzz_XXXXXX").string();
        int const fd = ::mkstemp(text.data());
        expect(fd >= 0, "no scratch file");
        ::close(fd);
        std::atexit([] {
            ::unlink(scratch().c_str());
            ::unlink((scratch() + ".new").c_str());
        });
        return text;
    }()};
    return name;
}
void write(std::string_view text) {
    std::ofstream out(scratch(), std::ios::binary | std::ios::trunc);
    out.write(text.data(), static_cast<std::streamsize>(text.size()));
}

void refused(qwen::batch_error const& e) {
    expect(std::strncmp(e.what(), scratch().c_str(), scratch().size()) == 0, "a refusal that does not name its file");
    expect(std::strlen(e.what()) > scratch().size() + 2, "a refusal without a reason");
}

void read_a_batch(std::string_view text) {
    write(text);
    try {
        auto const b = qwen::read_batch(scratch());
        expect(!b.items.empty() && !b.model.empty() && !b.url.empty(), "a batch of nothing");
        for (auto const& item : b.items) {
            expect(!item.custom_id.empty() && item.max_tokens > 0 && item.line > 0, "an item that cannot be sent");
            expect(qwen::estimate_input_tokens(item.body) == item.input_tokens,
                   "another estimate for the body as it is sent");
        }
        // An answer to it is one line, and is found again.
        qwen::batch_answer answer;
        answer.custom_id = b.items[0].custom_id;
        answer.status = 200;
        answer.body = std::string{text};
        answer.request_id = b.items[0].body;
        auto const line = qwen::to_line(answer);
        expect(line.find('\n') == std::string::npos, "an answer of several lines");
        write(line + "\n");
        auto const ids = qwen::finished_ids(scratch());
        expect(ids.size() == 1 && ids.count(answer.custom_id) == 1, "an answer that is not found again");
    } catch (qwen::batch_error const& e) {
        refused(e);
    }
}

void resume(std::string_view text) {
    write(text);
    try {
        auto const ids = qwen::finished_ids(scratch());
        // A torn last line has been cut off, so that the second look sees the same.
        expect(qwen::finished_ids(scratch()) == ids, "another answer the second time");
    } catch (qwen::batch_error const& e) {
        refused(e);
    }
}

void take_up_a_journal(std::string_view text) {
    write(text);
    try {
        qwen::journal first{scratch(), std::chrono::hours{1}};
        auto const past = first.past();
        first.close();
        // What it rewrote is what it keeps, but for calls that were about to go and count as sent now.
        qwen::journal second{scratch(), std::chrono::hours{2}};
        expect(second.past().size() == past.size(), "a rewritten journal holds other calls");
        for (std::size_t i = 0; i < past.size(); ++i) {
            auto const& a = past[i];
            auto const& b = second.past()[i];
            expect(a.sent == b.sent && a.input == b.input && a.output == b.output && a.finished == b.finished,
                   "a call is not what it was");
        }
    } catch (qwen::batch_error const& e) {
        refused(e);
    }
}

}  // namespace

/// The first byte says which reader.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size == 0 || size > 4 * fuzz::most_bytes) return -1;
    std::string_view const text(reinterpret_cast<char const*>(data) + 1, size - 1);
    switch (data[0] % 4) {
        case 0: read_a_batch(text); break;
        case 1: resume(text); break;
        case 2: take_up_a_journal(text); break;
        default: (void)qwen::estimate_input_tokens(text);
    }
    return 0;
}
