// SPDX-License-Identifier: MIT
//
// Sessions against a server in virtual time: discrete events on a manual_clock. The server's judge, its burst
// protection and the ideal share no code with weir; its books say what arrived, what was answered, and that nothing was
// sent again after that.
#pragma once

#include <weir/backoff.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

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
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "../../examples/simulator/burst_guard.hpp"
#include "draws.hpp"
#include "ideal.hpp"
#include "manual_session.hpp"
#include "quota_judge.hpp"

namespace session_world {

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

inline double seconds(nanoseconds d) { return std::chrono::duration<double>{d}.count(); }

struct work {
    tokens used{};
    std::uint64_t bound = 0;  // of the output
    nanoseconds latency{};
    session::request facts{};
};

inline std::vector<work> batch(std::size_t n, std::uint64_t seed,
                               std::pair<std::uint64_t, std::uint64_t> input = {30, 80},
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
            for (auto const& c : p.calls) n += c->result().answered() ? 1U : 0U;
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

inline double ideal_seconds(std::vector<work> const& calls, weir::llm::quota const& q) {
    std::vector<qwen::ideal_call> them;
    for (auto const& c : calls) them.push_back({c.used.input, c.used.output, c.bound, seconds(c.latency)});
    return qwen::ideal_time(them, {q.rpm, q.rps, q.tpm, q.tps});
}

inline void show(char const* what, world const& w, double ideal = 0) {
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
inline qwen::server_limits served(weir::llm::quota const& q) { return {q.rpm, q.rps, q.tpm, q.tps}; }

// Patient: what is refused is asked for again for an hour.
constexpr weir::backoff patient{.base = 1s, .cap = 10s, .attempts = 100, .budget = 1h, .jitter = weir::jitter::equal};

}  // namespace session_world
