// SPDX-License-Identifier: MIT
//
// One run of a batch: what happened so far, and the files that record it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../simulator/simulator.hpp"
#include "batch.hpp"
#include "demo_options.hpp"
#include "journal.hpp"
#include "line_file.hpp"
#include "qwen_client.hpp"

namespace qwen::demo {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

struct sent_attempt {
    std::size_t item = 0;
    steady_time stamp, done;
    bool over = false, left = true;
    int status = 0;
    std::uint64_t input = 0, output = 0;
};

/// What happened so far: written by the client's thread, read by the display's.
struct progress {
    std::mutex mutex;
    std::vector<sent_attempt> attempts;
    std::size_t answered = 0, failed = 0, refused = 0, retries = 0, in_flight = 0;
    std::uint64_t input = 0, output = 0;
    std::string waits_for;
};

class batch_run final : public qwen::call_observer {
public:
    batch_run(qwen::batch const& b, std::vector<std::size_t> const& todo, settings const& s, qwen::line_file& out,
              qwen::line_file& errors, qwen::journal& journal)
        : batch_{b}, settings_{s}, out_{out}, errors_{errors}, journal_{journal}, open_(b.items.size()) {
        seen.attempts.reserve(todo.size() + todo.size() / 4);
    }

    void about_to_send(qwen::chat_call const& call, std::uint32_t) override {
        open_[call.id].journal = journal_.about_to_send(call.bound.input, call.bound.output);
    }

    void sent(qwen::chat_call const& call, std::uint32_t number, steady_time stamp) override {
        if (journal_.is_open())
            journal_.sent(open_[call.id].journal, qwen::wall_now() - (steady_clock::now() - stamp) / 1ns);
        std::lock_guard const lock{seen.mutex};
        open_[call.id].attempt = seen.attempts.size();
        auto& s = seen.attempts.emplace_back();
        s.item = call.id;
        s.stamp = stamp;
        seen.retries += number > 0;
        ++seen.in_flight;
        seen.waits_for = {};
    }

    void waiting(qwen::admission const& a) override {
        if (a.limit == waits_for_) return;
        waits_for_ = a.limit;
        std::lock_guard const lock{seen.mutex};
        seen.waits_for = a.limit;
    }

    void ended(qwen::attempt const& a, bool will_retry) override {
        auto const& o = open_[a.id];
        switch (a.charge) {
            case qwen::charge::nothing: journal_.never_left(o.journal); break;
            case qwen::charge::request: journal_.finished(o.journal, 0, 0); break;
            case qwen::charge::used: journal_.finished(o.journal, a.usage.input, a.usage.output); break;
            case qwen::charge::bound: journal_.finished(o.journal, a.bound.input, a.bound.output); break;
            case qwen::charge::unknown: break;
        }
        if (settings_.verbose && !a.answered()) {
            std::fprintf(stderr, "\n%s, attempt %u: %d %s: %s%s\n", batch_.items[a.id].custom_id.c_str(), a.number + 1,
                         a.status, a.code.c_str(), a.message.c_str(), will_retry ? "; will retry" : "");
        }
        std::lock_guard const lock{seen.mutex};
        auto& s = seen.attempts[o.attempt];
        s.over = true;
        s.done = a.done;
        s.status = a.status;
        s.left = a.charge != qwen::charge::nothing;
        if (a.charge == qwen::charge::used) {
            s.input = a.usage.input;
            s.output = a.usage.output;
            seen.input += a.usage.input;
            seen.output += a.usage.output;
        }
        seen.refused += a.status == 429;
        --seen.in_flight;
    }

    void answered(qwen::attempt const& a) override {
        if (out_.is_open()) out_.append(line_of(a));
        std::lock_guard const lock{seen.mutex};
        ++seen.answered;
    }

    void failed(qwen::attempt const& a) override {
        if (errors_.is_open()) errors_.append(line_of(a));
        if (first_failure.empty()) {
            first_failure = "line " + std::to_string(batch_.items[a.id].line) + " (" + batch_.items[a.id].custom_id +
                            "): " + (a.status != 0 ? std::to_string(a.status) + " " : std::string{}) + a.code + ": " +
                            a.message;
        }
        std::lock_guard const lock{seen.mutex};
        ++seen.failed;
    }

    progress seen;
    std::string first_failure;

private:
    struct open_item {
        std::uint64_t journal = 0;
        std::size_t attempt = 0;
    };

    std::string line_of(qwen::attempt const& a) const {
        auto const& item = batch_.items[a.id];
        return qwen::to_line({item.custom_id, item.line, a.status, a.request_id, a.body, a.code, a.message});
    }

    qwen::batch const& batch_;
    settings const& settings_;
    qwen::line_file& out_;
    qwen::line_file& errors_;
    qwen::journal& journal_;
    std::vector<open_item> open_;
    std::string_view waits_for_;
};

/// The attempts that were answered, in the order of the batch.
[[nodiscard]] inline std::vector<sent_attempt> answered_in_order(std::vector<sent_attempt> const& all) {
    std::vector<sent_attempt> out;
    for (auto const& a : all)
        if (a.over && a.status == 200) out.push_back(a);
    std::sort(out.begin(), out.end(), [](auto const& x, auto const& y) { return x.item < y.item; });
    return out;
}

struct run_result {
    std::string name;
    double time = 0;        // real seconds, first send to last arrival
    double quota_time = 0;  // the same in the server's time
    double ideal = 0;       // in the server's time
    std::size_t answered = 0, failed = 0, refused = 0, retries = 0, unsent = 0;
    std::uint64_t input = 0, output = 0;
    std::optional<qwen::simulator_report> server;
    std::vector<sent_attempt> attempts;
    std::string failure;  // why it ended early, or the first request that failed
    bool ended_early = false;
    [[nodiscard]] double share() const { return quota_time > 0 ? ideal / quota_time : 0; }
};

}  // namespace qwen::demo
