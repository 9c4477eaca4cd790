// SPDX-License-Identifier: MIT
#include <weir/llm/header_sync.hpp>

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>

namespace header_sync_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::llm::counted;
using weir::llm::header_sync;
using weir::llm::limit_report;
using weir::llm::limit_reports;
using weir::llm::quota;
using weir::llm::report_time;
using weir::llm::tokens;

using limiter = weir::llm::quota_limiter<manual_clock&>;
using time_point = manual_clock::time_point;

constexpr limit_reports of(std::initializer_list<limit_report> all) {
    limit_reports r;
    for (auto const& one : all) r.add(one);
    return r;
}
constexpr limit_report left(counted what, std::uint64_t remaining, std::optional<std::uint64_t> limit = {},
                            nanoseconds window = 60s) {
    return {.kind = what, .window = window, .limit = limit, .remaining = remaining};
}

static_assert(weir::llm::lowered({.rpm = 600, .tpm = 1000},
                                 of({left(counted::requests, 5, 60), left(counted::tokens, 5, 5000)})) ==
              quota{.rpm = 60, .tpm = 1000});
static_assert(weir::llm::reported_limits(of({left(counted::requests, 5, 60), left(counted::tokens, 5, 5000)})) ==
              quota{.rpm = 60, .tpm = 5000});
static_assert(weir::llm::lowered({.rpm = 600}, of({left(counted::requests, 0, 0)})) == quota{.rpm = 1});
static_assert(weir::llm::lowered({.rpm = 600, .rps = 10}, of({left(counted::requests, 0, 4, 1s)})) ==
              quota{.rpm = 600, .rps = 4});
// A day's limit is no minute's, nor is ten seconds'; what is not configured is not made up; the lowest of several
// counts.
static_assert(weir::llm::lowered({.rpm = 600}, of({left(counted::requests, 5, 500, 24h)})) == quota{.rpm = 600});
static_assert(weir::llm::lowered({.rpm = 600}, of({left(counted::requests, 5, 10, 10s)})) == quota{.rpm = 600});
static_assert(weir::llm::lowered({.rpm = 600}, of({left(counted::tokens, 5, 10)})) == quota{.rpm = 600});
static_assert(weir::llm::lowered({.tpm = 600}, of({left(counted::output_tokens, 5, 10)})) == quota{.tpm = 600});
static_assert(weir::llm::lowered({.rpm = 600}, of({left(counted::requests, 5, 50),
                                                   left(counted::requests, 5, 40, 0s)})) == quota{.rpm = 40});

class llm_limit_feed : public ::testing::Test {
protected:
    manual_clock clock;
    limiter fed{quota{.rpm = 600, .tpm = 100'000}, clock};
    header_sync<limiter> feed{fed};
    time_point const start = clock.now();

    auto send(time_point t, tokens n = {.input = 100, .output = 100}) {
        auto d = fed.try_acquire(n, t);
        EXPECT_TRUE(d.granted());
        auto m = feed.sent(d);
        return std::pair{std::move(d), m};
    }
};

TEST_F(llm_limit_feed, what_the_server_says_is_less_is_charged_and_ages_out_with_the_window) {
    auto const m = send(start).second;
    // 600 - 1 is what we believe.
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 400)}), start + 1s), (quota{.rpm = 199}));
    EXPECT_EQ(fed.available(start + 1s).rpm, 400U);
    EXPECT_EQ(fed.available(start + 62s).rpm, 600U);
    EXPECT_EQ(fed.available(start + 1s).tpm, 100'000U - 200);
}

TEST_F(llm_limit_feed, tokens_are_charged_in_addition_to_what_calls_hold) {
    auto const m = send(start, {.input = 100, .output = 900}).second;
    EXPECT_EQ(feed.on_response(m, of({left(counted::tokens, 40'000)}), start + 1s), (quota{.tpm = 59'000}));
    EXPECT_EQ(fed.available(start + 1s).tpm, 40'000U);
}

TEST_F(llm_limit_feed, what_is_more_or_malformed_or_of_another_thing_changes_nothing) {
    auto const m = send(start).second;
    limit_report nothing{.kind = counted::requests, .window = 60s, .limit = 5};
    EXPECT_EQ(feed.on_response(m,
                               of({left(counted::requests, 599), left(counted::requests, 1'000'000),
                                   left(counted::other, 0), left(counted::input_tokens, 0),
                                   left(counted::requests, 0, {}, 10s), left(counted::requests, 0, {}, 1s), nothing}),
                               start + 1s),
              quota{});
    EXPECT_EQ(feed.on_response(m, {}, start + 1s), quota{});
    EXPECT_EQ(fed.available(start + 1s).rpm, 599U);
}

TEST_F(llm_limit_feed, garbage_in_headers_changes_nothing) {
    auto const m = send(start).second;
    std::map<std::string, std::string, std::less<>> const fields{
        {"x-ratelimit-limit-requests", "sixty"},
        {"x-ratelimit-remaining-requests", "-1"},
        {"x-ratelimit-reset-requests", "soon"},
        {"x-ratelimit-remaining-tokens", "99999999999999999999999"},
        {"ratelimit", R"("a";r=;t=1,,;;)"}};
    auto const find = [&](std::string_view name) -> std::optional<std::string_view> {
        auto const at = fields.find(name);
        return at == fields.end() ? std::nullopt : std::optional<std::string_view>{at->second};
    };
    EXPECT_EQ(feed.on_response(m, weir::llm::read_limits(weir::llm::headers{find}, weir::llm::dialect::openai, {}),
                               start + 1s),
              quota{});
}

TEST_F(llm_limit_feed, a_report_that_comes_again_is_charged_once) {
    auto const m = send(start).second;
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 400)}), start + 1s), (quota{.rpm = 199}));
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 400)}), start + 2s), (quota{.rpm = 199}));
    EXPECT_EQ(fed.available(start + 2s).rpm, 400U);
    auto const other = send(start + 3s).second;
    EXPECT_EQ(feed.on_response(other, of({left(counted::requests, 399)}), start + 4s), (quota{.rpm = 199}));
    EXPECT_EQ(fed.available(start + 4s).rpm, 399U);
    EXPECT_EQ(
        feed.on_response(other, of({left(counted::requests, 300), left(counted::requests, 250, {}, 24h)}), start + 5s),
        (quota{.rpm = 348}));
    EXPECT_EQ(fed.available(start + 5s).rpm, 250U);
    EXPECT_EQ(feed.charged(start + 5s), (quota{.rpm = 348, .tpm = 0}));
}

TEST_F(llm_limit_feed, an_older_report_does_not_charge_again_what_a_newer_one_did) {
    auto const first = send(start).second;
    auto const second = send(start + 1s).second;
    EXPECT_EQ(feed.on_response(second, of({left(counted::requests, 398)}), start + 2s), (quota{.rpm = 200}));
    EXPECT_EQ(feed.on_response(first, of({left(counted::requests, 450)}), start + 3s), (quota{.rpm = 149}));
    EXPECT_EQ(fed.available(start + 3s).rpm, 398U);
}

TEST_F(llm_limit_feed, a_difference_stays_charged_for_a_window_after_its_last_report) {
    auto const first = send(start).second;
    feed.on_response(first, of({left(counted::requests, 499)}), start);
    auto const second = send(start + 30s).second;
    feed.on_response(second, of({left(counted::requests, 538)}), start + 30s);
    EXPECT_EQ(feed.charged(start + 59s).rpm, 100U);
    EXPECT_EQ(feed.charged(start + 60s).rpm, 60U);
    EXPECT_EQ(fed.available(start + 61s).rpm, 600U - 60 - 1);
    EXPECT_EQ(feed.charged(start + 89s).rpm, 60U);
    EXPECT_EQ(feed.charged(start + 90s).rpm, 0U);
    EXPECT_EQ(fed.available(start + 91s).rpm, 600U);
}

TEST_F(llm_limit_feed, what_outlives_its_booking_is_booked_again_in_time) {
    feed.on_response(send(start).second, of({left(counted::requests, 499)}), start);
    feed.on_response(send(start + 31s).second, of({left(counted::requests, 498)}), start + 31s);
    // The first booking would have aged out by itself.
    EXPECT_EQ(fed.available(start + 75s).rpm, 600U - 100 - 1);
    EXPECT_EQ(fed.available(start + 92s).rpm, 600U);
}

TEST_F(llm_limit_feed, a_difference_that_is_shown_again_and_again_stays_charged) {
    for (auto t = 0s; t < 600s; t += 7s) {
        auto const m = send(start + t, {.input = 1, .output = 1}).second;
        auto const own = static_cast<std::uint64_t>(std::min(t / 7s + 1, 60s / 7s + 1));
        feed.on_response(m, of({left(counted::requests, 500 - own)}), start + t + 1s);
        EXPECT_NEAR(static_cast<double>(*feed.charged(start + t + 2s).rpm), 100, 1);
        EXPECT_NEAR(static_cast<double>(*fed.available(start + t + 3s).rpm), static_cast<double>(500 - own), 2)
            << t.count();
    }
}

TEST_F(llm_limit_feed, ours_in_flight_are_in_the_report_or_not_and_charged_once_either_way) {
    header_sync<limiter> on_reply{fed, report_time::on_reply};
    auto d = fed.try_acquire({.input = 100, .output = 100}, start);
    auto const m = feed.sent(d);
    auto const n = on_reply.sent(d);
    for (int i = 0; i < 9; ++i) {
        auto later = fed.try_acquire({.input = 100, .output = 100}, start + 1s);
        (void)feed.sent(later);
        (void)on_reply.sent(later);
    }
    EXPECT_EQ(on_reply.on_response(n, of({left(counted::requests, 590), left(counted::tokens, 98'000)}), start + 2s),
              quota{});
    // One that counts on arrival has not seen them a second before they were sent.
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 590)}), start + 2s), (quota{.rpm = 9}));
}

TEST_F(llm_limit_feed, who_overtakes_within_the_jitter_is_not_taken_for_a_stranger) {
    limiter jittery{quota{.rpm = 600}, weir::llm::quota_options{.jitter = 2s}, clock};
    header_sync<limiter> hears{jittery};
    auto d = jittery.try_acquire({.input = 1, .output = 1}, start);
    auto const m = hears.sent(d);
    for (auto const after : {1s, 2s, 4s}) {
        auto later = jittery.try_acquire({.input = 1, .output = 1}, start + after);
        (void)hears.sent(later);
    }
    EXPECT_EQ(hears.on_response(m, of({left(counted::requests, 597)}), start + 5s), quota{});
    EXPECT_EQ(hears.on_response(m, of({left(counted::requests, 596)}), start + 5s), (quota{.rpm = 1}));
}

TEST_F(llm_limit_feed, stamps_out_of_order_are_counted_where_they_are_told) {
    auto late = fed.try_acquire({.input = 1, .output = 1}, start + 10s);
    auto early = fed.try_acquire({.input = 1, .output = 1}, start + 1s);
    (void)feed.sent(late);
    auto const m = feed.sent(early);
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 598)}), start + 11s), quota{});
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 590)}), start + 11s), (quota{.rpm = 8}));
}

TEST_F(llm_limit_feed, a_report_older_than_its_window_says_nothing) {
    auto const m = send(start).second;
    EXPECT_EQ(feed.on_response(m, of({left(counted::requests, 0)}), start + 60s), quota{});
    auto const other = send(start + 61s).second;
    EXPECT_EQ(feed.on_response(other, of({left(counted::requests, 0)}), start + 61s + 59s), (quota{.rpm = 599}));
    // Nor does one that came when a window's calls have gone by since.
    auto const third = send(start + 300s).second;
    (void)send(start + 400s);
    EXPECT_EQ(feed.on_response(third, of({left(counted::requests, 0)}), start + 301s), quota{});
}

TEST_F(llm_limit_feed, a_whole_reset_gives_back_what_was_fed_and_no_more) {
    auto const m = send(start).second;
    auto report = left(counted::requests, 100);
    report.reset = 10s;
    EXPECT_EQ(feed.on_response(m, of({report}), start + 1s), (quota{.rpm = 499}));
    feed.expire(start + 10s);
    EXPECT_EQ(fed.available(start + 11s - 1ms).rpm, 100U);
    feed.expire(start + 11s);
    EXPECT_EQ(fed.available(start + 12s).rpm, 599U);
    // One that restores only some gives nothing back, nor does one beyond the window.
    auto const next = send(start + 12s).second;
    report.full_reset = false;
    EXPECT_EQ(feed.on_response(next, of({report}), start + 13s), (quota{.rpm = 498}));
    auto const third = send(start + 13s).second;
    report.full_reset = true;
    report.remaining = 50;
    report.reset = 3600s;
    EXPECT_EQ(feed.on_response(third, of({report}), start + 14s), (quota{.rpm = 547}));
    feed.expire(start + 40s);
    EXPECT_EQ(fed.available(start + 40s).rpm, 50U);
}

TEST_F(llm_limit_feed, without_a_verb_of_its_own_what_was_fed_ages_out_with_the_window) {
    for (std::uint64_t i = 1; i <= 40; ++i) {
        auto const m = send(start, {.input = 1, .output = 1}).second;
        auto report = left(counted::requests, 600 - 10 * i);
        report.reset = 50s - std::chrono::seconds{i};
        EXPECT_EQ(feed.on_response(m, of({report}), start), (quota{.rpm = 9 * i}));
    }
    EXPECT_EQ(fed.available(start).rpm, 600U - 40 - 360);
    EXPECT_EQ(fed.available(start + 59s).rpm, 600U - 40 - 360);
    EXPECT_EQ(fed.available(start + 61s).rpm, 600U);
}

TEST_F(llm_limit_feed, a_denial_is_no_call) {
    limiter one{quota{.rpm = 1}, clock};
    header_sync<limiter> hears{one};
    (void)one.try_acquire({.input = 1, .output = 1}, start);
    auto denied = one.try_acquire({.input = 1, .output = 1}, start);
    EXPECT_EQ(hears.on_response(hears.sent(denied), of({left(counted::requests, 0)}), start), quota{});
    EXPECT_EQ(hears.on_response({}, of({left(counted::requests, 0)}), start), quota{});
}

// ---- a server in virtual time, shared with a stranger ----

// Counts in exact sliding windows, by arrival; tokens at the bound on arrival, corrected when the reply is complete. No
// code of weir's.
class server {
public:
    server(std::uint64_t rpm, std::uint64_t tpm) : rpm_{rpm}, tpm_{tpm} {}

    std::optional<std::size_t> arrive(nanoseconds t, std::uint64_t n) {
        forget(t);
        if (live_ + 1 > rpm_ || tokens_ + n > tpm_) return std::nullopt;
        all_.push_back({t, n});
        ++live_;
        tokens_ += n;
        return all_.size() - 1;
    }
    void complete(nanoseconds t, std::size_t i, std::uint64_t used) {
        forget(t);
        if (i >= first_) tokens_ -= all_[i].tokens - used;
        all_[i].tokens = used;
    }
    limit_reports report(nanoseconds t) {
        forget(t);
        return of({{.kind = counted::requests, .window = 60s, .limit = rpm_, .remaining = rpm_ - live_},
                   {.kind = counted::tokens, .window = 60s, .limit = tpm_, .remaining = tpm_ - tokens_}});
    }

private:
    struct record {
        nanoseconds at;
        std::uint64_t tokens;
    };
    void forget(nanoseconds t) {
        for (; first_ < all_.size() && all_[first_].at <= t - 60s; ++first_) {
            --live_;
            tokens_ -= all_[first_].tokens;
        }
    }
    std::uint64_t rpm_, tpm_, live_ = 0, tokens_ = 0;
    std::vector<record> all_{};
    std::size_t first_ = 0;
};

struct plan {
    bool feeds = true;
    report_time written = report_time::on_arrival;
    bool stranger = true;
    weir::llm::accounting accounting = weir::llm::accounting::any;
    bool by_tokens = false;  // which of the limits binds
    std::uint64_t seed = 1;
};
struct outcome {
    std::uint64_t served = 0, refused = 0, strangers = 0, granted_only_when_fed = 0, charged_in_vain = 0;
    quota fed{.rpm = 0, .tpm = 0};
};

constexpr nanoseconds jitter = 50ms;

// Ten minutes of a client that always has something to send, and of a stranger that wants two fifths of the account in
// bursts.
outcome run(plan const& p) {
    manual_clock clock;
    time_point const start = clock.now();
    constexpr std::uint64_t rpm = 600;
    std::uint64_t const tpm = p.by_tokens ? 200'000 : 10'000'000;
    weir::llm::quota_options const options{.jitter = jitter, .accounting = p.accounting};
    limiter own{quota{.rpm = rpm, .tpm = tpm}, options, clock};
    limiter unfed{quota{.rpm = rpm, .tpm = tpm}, options, clock};  // does what `own` does, and hears nothing
    header_sync<limiter> feed{own, p.written};
    server remote{rpm, tpm};
    std::mt19937_64 engine{p.seed};
    auto const among = [&](std::uint64_t least, std::uint64_t most) { return least + engine() % (most - least + 1); };
    auto const some = [&](nanoseconds least, nanoseconds most) {
        return nanoseconds{static_cast<std::int64_t>(
            among(static_cast<std::uint64_t>(least.count()), static_cast<std::uint64_t>(most.count())))};
    };

    struct call {
        limiter::decision d, shadow;
        header_sync<limiter>::mark mark;
        tokens asked;
        std::uint64_t output;
        std::optional<std::size_t> place{};
        limit_reports reports{};
    };
    enum class kind { attempt, arrival, completion, reply, stranger, stranger_done };
    using event = std::tuple<nanoseconds, std::uint64_t, kind, std::size_t>;
    std::priority_queue<event, std::vector<event>, std::greater<>> events;
    std::uint64_t order = 0;
    auto const at = [&](nanoseconds t, kind k, std::size_t i = 0) { events.emplace(t, order++, k, i); };

    std::deque<call> calls;
    outcome out;
    std::uint64_t burst = 0;
    std::deque<nanoseconds> theirs;
    nanoseconds paused{};  // after a refusal
    at(0ns, kind::attempt);
    if (p.stranger) at(1s, kind::stranger);
    while (!events.empty()) {
        auto const [t, n, k, i] = events.top();
        events.pop();
        if (t > 600s) break;
        time_point const now = start + t;
        switch (k) {
            case kind::attempt: {
                if (t < paused) {
                    at(paused, kind::attempt);
                    break;
                }
                tokens const asked{.input = among(50, 900), .output = 400};
                auto d = own.try_acquire(asked, now);
                if (!d.granted()) {
                    // A settle may let it in before.
                    at(std::min(d.retry_at() - start, t + 100ms), kind::attempt);
                    break;
                }
                auto shadow = unfed.try_acquire(asked, now);
                if (!shadow.granted()) ++out.granted_only_when_fed;
                auto const m = p.feeds ? feed.sent(d) : header_sync<limiter>::mark{};
                calls.push_back({std::move(d), std::move(shadow), m, asked, among(1, 400)});
                at(t + 20ms + some(0ns, jitter), kind::arrival, calls.size() - 1);
                at(t + some(0ns, 30ms), kind::attempt);
                break;
            }
            case kind::arrival:
                calls[i].place = remote.arrive(t, calls[i].asked.total());
                if (p.written == report_time::on_arrival || !calls[i].place) calls[i].reports = remote.report(t);
                if (!calls[i].place) {
                    ++out.refused;
                    at(t + some(10ms, 300ms), kind::reply, i);
                } else {
                    at(t + some(100ms, 9s), kind::completion, i);
                }
                break;
            case kind::completion:
                remote.complete(t, *calls[i].place, calls[i].asked.input + calls[i].output);
                if (p.written == report_time::on_reply) calls[i].reports = remote.report(t);
                ++out.served;
                at(t + some(10ms, 300ms), kind::reply, i);
                break;
            case kind::reply: {
                auto& c = calls[i];
                tokens const used = c.place ? tokens{.input = c.asked.input, .output = c.output} : tokens{};
                if (p.feeds) {
                    quota const q = feed.on_response(c.mark, c.reports, now);
                    *out.fed.rpm += q.rpm.value_or(0);
                    *out.fed.tpm += q.tpm.value_or(0);
                }
                // Of what is charged for them all was theirs, in the report's window or in the one that it stays
                // charged for.
                while (!theirs.empty() && theirs.front() < t - 130s) theirs.pop_front();
                quota const charged = feed.charged(now);
                if (*charged.rpm > theirs.size() || *charged.tpm > 500 * theirs.size()) ++out.charged_in_vain;
                (void)own.settle(c.d, used, now);
                (void)unfed.settle(c.shadow, used, now);
                if (!c.place) paused = t + 1s;
                break;
            }
            case kind::stranger: {
                if (burst == 0) burst = among(1, 40);
                auto const place = remote.arrive(t, 500);
                if (place) {
                    at(t + some(1s, 5s), kind::stranger_done, *place);
                    --burst;
                    ++out.strangers;
                    theirs.push_back(t);
                }
                at(t + (burst == 0 ? some(2s, 8s) : some(10ms, 60ms)), kind::stranger);
                break;
            }
            case kind::stranger_done: remote.complete(t, i, 450); break;
        }
    }
    return out;
}

TEST(llm_limit_feed_simulation, alone_nothing_of_ours_is_ever_taken_for_a_stranger_s) {
    for (auto const written : {report_time::on_arrival, report_time::on_reply}) {
        for (auto const accounting : {weir::llm::accounting::any, weir::llm::accounting::reserve}) {
            for (bool const by_tokens : {false, true}) {
                for (std::uint64_t seed = 1; seed <= 3; ++seed) {
                    auto const o = run({true, written, false, accounting, by_tokens, seed});
                    EXPECT_EQ(o.fed, (quota{.rpm = 0, .tpm = 0}));
                    EXPECT_EQ(o.refused, 0U);
                    EXPECT_GT(o.served, 1500U);
                }
            }
        }
    }
}

TEST(llm_limit_feed_simulation, with_a_stranger_fewer_are_refused_and_nothing_more_is_granted) {
    for (auto const written : {report_time::on_arrival, report_time::on_reply}) {
        for (bool const by_tokens : {false, true}) {
            std::uint64_t refused[2]{}, served[2]{}, strangers[2]{};
            for (std::uint64_t seed = 1; seed <= 5; ++seed) {
                for (bool const feeds : {false, true}) {
                    auto const o = run({feeds, written, true, weir::llm::accounting::any, by_tokens, seed});
                    EXPECT_EQ(o.granted_only_when_fed, 0U);
                    EXPECT_EQ(o.charged_in_vain, 0U);
                    refused[feeds] += o.refused;
                    served[feeds] += o.served;
                    strangers[feeds] += o.strangers;
                }
            }
            std::string const how = std::string{written == report_time::on_reply ? "reply_" : "arrival_"} +
                                    (by_tokens ? "tokens" : "requests");
            for (std::size_t const i : {0U, 1U}) {
                std::string const which = how + (i == 1 ? "_fed" : "_unfed");
                RecordProperty(which + "_refused", static_cast<int>(refused[i]));
                RecordProperty(which + "_served", static_cast<int>(served[i]));
                RecordProperty(which + "_strangers", static_cast<int>(strangers[i]));
            }
            EXPECT_GT(refused[0], 2000U) << how;
            EXPECT_LT(refused[1] * 4, refused[0]) << how;
            // What the account gives is used none the less.
            EXPECT_GT((served[1] + strangers[1]) * 100, (served[0] + strangers[0]) * 99) << how;
        }
    }
}

TEST_F(llm_limit_feed, where_less_is_known_than_is_charged_just_the_rest_is_given_back) {
    auto const first = send(start).second;
    feed.on_response(first, of({left(counted::requests, 600 - 1 - 10)}), start);
    clock.advance(10s);
    auto const second = send(clock.now()).second;
    auto more = left(counted::requests, 600 - 2 - 30);
    more.reset = 30s;
    more.full_reset = true;
    feed.on_response(second, of({more}), clock.now());
    EXPECT_EQ(fed.available().rpm, 600U - 2 - 30);
    clock.advance(31s);
    feed.expire(clock.now());
    EXPECT_EQ(fed.available().rpm, 600U - 2 - 10);
}

}  // namespace header_sync_test
