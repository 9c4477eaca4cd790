// SPDX-License-Identifier: MIT
#include "batch_advice.hpp"

#include <weir/llm/advice/advice.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "advice_report.hpp"
#include "demo_text.hpp"

namespace qwen::demo {

using std::chrono::nanoseconds;

namespace {

advice_request request_for(batch_job const& job, bool recorded) {
    auto const& o = job.options;
    advice_request r;
    if (o.dialect == weir::llm::dialect::dashscope) r.vendor = "Alibaba Cloud Model Studio";
    r.model = job.batch.model;
    r.limits = job.quota;
    r.options = {.jitter = job.jitter, .server_timeout = server_timeout, .accounting = o.accounting};
    r.in_flight = o.in_flight;
    r.price = price_of(job.batch.model);
    if (o.price_in || o.price_out) r.price = listed_price{o.price_in.value_or(0), o.price_out.value_or(0)};
    r.proxy_price = o.proxy_price;
    r.patience = std::chrono::duration_cast<nanoseconds>(o.patience);
    if (o.advice_within) r.within = std::chrono::duration_cast<nanoseconds>(*o.advice_within);
    r.recorded = recorded;
    return r;
}

}  // namespace

void advise_before(batch_job const& job) {
    auto const& o = job.options;
    weir::llm::answer_estimate guess;
    guess.output_per_mille = static_cast<std::uint64_t>(std::llround(o.expect * 10));
    guess.first_token = nanoseconds{std::llround(std::min(o.latency.first_token_s, 86'400.0) * 1e9)};
    guess.tokens_per_second = static_cast<std::uint64_t>(std::clamp(std::round(o.latency.tokens_per_s), 1.0, 1e6));
    std::vector<weir::llm::planned_call> calls;
    for (auto const i : job.todo)
        calls.push_back(weir::llm::expected_call(
            {.input = job.batch.items[i].input_tokens, .output = job.batch.items[i].max_tokens}, guess));
    std::printf(
        "\nWhat would help, from the batch alone, in virtual time: answers of %g%% of max_tokens, %g s and then %g "
        "tokens a second\n\n",
        o.expect, o.latency.first_token_s, o.latency.tokens_per_s);
    std::printf("%s\n", advice_report(calls, request_for(job, false)).c_str());
    std::fflush(stdout);
}

void advise_after(batch_job const& job, run_result const& r) {
    auto const speed = job.options.speed;
    std::vector<weir::llm::planned_call> calls;
    steady_time first = steady_time::max(), last{};
    for (auto const& a : answered_in_order(r.attempts)) {
        first = std::min(first, a.stamp);
        last = std::max(last, a.done);
        auto const& item = job.batch.items[a.item];
        calls.push_back({.bound = {.input = item.input_tokens, .output = item.max_tokens},
                         .used = {.input = a.input, .output = a.output},
                         .latency = (a.done - a.stamp) * speed});
    }
    if (calls.empty()) return;
    auto const request = request_for(job, true);
    std::printf(
        "\nWhat would have helped, from the run's %zu answers, in virtual time. First send to last answer: %.1f s "
        "in the run, %.1f s simulated\n\n",
        calls.size(), in_seconds((last - first) * speed), in_seconds(simulated_time(calls, request)));
    std::printf("%s", advice_report(calls, request).c_str());
}

}  // namespace qwen::demo
