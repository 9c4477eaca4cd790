// SPDX-License-Identifier: MIT
#include "ideal.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "../../examples/qwen/svg.hpp"

namespace ideal_test {

using qwen::ideal_call;
using qwen::ideal_limits;

std::vector<ideal_call> same(std::size_t n, ideal_call c) { return std::vector<ideal_call>(n, c); }

TEST(qwen_ideal, sends_all_at_once_without_limits) { EXPECT_EQ(qwen::ideal_time(same(100, {1, 1, 1, 1}), {}), 0); }

TEST(qwen_ideal, is_zero_for_no_calls) { EXPECT_EQ(qwen::ideal_time({}, {.rpm = 1}), 0); }

TEST(qwen_ideal, fills_each_second_and_each_minute) {
    auto const at = qwen::ideal_arrivals(same(25, {}), {.rpm = 20, .rps = 10});
    EXPECT_EQ(at[9], 0);
    EXPECT_EQ(at[10], 1);
    EXPECT_EQ(at[19], 1);
    EXPECT_EQ(at[20], 60);
    EXPECT_EQ(at[24], 60);
}

TEST(qwen_ideal, holds_an_output_at_its_bound_until_the_reply_and_then_at_what_it_was) {
    // 100 a minute; 10 in, up to 50 out, 20 in truth, after 5 s.
    auto const at = qwen::ideal_arrivals(same(4, {10, 20, 50, 5}), {.tpm = 100});
    EXPECT_EQ(at[0], 0);
    EXPECT_EQ(at[1], 5) << "60 + 60 do not fit; at the reply 30 + 60 do";
    EXPECT_EQ(at[2], 65) << "at 60 s the first input leaves, and 20 + 30 + 60 do not fit; at 65 s the first output and "
                            "the second input leave";
}

TEST(qwen_ideal, lets_a_call_above_the_limit_go_alone) {
    auto const at = qwen::ideal_arrivals(same(3, {500, 0, 0, 1}), {.tpm = 100});
    EXPECT_EQ(at[1], 60);
    EXPECT_EQ(at[2], 120);
}

// An answer that any exact log of these calls would agree with: by brute force over all instants at which something
// changes.
double first_fit(std::vector<ideal_call> const& calls, std::vector<double> const& at, std::size_t i,
                 ideal_limits const& limits) {
    auto const fits = [&](double t) {
        std::uint64_t requests_minute = 0, requests_second = 0, tokens_minute = 0, tokens_second = 0;
        for (std::size_t j = 0; j < i; ++j) {
            double const reply = at[j] + calls[j].latency;
            auto const in_window = [&](double then, double window) { return then + window > t; };
            requests_minute += in_window(at[j], 60);
            requests_second += in_window(at[j], 1);
            for (auto const& [window, sum] : {std::pair{60.0, &tokens_minute}, {1.0, &tokens_second}}) {
                if (in_window(at[j], window)) *sum += calls[j].input;
                if (reply > t) {
                    *sum += calls[j].output_bound;
                } else if (in_window(reply, window)) {
                    *sum += calls[j].output;
                }
            }
        }
        auto const need = calls[i].input + calls[i].output_bound;
        auto const room = [](std::optional<std::uint64_t> limit, std::uint64_t sum, std::uint64_t n) {
            return !limit || sum == 0 || sum + n <= *limit;
        };
        return room(limits.rpm, requests_minute, 1) && room(limits.rps, requests_second, 1) &&
               room(limits.tpm, tokens_minute, need) && room(limits.tps, tokens_second, need);
    };
    double const earliest = i == 0 ? 0 : at[i - 1];
    std::vector<double> instants{earliest};
    for (std::size_t j = 0; j < i; ++j) {
        double const reply = at[j] + calls[j].latency;
        for (double const t : {at[j] + 1, at[j] + 60, reply, reply + 1, reply + 60}) {
            if (t > earliest) instants.push_back(t);
        }
    }
    std::sort(instants.begin(), instants.end());
    for (double const t : instants) {
        if (fits(t)) return t;
    }
    return -1;
}

TEST(qwen_ideal, sends_each_call_at_the_first_instant_with_room_in_all_windows) {
    for (unsigned seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        auto const pick = [&](std::uint64_t n) { return random() % n; };
        ideal_limits limits;
        if (pick(2) != 0) limits.rpm = 1 + pick(40);
        if (pick(2) != 0) limits.rps = 1 + pick(5);
        if (pick(2) != 0) limits.tpm = 200 + pick(2000);
        if (pick(3) == 0) limits.tps = 50 + pick(300);
        std::vector<ideal_call> calls;
        for (int i = 0; i < 60; ++i) {
            auto const bound = pick(100);
            // Quarters of a second, so that sums of times are exact.
            calls.push_back({pick(100), bound == 0 ? 0 : pick(bound), bound, static_cast<double>(pick(80)) / 4});
        }
        auto const at = qwen::ideal_arrivals(calls, limits);
        for (std::size_t i = 0; i < calls.size(); ++i)
            ASSERT_EQ(at[i], first_fit(calls, at, i, limits)) << "seed " << seed << ", call " << i;
    }
}

TEST(qwen_svg, draws_a_panel_for_each_limit_and_marks_refusals) {
    std::vector<qwen::sent_call> calls;
    for (int i = 0; i < 30; ++i) calls.push_back({i / 10.0, i / 10.0 + 2, 100, 50, false});
    auto const clean = qwen::draw_windows("a < b", calls, {.rpm = 40, .rps = 10, .tpm = 10000, .tps = {}});
    EXPECT_NE(clean.find("a &lt; b"), std::string::npos);
    EXPECT_NE(clean.find("peak 30 of 40"), std::string::npos);
    EXPECT_NE(clean.find("peak 10 of 10"), std::string::npos);
    EXPECT_NE(clean.find("peak 4,500 of 10,000"), std::string::npos);
    EXPECT_NE(clean.find("no 429"), std::string::npos);
    EXPECT_EQ(clean.find("tokens in the last second"), std::string::npos);
    EXPECT_TRUE(clean.ends_with("</svg>\n"));

    calls.push_back({3, 3.1, 0, 0, true});
    auto const refused = qwen::draw_windows("", calls, {.rpm = 29, .rps = {}, .tpm = {}, .tps = {}});
    EXPECT_NE(refused.find("1 refused with 429"), std::string::npos);
    EXPECT_NE(refused.find("class=\"over\">peak 30 of 29"), std::string::npos);
}

TEST(qwen_svg, draws_nothing_without_a_call) {
    EXPECT_TRUE(qwen::draw_windows("t", {}, {.rpm = 1}).ends_with("</svg>\n"));
}

}  // namespace ideal_test
