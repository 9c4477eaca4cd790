// SPDX-License-Identifier: MIT
//
// Sessions against a server in virtual time: discrete events on a manual_clock. The server's judge, its burst
// protection and the ideal share no code with weir; its books say what arrived, what was answered, and that nothing was
// sent again after that.
#include <weir/backoff.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "../../examples/simulator/burst_guard.hpp"
#include "../support/ideal.hpp"
#include "../support/manual_session.hpp"
#include "../support/quota_judge.hpp"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::llm::tokens;
using time_point = manual_clock::time_point;
namespace llm = weir::llm;
using pool = llm::account_pool<manual_clock&>;
using chain = llm::fallback_chain<pool>;
using session = llm::session<pool>;
using llm::call_end;

double seconds(nanoseconds d) { return std::chrono::duration<double>{d}.count(); }

// The same with every standard library.
class draws {
public:
    explicit draws(std::uint64_t seed) : engine_{seed} {}
    std::uint64_t among(std::uint64_t least, std::uint64_t most) { return least + engine_() % (most - least + 1); }
    nanoseconds among(nanoseconds least, nanoseconds most) {
        return nanoseconds{static_cast<std::int64_t>(
            among(static_cast<std::uint64_t>(least.count()), static_cast<std::uint64_t>(most.count())))};
    }
    // Anywhere, and often at either end, where a margin is tried hardest.
    nanoseconds jitter(nanoseconds most) {
        switch (among(0, 3)) {
            case 0: return 0ns;
            case 1: return most;
            default: return among(0ns, most);
        }
    }

private:
    std::mt19937_64 engine_;
};

struct work {
    tokens used{};
    std::uint64_t bound = 0;  // of the output
    nanoseconds latency{};
    session::request facts{};
};

std::vector<work> batch(std::size_t n, std::uint64_t seed, std::pair<std::uint64_t, std::uint64_t> input = {30, 80},
                        std::pair<std::uint64_t, std::uint64_t> output = {30, 180}, std::uint64_t bound = 200) {
    draws random{seed};
    std::vector<work> all(n);
    for (auto& w : all) {
        w.used = {.input = random.among(input.first, input.second),
                  .output = random.among(output.first, output.second)};
        w.bound = bound;
        w.latency = random.among(200ms, 800ms) + static_cast<std::int64_t>(w.used.output) * random.among(10ms, 25ms);
        w.facts.bound = tokens{.input = w.used.input, .output = bound};
    }
    return all;
}

// What the server says of a request that it will not serve.
struct refusal {
    int status = 0;
    std::string_view code{}, message{}, retry_after{};
};
constexpr refusal too_many{429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.", {}};
constexpr refusal too_many_tokens{
    429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details.", {}};
constexpr refusal too_fast{429, "Throttling.BurstRate", "Request rate increased too quickly.", {}};
constexpr refusal in_arrears{400, "Arrearage", "Access denied, please make sure your account is in good standing.", {}};
constexpr refusal free_tier{403, "AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted.", {}};
constexpr refusal down{503,
                       "ModelServingError",
                       "Too many requests. Your requests are being throttled due to system capacity limits.",
                       {}};

class world {
public:
    struct settings {
        nanoseconds delay = 30ms;
        nanoseconds jitter = 0ns;  // of the way there
        llm::dialect dialect = llm::dialect::dashscope;
        std::uint64_t seed = 1;
    };
    // A program that has calls to make, all at once.
    struct process {
        explicit process(world& w) : owner{w} {}
        // An account by each letter, with a quota each.
        pool& model(std::string const& name, std::string_view accounts, weir::llm::quota q,
                    weir::llm::quota_options o = {}) {
            pools.emplace_back();
            for (char const a : accounts) add_key(pools.back(), name, a, std::string{"key "} + a, q, o);
            models.add(name, pools.back());
            return pools.back();
        }
        void add_key(pool& p, std::string const& name, char account, std::string key, weir::llm::quota q,
                     weir::llm::quota_options o = {}) {
            p.add({"e", std::string(1, account), "r", name}, std::move(key), q, o, 0, owner.clock);
        }
        void open(llm::session_options o) { s.emplace(models, o, owner.clock); }

        world& owner;
        std::list<pool> pools;
        chain models;
        std::optional<session> s;
        std::vector<work> todo;
        std::vector<std::unique_ptr<session::call>> calls;
        std::set<std::size_t> ready;  // in the order of the line
        std::uint64_t wake = 0;
        std::size_t first_id = 0;
    };

    // What a stretch of time saw.
    struct figures {
        std::uint64_t arrived = 0, refused = 0, served = 0;
        std::map<std::string_view, std::uint64_t> codes{};
        time_point first = time_point::max(), last{};
        double share_refused() const {
            return arrived == 0 ? 0 : static_cast<double>(refused) / static_cast<double>(arrived);
        }
    };

    world() : world{settings{}} {}
    explicit world(settings s, qwen::judge_settings j = {.derive_rps = false}, qwen::burst_settings b = {})
        : s_{s}, random_{s.seed * 7919 + 1}, judge{j}, guard{b} {}

    process& add(std::vector<work> todo) {
        processes_.emplace_back(*this);
        processes_.back().todo = std::move(todo);
        return processes_.back();
    }
    void begin() {
        for (auto& p : processes_) {
            p.first_id = books_.size();
            books_.resize(books_.size() + p.todo.size());
            for (std::size_t i = 0; i < p.todo.size(); ++i) {
                p.calls.push_back(std::make_unique<session::call>(*p.s, p.todo[i].facts));
                p.ready.insert(i);
            }
            at(clock.now(), [this, &p] { pump(p); });
        }
    }
    // Until there is nothing left to happen.
    void finish() {
        while (step(time_point::max())) {
        }
    }
    figures run_for(nanoseconds d) {
        auto const end = clock.now() + d;
        figures const before = std::exchange(now_, {});
        while (step(end)) {
        }
        clock.advance_to(end);
        figures const mine = std::exchange(now_, before);
        now_.arrived += mine.arrived;
        now_.refused += mine.refused;
        now_.served += mine.served;
        for (auto const& [c, n] : mine.codes) now_.codes[c] += n;
        now_.first = std::min(now_.first, mine.first);
        now_.last = std::max(now_.last, mine.last);
        return mine;
    }
    void at(time_point t, std::function<void()> f) { events_.push({t, order_++, std::move(f)}); }

    /// Nothing is lost, nothing is sent again after it was answered, each failure says why.
    void expect_honest_books() {
        for (auto& p : processes_) {
            std::uint64_t answered = 0;
            for (std::size_t i = 0; i < p.calls.size(); ++i) {
                auto const& r = p.calls[i]->result();
                auto const& b = books_[p.first_id + i];
                ASSERT_TRUE(p.calls[i]->over()) << i << " is lost";
                EXPECT_LE(b.served, 1U) << i;
                EXPECT_EQ(b.after_served, 0U) << i << " was sent again after its answer";
                EXPECT_EQ(b.arrived, r.attempts) << i;
                if (r.answered()) {
                    ++answered;
                    EXPECT_EQ(b.served, 1U) << i;
                    EXPECT_EQ(r.used, p.todo[i].used) << i;
                } else {
                    EXPECT_EQ(b.served, 0U) << i << " was served, and is called " << to_string(r.status);
                    EXPECT_FALSE(r.reason.empty()) << i << " does not say why: " << to_string(r.status);
                }
            }
            auto const& n = p.s->counters();
            using counted = llm::counted_event;
            EXPECT_EQ(n[counted::answered], answered);
            EXPECT_EQ(n[counted::calls], n[counted::answered] + n[counted::failed]);
            EXPECT_EQ(n[counted::attempts], n[counted::ended_attempts]);
            EXPECT_EQ(n.in_flight(), 0U);
        }
    }
    std::map<std::string, std::size_t> ends() const {
        std::map<std::string, std::size_t> n;
        for (auto const& p : processes_) {
            for (auto const& c : p.calls)
                ++n[std::string{to_string(c->result().status)} +
                    (c->result().reason.empty() ? "" : ": " + std::string{c->result().reason})];
        }
        return n;
    }
    std::size_t answered() const {
        std::size_t n = 0;
        for (auto const& p : processes_) {
            for (auto const& c : p.calls) n += c->result().answered() ? 1 : 0;
        }
        return n;
    }
    figures const& all() const { return now_; }
    double length() const { return now_.served == 0 ? 0 : seconds(now_.last - now_.first); }

    manual_clock clock{time_point{1000s}};

private:
    settings s_;
    draws random_;

public:
    qwen::quota_judge judge;
    qwen::burst_guard guard;
    // What the server says to (account, model, time) before it looks at quotas, where it says something.
    std::function<std::optional<refusal>(std::string const&, std::string const&)> gate{};
    std::function<void(llm::reply&, session::call&)> on_answer{};

private:
    struct event {
        time_point when;
        std::uint64_t order;
        std::function<void()> what;
        bool operator<(event const& o) const { return std::tie(when, order) > std::tie(o.when, o.order); }
    };
    struct book {
        std::uint64_t arrived = 0, served = 0, after_served = 0;
    };

    bool step(time_point end) {
        if (events_.empty() || events_.top().when > end) return false;
        auto e = events_.top();
        events_.pop();
        clock.advance_to(e.when);
        e.what();
        return true;
    }

    // The first in the queue asks; a call that pauses leaves the queue and returns to its position.
    void pump(process& p) {
        auto const me = ++p.wake;
        while (!p.ready.empty()) {
            std::size_t const i = *p.ready.begin();
            auto const step = p.calls[i]->next();
            switch (step.kind) {
                case llm::step_kind::send:
                    p.ready.erase(i);
                    at(clock.now() + s_.delay + random_.jitter(s_.jitter), [this, &p, i] { arrive(p, i); });
                    break;
                case llm::step_kind::over: p.ready.erase(i); break;
                case llm::step_kind::pause:
                    ASSERT_GT(step.until, clock.now());
                    ASSERT_LT(step.until, clock.now() + 24h) << "pauses without end";
                    p.ready.erase(i);
                    at(step.until, [this, &p, i] {
                        p.ready.insert(i);
                        pump(p);
                    });
                    break;
                case llm::step_kind::wait:
                    ASSERT_GT(step.until, clock.now());
                    ASSERT_LT(step.until, clock.now() + 24h) << "waits without end: " << step.reason;
                    at(step.until, [this, &p, me] {
                        if (p.wake == me) pump(p);
                    });
                    return;
            }
        }
    }

    std::optional<refusal> judged(std::string const& account, std::string const& model, work const& w,
                                  std::uint64_t& ticket) {
        if (gate) {
            if (auto r = gate(account, model)) return r;
        }
        auto const now = clock.now().time_since_epoch().count();
        if (guard.settings().on && guard.arrive(account, model, now).is != qwen::burst_guard::answer::passes)
            return too_fast;
        auto const v = judge.arrive(account, model, now, w.used.input, w.bound);
        if (!v.admitted)
            return v.rule == qwen::server_rule::rps || v.rule == qwen::server_rule::rpm ? too_many : too_many_tokens;
        ticket = v.ticket;
        return std::nullopt;
    }

    void arrive(process& p, std::size_t i) {
        auto& call = *p.calls[i];
        auto& b = books_[p.first_id + i];
        ++b.arrived;
        b.after_served += b.served;
        ++now_.arrived;
        now_.first = std::min(now_.first, clock.now());
        std::uint64_t ticket = 0;
        auto const no = judged(call.account().account, std::string{call.model()}, p.todo[i], ticket);
        if (no) {
            ++now_.refused;
            ++now_.codes[no->code];
            at(clock.now() + s_.delay, [this, &p, i, r = *no] { refused(p, i, r); });
            return;
        }
        ++b.served;
        ++now_.served;
        now_.last = std::max(now_.last, clock.now());
        at(clock.now() + p.todo[i].latency, [this, ticket, out = p.todo[i].used.output] {
            EXPECT_TRUE(judge.complete(ticket, clock.now().time_since_epoch().count(), out));
        });
        at(clock.now() + p.todo[i].latency + s_.delay, [this, &p, i, sent = clock.now()] {
            llm::reply r;
            r.answer.dialect = s_.dialect;
            r.answer.status = 200;
            r.answer.now = std::chrono::sys_seconds{std::chrono::sys_days{std::chrono::year{2026} / 3 / 1}};
            r.used = p.todo[i].used;
            r.arrived = sent.time_since_epoch();
            p.calls[i]->ended(r);
            pump(p);
        });
    }
    void refused(process& p, std::size_t i, refusal const& no) {
        auto const find = [&](std::string_view name) -> std::optional<std::string_view> {
            if (name == "retry-after" && !no.retry_after.empty()) return no.retry_after;
            return std::nullopt;
        };
        llm::reply r;
        r.answer.dialect = s_.dialect;
        r.answer.status = no.status;
        r.answer.code = no.code;
        r.answer.message = no.message;
        r.answer.headers = find;
        r.answer.now = std::chrono::sys_seconds{std::chrono::sys_days{std::chrono::year{2026} / 3 / 1}};
        p.calls[i]->ended(r);
        if (!p.calls[i]->over()) p.ready.insert(i);
        pump(p);
    }

    std::list<process> processes_;
    std::vector<book> books_;
    std::priority_queue<event> events_;
    std::uint64_t order_ = 0;
    figures now_;
};

double ideal_seconds(std::vector<work> const& calls, weir::llm::quota const& q) {
    std::vector<qwen::ideal_call> them;
    for (auto const& c : calls) them.push_back({c.used.input, c.used.output, c.bound, seconds(c.latency)});
    return qwen::ideal_time(them, {q.rpm, q.rps, q.tpm, q.tps});
}

void show(char const* what, world const& w, double ideal = 0) {
    auto const& f = w.all();
    std::printf("%-58s %7.1f s, %6zu answered, %5llu refused (%.2f%%)", what, w.length(), w.answered(),
                static_cast<unsigned long long>(f.refused), 100 * f.share_refused());
    if (ideal > 0) std::printf(", %.1f%% of the ideal", 100 * ideal / w.length());
    std::printf("\n");
    for (auto const& [how, n] : w.ends()) {
        if (how != "answered") std::printf("    %zu: %s\n", n, how.c_str());
    }
}

constexpr weir::llm::quota large{.rpm = 600, .rps = 10, .tpm = 1'000'000};
qwen::server_limits served(weir::llm::quota const& q) { return {q.rpm, q.rps, q.tpm, q.tps}; }

// Patient: what is refused is asked for again for an hour.
constexpr weir::backoff patient{.base = 1s, .cap = 10s, .attempts = 100, .budget = 1h, .jitter = weir::jitter::equal};

// ---- (1) ----

TEST(llm_session_simulation, an_exact_client_gets_the_ceiling_and_no_refusal) {
    for (auto const jitter : {0ms, 10ms}) {
        world w{{.jitter = jitter}};
        w.judge.set_limits("m", served(large));
        auto const calls = batch(6000, 1);
        auto& p = w.add(calls);
        p.model("m", "a", large, {.jitter = jitter});
        p.open({});
        w.begin();
        w.finish();
        double const ideal = ideal_seconds(calls, large);
        show(jitter == 0ms ? "exact, 10 min" : "exact, 10 min, jitter and margin of 10 ms", w, ideal);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 6000U);
        EXPECT_EQ(w.all().refused, 0U);
        EXPECT_GE(ideal / w.length(), jitter == 0ms ? 0.99 : 0.98);
        EXPECT_LE(ideal / w.length(), 1.001);
        // Of min(RPM, RPS·60), from the first second to the last.
        if (jitter == 0ms) {
            EXPECT_GE(6000 / (w.length() / 60 + 1.0 / 60), 594);
        }
    }
}

// ---- (2) ----

TEST(llm_session_simulation, two_keys_of_an_account_gain_nothing_and_two_accounts_double) {
    auto const run = [](char const* what, int keys, std::string_view accounts) {
        world w;
        w.judge.set_limits("m", served(large));
        auto& p = w.add(batch(3000, 2));
        auto& members = p.model("m", accounts, large);
        for (int k = 1; k < keys; ++k) p.add_key(members, "m", 'a', "another", large);
        p.open({});
        w.begin();
        w.finish();
        show(what, w);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 3000U);
        EXPECT_EQ(w.all().refused, 0U);
        return w.length();
    };
    double const one = run("one account, one key", 1, "a");
    double const keys = run("one account, two keys", 2, "a");
    double const two = run("two accounts", 1, "ab");
    EXPECT_NEAR(keys / one, 1, 0.001);
    EXPECT_NEAR(two / one, 0.5, 0.01);
}

// ---- (3) ----

TEST(llm_session_simulation, a_request_above_tps_goes_alone_and_one_above_tpm_ends_at_once) {
    for (auto const mode : {qwen::token_mode::actual, qwen::token_mode::input_strict, qwen::token_mode::reserve}) {
        constexpr weir::llm::quota q{.rpm = 60, .tpm = 100'000, .tps = 1'667};
        for (bool const alone : {true, false}) {
            world w{{}, {.tokens = mode, .derive_rps = false}};
            w.judge.set_limits("m", served(q));
            auto calls = batch(60, 3, {100, 1000}, {50, 150}, 160);
            calls[20].used.input = 5000;
            calls[20].facts.bound = tokens{.input = 5000, .output = 160};
            calls[40].used.input = 120'000;
            calls[40].facts.bound = tokens{.input = 120'000, .output = 160};
            auto& p = w.add(calls);
            p.model("m", "a", q, {.oversize = alone ? weir::llm::oversize::alone : weir::llm::oversize::refuse});
            p.open({.retry = {.attempts = 3}});
            w.begin();
            w.finish();
            show(alone ? "one above TPS, one above TPM; alone" : "one above TPS, one above TPM; refused here", w);
            w.expect_honest_books();
            // What is above TPM is let go alone, for servers that take it then; one that never does says so three
            // times.
            bool const taken = mode == qwen::token_mode::actual;
            EXPECT_EQ(w.all().refused, alone && !taken ? 3U : 0U) << to_string(mode);
            EXPECT_EQ(w.answered(), !alone ? 58U : taken ? 60U : 59U);
            EXPECT_EQ(p.calls[20]->result().answered(), alone);
            if (alone) {
                EXPECT_EQ(p.calls[40]->result().status, taken ? call_end::answered : call_end::exhausted);
            } else {
                EXPECT_EQ(p.calls[20]->result().status, call_end::never);
                EXPECT_EQ(p.calls[20]->result().reason, "tokens per second");
                EXPECT_EQ(p.calls[40]->result().status, call_end::never);
                EXPECT_EQ(p.calls[40]->result().attempts, 0U);
            }
        }
    }
}

// ---- (4) ----

TEST(llm_session_simulation, outputs_ten_times_as_long_as_thought_cause_no_storm_and_are_learnt) {
    constexpr weir::llm::quota q{.rpm = 600, .rps = 10, .tpm = 100'000};
    for (auto const latency : {5s, 20s}) {
        world w;
        w.judge.set_limits("m", served(q));
        auto calls = batch(1200, 4, {40, 60}, {900, 1100}, 0);
        for (auto& c : calls) {
            c.facts.bound.reset();
            c.facts.size = {.ascii = 150, .bytes = 150, .messages = 1};
            c.latency = latency;
        }
        auto& p = w.add(calls);
        p.model("m", "a", q);
        p.open({.retry = patient, .default_output = 100});
        w.begin();
        auto const first = w.run_for(1min);
        auto const second = w.run_for(1min);
        auto const third = w.run_for(5min);
        w.finish();
        show(latency == 5s ? "outputs misjudged 10 times, answers take 5 s"
                           : "outputs misjudged 10 times, answers take 20 s",
             w);
        std::printf(
            "    refused in the first minute %llu, the second %llu, later %llu; served %llu, %llu, then %.1f a minute "
            "of 95\n",
            static_cast<unsigned long long>(first.refused), static_cast<unsigned long long>(second.refused),
            static_cast<unsigned long long>(w.all().refused - first.refused - second.refused),
            static_cast<unsigned long long>(first.served), static_cast<unsigned long long>(second.served),
            static_cast<double>(third.served) / 5);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 1200U);
        EXPECT_LE(first.refused, 5U);
        EXPECT_EQ(w.all().refused - first.refused, 0U);
        // What is held while answers are on their way costs as quota_limiter.hpp says: 1050·60/(1050·60 +
        // 1050·latency).
        double const holds = 60 / (60 + seconds(latency));
        EXPECT_GE(static_cast<double>(third.served) / 5, 0.85 * holds * 100'000 / 1050);
    }
}

// ---- (5) ----

TEST(llm_session_simulation, a_cold_start_at_full_rate_is_refused_and_a_ramp_is_not) {
    constexpr weir::llm::quota q{.rpm = 6000, .rps = 100};
    auto const run = [&](char const* what, bool ramp) {
        world w{{},
                {.derive_rps = false},
                {.on = true, .least_floor = 3, .most_floor = 6, .least_growth = 1.6, .most_growth = 2.5}};
        w.judge.set_limits("m", served(q));
        auto& p = w.add(batch(6000, 5));
        p.model("m", "a", q);
        llm::session_options o{.retry = patient};
        // No more than the server's least, which is not exceeded by learning.
        if (ramp) o.ramp = weir::ramp_options{.first = 3, .max_first = 3, .growth = 160, .max_growth = 160};
        p.open(o);
        w.begin();
        w.finish();
        show(what, w);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 6000U);
        return w.all().refused;
    };
    EXPECT_GT(run("cold start at full rate, burst protection", false), 100U);
    EXPECT_EQ(run("cold start with a ramp", true), 0U);
}

// ---- (6) ----

TEST(llm_session_simulation, retry_after_of_21_days_turns_to_the_fallback_at_once) {
    world w;
    w.judge.set_limits("n", served(large));
    w.gate = [](std::string const&, std::string const& model) -> std::optional<refusal> {
        if (model == "m")
            return refusal{429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.",
                           "1814400"};
        return std::nullopt;
    };
    auto& p = w.add(batch(300, 6));
    p.model("m", "a", large);
    p.model("n", "a", large);
    p.open({});
    w.begin();
    w.finish();
    show("Retry-After of 21 days, with a fallback", w);
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 300U);
    EXPECT_LE(w.all().refused, 10U);  // that were under way when the first was told
    EXPECT_LT(w.length(), 31);

    world alone;
    alone.gate = w.gate;
    auto& q = alone.add(batch(300, 6));
    q.model("m", "a", large);
    q.open({});
    alone.begin();
    alone.finish();
    show("Retry-After of 21 days, and no other way", alone);
    alone.expect_honest_books();
    EXPECT_EQ(alone.answered(), 0U);
    EXPECT_EQ(alone.ends().size(), 1U);
    EXPECT_LT(seconds(alone.clock.now() - time_point{1000s}), 31);
}

// ---- (7) ----

TEST(llm_session_simulation, insufficient_quota_is_retried_here_and_a_bill_in_the_dialect_of_openai) {
    // The server counts less than the client was told.
    constexpr weir::llm::quota told{.rpm = 600, .rps = 10, .tpm = 50'000};
    for (auto const dialect : {llm::dialect::dashscope, llm::dialect::openai}) {
        world w{{.dialect = dialect}};
        w.judge.set_limits("m", {.tpm = 40'000});
        auto& p = w.add(batch(500, 7, {400, 600}, {50, 100}, 100));
        p.model("m", "a", told);
        p.open({.retry = patient, .adaptive = llm::adaptive_range{}});
        w.begin();
        w.finish();
        bool const here = dialect == llm::dialect::dashscope;
        show(here ? "insufficient_quota, DashScope" : "insufficient_quota, OpenAI", w);
        w.expect_honest_books();
        EXPECT_GT(w.all().refused, 0U);
        if (here) {
            EXPECT_EQ(w.answered(), 500U);
        } else {
            EXPECT_LT(w.answered(), 500U);
            EXPECT_EQ(w.ends()["refused: the account is out of credit"], 500 - w.answered());
        }
    }
}

// ---- (8) ----

TEST(llm_session_simulation, jitter_of_200_ms_is_refused_without_the_margin_and_never_with_it) {
    for (auto const margin : {0ms, 200ms}) {
        world w{{.jitter = 200ms}};
        w.judge.set_limits("m", served(large));
        auto& p = w.add(batch(3000, 8));
        p.model("m", "a", large, {.jitter = margin});
        p.open({.retry = patient});
        w.begin();
        w.finish();
        show(margin == 0ms ? "jitter 0 to 200 ms, no margin" : "jitter 0 to 200 ms, margin 200 ms", w,
             ideal_seconds(p.todo, large));
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 3000U);
        if (margin == 0ms) {
            EXPECT_GT(w.all().refused, 0U);
        } else {
            EXPECT_EQ(w.all().refused, 0U);
        }
        // What was measured is the margin that the next run needs.
        EXPECT_GE(p.s->jitter(0, 0), 200ms);
        EXPECT_LE(p.s->jitter(0, 0), 260ms);
    }
}

// ---- (9) ----

struct kind {
    char const* name;
    weir::llm::quota whole, half;
    std::pair<std::uint64_t, std::uint64_t> input, output;
    std::uint64_t bound;
    double per_minute;  // calls of the whole
};
kind const kinds[] = {
    {"RPM 600", {.rpm = 600, .rps = 10}, {.rpm = 300, .rps = 5}, {30, 80}, {30, 180}, 200, 600},
    {"TPM 1,000,000",
     {.rpm = 600, .tpm = 1'000'000},
     {.rpm = 600, .tpm = 500'000},
     {3000, 3000},
     {100, 100},
     100,
     1'000'000.0 / 3100},
};

TEST(llm_session_simulation, a_limit_halved_while_running_is_found_and_so_is_its_return) {
    for (auto const& k : kinds) {
        for (bool const adaptive : {true, false}) {
            world w{{.jitter = 10ms}};
            w.judge.set_limits("m", served(k.whole));
            auto& p = w.add(batch(static_cast<std::size_t>(k.per_minute * 22), 9, k.input, k.output, k.bound));
            p.model("m", "a", k.whole, {.jitter = 10ms});
            llm::session_options o{.retry = patient};
            if (adaptive) o.adaptive = llm::adaptive_range{};
            p.open(o);
            w.begin();
            w.run_for(5min);
            w.judge.set_limits("m", served(k.half));
            auto const finding = w.run_for(3min);
            auto const half = w.run_for(7min);
            w.judge.set_limits("m", served(k.whole));
            auto const climbing = w.run_for(4min);
            auto const back = w.run_for(3min);
            w.finish();
            show(
                (std::string{k.name} + " halved for 10 min and restored" + (adaptive ? ", adaptive" : ", not adaptive"))
                    .c_str(),
                w);
            auto const part = [&](world::figures const& f, double minutes, double of) {
                return 100 * static_cast<double>(f.served) / (minutes * k.per_minute * of);
            };
            std::printf(
                "    halved: at first %.0f%% of it with %.2f%% refused, then %.0f%% with %.2f%%; restored: at first "
                "%.0f%%, then %.0f%% with %.2f%% refused\n",
                part(finding, 3, 0.5), 100 * finding.share_refused(), part(half, 7, 0.5), 100 * half.share_refused(),
                part(climbing, 4, 1), part(back, 3, 1), 100 * back.share_refused());
            w.expect_honest_books();
            if (adaptive) {
                EXPECT_EQ(w.answered(), p.todo.size());
                EXPECT_LT(half.share_refused(), 0.01);
                EXPECT_GE(part(half, 7, 0.5), 90);
                EXPECT_GE(part(back, 3, 1), 90);
            }
        }
    }
}

// ---- (10) ----

TEST(llm_session_simulation, two_processes_share_an_account_well_without_knowing_each_other) {
    for (auto const& k : kinds) {
        // By draws it is 95% and a spread of 2: the promise is that of the mean, and no draw is far from it.
        constexpr std::uint64_t seeds = 6;
        double mean = 0;
        for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
            world w{{.jitter = 10ms, .seed = seed}};
            w.judge.set_limits("m", served(k.whole));
            std::size_t all = 0;
            for (std::uint64_t i = 0; i < 2; ++i) {
                auto& p = w.add(
                    batch(static_cast<std::size_t>(k.per_minute * 32), 10 * seed + i, k.input, k.output, k.bound));
                p.model("m", "a", k.whole, {.jitter = 10ms});
                p.open({.retry = patient, .adaptive = llm::adaptive_range{}, .seed = seed * 100 + i});
                all += p.todo.size();
            }
            w.begin();
            auto const converging = w.run_for(10min);
            auto const f = w.run_for(20min);
            double const goodput = 100 * static_cast<double>(f.served) / (20 * k.per_minute);
            std::printf("%-58s goodput of the pair %.1f%%, refused %.2f%% (in the first 10 min %.2f%%)\n",
                        (std::string{"two processes, "} + k.name).c_str(), goodput, 100 * f.share_refused(),
                        100 * converging.share_refused());
            EXPECT_GE(goodput, 85);
            mean += goodput / static_cast<double>(seeds);
            EXPECT_LT(f.share_refused(), 0.01);
            w.finish();
            w.expect_honest_books();
            EXPECT_EQ(w.answered(), all);
        }
        EXPECT_GE(mean, 90);
    }
}

// ---- what else befalls a batch ----

TEST(llm_session_simulation, a_free_quota_that_runs_out_ends_no_batch) {
    world w;
    w.judge.set_limits("m", served(large));
    w.judge.set_limits("n", served(large));
    std::uint64_t left = 500;
    w.gate = [&](std::string const&, std::string const& model) -> std::optional<refusal> {
        if (model != "m") return std::nullopt;
        if (left == 0) return free_tier;
        --left;
        return std::nullopt;
    };
    auto& p = w.add(batch(3000, 11));
    p.model("m", "a", large);
    p.model("n", "a", large);
    // Each waits for the better model rather than be answered by the lesser.
    for (auto& c : p.todo) c.facts.patience = 10min;
    p.open({});
    w.begin();
    w.finish();
    show("free quota of 500 runs out, with a fallback", w, ideal_seconds(p.todo, large));
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 3000U);
    EXPECT_EQ(p.s->counters()[llm::counted_event::answered_below], 2500U);
    EXPECT_LE(w.all().refused, 80U);  // ten at once, each time that it is tried again
}

TEST(llm_session_simulation, an_account_that_is_cut_off_ends_no_batch) {
    world w;
    w.judge.set_limits("m", served(large));
    w.gate = [&](std::string const& account, std::string const&) -> std::optional<refusal> {
        if (account == "a" && w.clock.now() > time_point{1060s}) return in_arrears;
        return std::nullopt;
    };
    auto& p = w.add(batch(3000, 12));
    p.model("m", "ab", large);
    p.open({});
    w.begin();
    w.finish();
    show("one of two accounts cut off after a minute", w);
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 3000U);
    EXPECT_LE(w.all().refused, 40U);  // those under way when it happened, and each time that it is tried again
    // A minute with both, then one.
    EXPECT_LT(w.length(), 60 + 1800.0 / 10 * 1.03);

    world only;
    only.judge.set_limits("m", served(large));
    only.gate = [&](std::string const&, std::string const&) -> std::optional<refusal> {
        if (only.clock.now() > time_point{1060s}) return in_arrears;
        return std::nullopt;
    };
    auto& q = only.add(batch(1000, 12));
    q.model("m", "a", large);
    q.open({.retry = {.budget = 1min}});
    only.begin();
    only.finish();
    show("the only account cut off after a minute", only);
    only.expect_honest_books();
    EXPECT_GE(only.answered(), 590U);
    EXPECT_LT(only.answered(), 1000U);
}

// The default of five attempts may lose a few: a retry that goes to another account at once is an attempt too.
TEST(llm_session_simulation, an_outage_loses_no_call_with_six_attempts_and_few_with_five) {
    for (std::string_view const accounts : {"a", "ab"}) {
        for (bool const fallback : {false, true}) {
            for (std::uint64_t const attempts : {5U, 6U}) {
                // Over several seeds: the waits of one may happen to be long enough.
                for (std::uint64_t seed = 1; seed <= 8; ++seed) {
                    std::string const what = "outage of 5 s, " + std::to_string(accounts.size()) +
                                             (accounts.size() == 1 ? " account" : " accounts") +
                                             (fallback ? ", with a fallback, " : ", ") + std::to_string(attempts) +
                                             " attempts";
                    SCOPED_TRACE(what + ", seed " + std::to_string(seed));
                    world w;
                    w.judge.set_limits("m", served(large));
                    w.judge.set_limits("n", served(large));
                    w.gate = [&](std::string const&, std::string const&) -> std::optional<refusal> {
                        if (w.clock.now() >= time_point{1030s} && w.clock.now() < time_point{1035s}) return down;
                        return std::nullopt;
                    };
                    auto& p = w.add(batch(1200, 13));
                    p.model("m", accounts, large);
                    if (fallback) p.model("n", accounts, large);
                    for (auto& c : p.todo) c.facts.patience = 10min;
                    p.open({.retry = {.attempts = attempts}, .seed = seed});
                    w.begin();
                    w.finish();
                    if (seed == 1) show(what.c_str(), w);
                    w.expect_honest_books();
                    EXPECT_GE(w.answered(), attempts == weir::backoff{}.attempts ? 1180U : 1200U);
                    EXPECT_GT(w.all().refused, 0U);
                    EXPECT_LE(w.all().refused, 50U * accounts.size() * (fallback ? 2 : 1) * 2);
                }
            }
        }
    }
}

}  // namespace
