// SPDX-License-Identifier: MIT
// quota_limiter in every interleaving. What each execution must show: quota_world.hpp.
#include "model.hpp"
#include "program.hpp"
#include "quota_world.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace quota_limiter_model_test {

using namespace quota_world;
using namespace std::chrono_literals;
using model::coverage;

/// Both kinds of window are of so many segments then: 60 s and 119 s.
constexpr std::chrono::nanoseconds wide = 59s;

constexpr std::array all_accountings{accounting::any, accounting::actual, accounting::input_strict,
                                     accounting::reserve};
char const* name_of(accounting a) {
    switch (a) {
        case accounting::any: return "any";
        case accounting::actual: return "actual";
        case accounting::input_strict: return "input_strict";
        case accounting::reserve: break;
    }
    return "reserve";
}

void sees(options const& o, program const& p) { model::sees(o, of(p)); }

// ---- requests: each limit is one exchange ----

TEST(quota_model, requests_of_two_threads) {
    program p;
    p.limits = {.rpm = 2};
    p.threads = {{take(0, {}), take(1, {})}, {take(2, {}), take(3, {})}};
    sees(options::weak("rpm 2x2"), p);
    p.limits = {.rpm = 1};
    p.threads = {{take(0, {}), refund(0)}, {take(1, {}), take(2, {})}};
    sees(real_time("rpm 2x2, a refund"), p);
    p.limits = {.rpm = 2, .rps = 1};
    p.jitter = wide;
    p.threads = {{take(0, {}), take(1, {})}, {take(2, {}), take(3, {})}};
    sees(options::weak("rpm, rps 2x2"), p);
    p.threads = {{take(0, {}), refund(0)}, {take(1, {}), take(2, {})}};
    sees(real_time("rpm, rps 2x2, a refund"), p);
}

TEST(quota_model, requests_of_three_threads) {
    program p;
    p.limits = {.rpm = 1};
    p.threads = {{take(0, {}), refund(0)}, {take(1, {}), refund(1)}, {take(2, {})}};
    sees(real_time("rpm 3, two refunds"), p);
    p.limits = {.rpm = 2, .rps = 1};
    p.jitter = wide;
    p.threads = {{take(0, {})}, {take(1, {})}, {take(2, {})}};
    sees(options::weak("rpm, rps 3x1"), p);
}

// ---- tokens: what counts, and what is held ----

TEST(quota_model_long, one_takes_and_settles_and_another_takes) {
    for (auto const how : all_accountings) {
        program p;
        p.how = how;
        p.limits = {.tpm = 5};
        p.threads = {{take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 2})},
                     {take(1, {.input = 1, .output = 2})}};
        sees(options::weak(std::string{"take, settle | take, "} + name_of(how)), p);
    }
}

TEST(quota_model, one_settles_or_refunds_while_another_takes) {
    for (auto const how : all_accountings) {
        std::string const with = name_of(how);
        program p;
        p.how = how;
        p.limits = {.tpm = 5};
        p.before = {take(4, {.input = 1, .output = 2})};
        p.threads = {{settle(4, {.input = 1, .output = 2})},
                     {take(0, {.input = 1, .output = 2}), take(1, {.input = 1, .output = 1})}};
        sees(options::weak("settle | take, take, " + with), p);
        // Books one and gives one back: the window's word comes back to what it was.
        p.threads = {{settle(4, {.input = 0, .output = 1})},
                     {take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 2})}};
        sees(real_time("settle at less | take, settle, " + with), p);
        p.threads = {{settle(4, {.input = 3, .output = 4})},
                     {take(0, {.input = 1, .output = 1}), take(1, {.input = 1, .output = 0})}};
        sees(real_time("settle at more | take, take, " + with), p);
        p.threads = {{refund(4)}, {take(0, {.input = 1, .output = 2}), take(1, {.input = 1, .output = 1})}};
        sees(real_time("refund | take, take, " + with), p);
    }
}

TEST(quota_model, requests_and_tokens) {
    program p;
    p.limits = {.rpm = 2, .tpm = 5};
    p.threads = {{take(0, {.input = 1, .output = 2})}, {take(1, {.input = 1, .output = 2})}};
    sees(options::weak("rpm, tpm 2x1"), p);
}

// ---- what more there is to see, with few preemptions ----

program tokens_of_three() {
    program p;
    p.limits = {.tpm = 5};
    p.threads = {{take(0, {.input = 1, .output = 1})},
                 {take(1, {.input = 1, .output = 1})},
                 {take(2, {.input = 1, .output = 1})}};
    return p;
}
program settle_and_two_take() {
    program p;
    p.limits = {.tpm = 5};
    p.before = {take(4, {.input = 1, .output = 2})};
    p.threads = {{settle(4, {.input = 1, .output = 2})},
                 {take(0, {.input = 1, .output = 1})},
                 {take(1, {.input = 1, .output = 1})}};
    return p;
}
program settle_and_refund_and_take() {
    program p;
    p.limits = {.tpm = 7};
    p.before = {take(4, {.input = 1, .output = 2}), take(5, {.input = 1, .output = 0})};
    p.threads = {{settle(4, {.input = 1, .output = 2})}, {refund(5)}, {take(0, {.input = 1, .output = 2})}};
    return p;
}
program two_token_limits() {
    program p;
    p.limits = {.tpm = 6, .tps = 5};
    p.jitter = wide;
    p.threads = {{take(0, {.input = 1, .output = 2})}, {take(1, {.input = 1, .output = 2})}};
    return p;
}
program all_four() {
    program p = two_token_limits();
    p.limits = {.rpm = 3, .rps = 2, .tpm = 6, .tps = 5};
    return p;
}
program settle_and_take_later() {
    program p;
    p.limits = {.tpm = 5};
    p.before = {take(4, {.input = 1, .output = 2})};
    p.threads = {{settle(4, {.input = 1, .output = 2}, 6)}, {take(0, {.input = 1, .output = 2}, 6)}};
    return p;
}
program take_later_and_take() {
    program p = settle_and_take_later();
    p.threads = {{take(1, {.input = 1, .output = 1}, 6)}, {take(0, {.input = 1, .output = 1}, 0)}};
    return p;
}
program take_much_later_and_take() {
    program p = settle_and_take_later();
    p.threads = {{take(1, {.input = 1, .output = 2}, 66)}, {take(0, {.input = 1, .output = 2}, 0)}};
    p.later = 66 + 66;
    return p;
}
program change_tokens() {
    program p;
    p.limits = {.tpm = 5};
    p.threads = {{change({.tpm = 3}, 6)},
                 {take(0, {.input = 1, .output = 2}, 6), take(1, {.input = 1, .output = 1}, 6)}};
    return p;
}
program change_requests() {
    program p;
    p.limits = {.rpm = 2};
    p.threads = {{change({.rpm = 1}, 6)}, {take(0, {}, 6), take(1, {}, 6)}};
    return p;
}
/// Two race for what one has room for, while a third brings the window's word back to what it was.
program two_take_and_the_word_comes_back() {
    program p;
    p.limits = {.tpm = 5};
    p.before = {take(5, {.input = 1, .output = 0})};
    p.threads = {{refund(5)}, {take(0, {.input = 1, .output = 2})}, {take(1, {.input = 1, .output = 2})}};
    return p;
}

TEST(quota_model_long, tokens_and_refunds_of_three_threads) {
    auto o = real_time("settle | refund | take");
    o.spurious = 0;
    sees(o, settle_and_refund_and_take());
    sees(few("take | take | refund", 2), two_take_and_the_word_comes_back());
}

TEST(quota_model_long, two_token_limits_share_what_is_held) {
    sees(options::sc("tpm, tps 2x1"), two_token_limits());
    sees(few("tpm, tps 2x1, weak", 2), two_token_limits());
}

TEST(quota_model, a_segment_ends) {
    sees(options::sc("settle | take, in the next segment"), settle_and_take_later());
    sees(few("settle | take, in the next segment, weak", 1), settle_and_take_later());
    sees(few("take a window later | take", 1), take_much_later_and_take());
}

TEST(quota_model, the_limits_change) {
    sees(few("change tpm | take, take", 1, 0), change_tokens());
    sees(few("change rpm | take, take", 1), change_requests());
}

// ---- callers that stop forever ----

/// `count` threads stop forever, each after any number of steps; the others end.
void stands_still(std::string const& name, program p, unsigned count, options o) {
    o.name = name;
    p.later = 300;  // what they charged has aged out by then
    model::sees(model::explore_frozen(o, static_cast<unsigned>(p.threads.size()), count, of(p)), model::whole(o));
}

TEST(quota_model, a_caller_stopped_anywhere_blocks_no_other_and_its_charge_ages_out) {
    program p;
    p.limits = {.rpm = 2};
    p.threads = {{take(0, {}), refund(0)}, {take(1, {}), take(2, {})}};
    stands_still("rpm", p, 1, options::weak(""));
    p.limits = {.tpm = 5};
    p.threads = {{take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 2})},
                 {take(1, {.input = 1, .output = 2})}};
    stands_still("tpm", p, 1, few("", 1, 0));
}

// ---- the orders that two counters need which share a limit ----

/// The lines of a header of the counter's protocol.
std::vector<std::string> lines_of(std::string const& header) {
    std::ifstream file{"../../include/weir/detail/" + header};
    std::vector<std::string> all;
    for (std::string line; std::getline(file, line);) all.push_back(line);
    return all;
}

/// Whether the comment at an access, at most three lines above it, begins with this number.
bool is_numbered(std::vector<std::string> const& lines, model::site const& s, std::string const& number) {
    for (std::size_t i = s.line; i != 0 && i + 4 > s.line; --i) {
        auto const at = lines[i - 1].find("// (");
        if (at != std::string::npos) return lines[i - 1].compare(at + 3, number.size(), number) == 0;
    }
    return false;
}

TEST(quota_model, the_claims_and_the_refunds_orders_are_earned) {
    // (3): a claim without release hides its hold from the next one, without acquire it misses the hold of the one
    // before; seen where the word comes back. (9): a thread that sees a hold end must see what it became.
    program p;
    p.limits = {.tpm = 5};
    p.threads = {{take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 2})},
                 {take(1, {.input = 1, .output = 2})}};
    std::vector<model::trial> const trials{
        {"take, settle | take", [&p] { return explore(options::weak("take, settle | take", 0), p); }},
        {"take | take | refund",
         [] { return explore(few("take | take | refund", 2, 0), two_take_and_the_word_comes_back()); }}};
    auto const attempts = lines_of("window_counter.hpp");
    auto const segments = lines_of("window_segments.hpp");
    ASSERT_FALSE(attempts.empty() || segments.empty());
    std::size_t claims = 0;
    std::size_t refunds = 0;
    for (auto const& s : model::sites_of({"window_counter.hpp", "window_segments.hpp"}, trials)) {
        bool const in_attempts = s.file == "window_counter.hpp";
        bool const claim = in_attempts && is_numbered(attempts, s, "(3)");
        bool const gives_back = !in_attempts && is_numbered(segments, s, "(9)");
        if (!claim && !gives_back) continue;
        (claim ? claims : refunds) += 1;
        for (auto const& e : model::weaken(s, trials)) {
            std::cout << e.what << ": " << e.noticed_by << std::endl;
            EXPECT_FALSE(e.noticed_by.empty()) << e.what;
        }
    }
    EXPECT_EQ(claims, 1U);
    EXPECT_EQ(refunds, 1U);
}

// ---- long ----

TEST(quota_model_long, tokens_of_three_threads) {
    sees(few("take | take | take", 2, 0), tokens_of_three());
    sees(few("settle | take | take", 2), settle_and_two_take());
}

TEST(quota_model_long, settle_at_less_or_refund_and_take_again) {
    for (auto const how : {accounting::any, accounting::actual, accounting::reserve}) {
        program p;
        p.how = how;
        p.limits = {.tpm = 5};
        p.threads = {{take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 1})},
                     {take(1, {.input = 1, .output = 2})}};
        sees(real_time(std::string{"take, settle at less | take, "} + name_of(how)), p);
        p.threads = {{take(0, {.input = 1, .output = 2}), refund(0)}, {take(1, {.input = 1, .output = 2})}};
        sees(real_time(std::string{"take, refund | take, "} + name_of(how)), p);
    }
}

TEST(quota_model_long, two_by_two) {
    program p;
    p.limits = {.tpm = 5};
    p.threads = {{take(0, {.input = 1, .output = 2}), settle(0, {.input = 1, .output = 2})},
                 {take(1, {.input = 1, .output = 2}), settle(1, {.input = 1, .output = 2})}};
    sees(options::weak("take, settle | take, settle"), p);
}

TEST(quota_model_long, all_four_limits) {
    sees(options::sc("all four 2x1"), all_four());
    sees(few("all four 2x1, weak", 2), all_four());
}

TEST(quota_model_long, a_segment_ends) {
    sees(few("settle | take, in the next segment", 2, 0), settle_and_take_later());
    sees(few("take in the next segment | take", 1, 0), take_later_and_take());
    sees(few("take a window later | take", 2, 0), take_much_later_and_take());
}

TEST(quota_model_long, a_caller_stopped_where_a_segment_ends_or_limits_change_blocks_none) {
    auto const one = few("", 1, 0);
    stands_still("a segment ends", take_much_later_and_take(), 1, one);
    stands_still("change", change_tokens(), 1, one);
}

TEST(quota_model_long, two_stopped_callers_block_no_other) {
    program p;
    p.limits = {.rpm = 2, .rps = 1};
    p.jitter = wide;
    p.threads = {{take(0, {})}, {take(1, {})}, {take(2, {})}};
    p.later = 0;
    stands_still("rpm, rps", p, 2, options::sc(""));
    stands_still("settle | refund | take", settle_and_refund_and_take(), 2, few("", 0, 0));
}

}  // namespace quota_limiter_model_test
