// SPDX-License-Identifier: MIT
//
// account_pool and fallback_chain against what their headers say: which member is chosen, when to try again, which is
// on cooldown until when. What a member's limiter would answer is asked of it by check(), which charges nothing; an
// exact log of requests shows that it keeps its quota.
#pragma once

#include "run.hpp"

#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace script {

/// Whether `end` was what ended the call.
template <class End, class Choice>
bool ends(End&& end, Choice const& c) {
    bool const was = c.decision().live();
    end();
    return was && !c.decision().live();
}

/// How long an account or a model is not used; times are ticks.
template <class Duration>
class cooldown_model {
public:
    cooldown_model(std::chrono::nanoseconds first, std::chrono::nanoseconds longest)
        : first_{first}, longest_{longest} {}

    void begin(weir::llm::verdict const& v, std::int64_t t, std::chrono::sys_seconds now) {
        if (v.until && now.time_since_epoch().count() != 0) {
            auto const left = *v.until > now ? *v.until - now : std::chrono::seconds{0};
            return until(after(t, left));
        }
        if (v.wait) return until(after(t, *v.wait));
        if (back_ && *back_ > t) return;  // seen through another call
        auto length = first_;
        for (int k = 0; k < count_ && length < longest_; ++k) length *= 2;
        until(after(t, std::min(length, longest_)));
        ++count_;
    }
    void until(std::int64_t t) { back_ = back_ ? std::max(*back_, t) : t; }
    void answered() { count_ = 0; }
    void end() {
        back_.reset();
        count_ = 0;
    }
    bool is_out(std::int64_t t) const { return back_ && *back_ > t; }
    std::int64_t back() const { return back_.value_or(min_ticks); }

private:
    static std::int64_t after(std::int64_t t, std::chrono::nanoseconds d) {
        if (d == d.max()) return max_ticks;  // it has no end
        return plus(t, static_cast<std::uint64_t>(std::chrono::ceil<Duration>(d).count()));
    }

    std::chrono::nanoseconds first_, longest_;
    std::optional<std::int64_t> back_;
    int count_ = 0;
};

/// A verdict of any kind.
inline weir::llm::verdict verdict_of(step const& s, std::chrono::sys_seconds now) {
    weir::llm::verdict v;
    v.cause = static_cast<weir::llm::cause>(s.a % 16U);
    v.action = static_cast<weir::llm::action>(s.a / 16U % 6U);
    if (s.b % 4 == 0) v.wait = std::chrono::milliseconds{s.b / 4U % 4096U * 16U};
    if (s.b % 4 == 1) v.until = now + std::chrono::seconds{static_cast<int>(s.b / 4U % 256U) - 32};
    if (s.b == 3) v.wait = std::chrono::nanoseconds::max();
    return v;
}

template <class Clock>
class pool_model {
public:
    using pool = weir::llm::account_pool<Clock&, weir::unsynchronized>;
    using duration = typename pool::duration;
    using time_point = typename pool::time_point;
    using ns = std::chrono::nanoseconds;

    pool_model(step const& s, std::size_t most, char const* name, Clock& clock, journal& log)
        : options_{ns{std::chrono::milliseconds{1 + s.a % 100'000U}}, ns{std::chrono::seconds{1 + s.b % 400U}}},
          p_{options_},
          name_{name} {
        std::size_t const n = s.op % (most + 1);
        ensure_equal(p_.size(), std::size_t{0}, "members of an empty pool");
        random r{static_cast<std::uint64_t>(s.pick) << 16U | s.c};
        for (std::size_t i = 0; i < n; ++i) {
            member m{.price = r.below(3), .out = {options_.min_cooldown, options_.max_cooldown}};
            std::uint64_t const kind = r.next();
            if (kind % 4 != 0) m.q.rpm = 1 + r.below(8);
            if (kind / 4 % 4 == 0 && Clock::period::den / Clock::period::num >= 1'000) m.q.rps = 1 + r.below(3);
            if (kind / 16 % 2 == 0) m.q.tpm = 50 + r.below(200);
            weir::llm::quota_options o;
            o.jitter = ns{std::chrono::milliseconds{kind / 32 % 4 == 0 ? 50 : 0}};
            o.accounting = static_cast<weir::llm::accounting>(kind / 128 % 4);
            m.keys = 1 + r.below(3);
            for (std::size_t k = 0; k < m.keys; ++k) {
                // The second time its quota and price are passed over.
                auto const quota = k == 0 ? m.q : weir::llm::quota{.rpm = 1'000'000};
                auto const at = p_.add({"here", std::to_string(i), "r", name}, key_of(i, k), quota, o,
                                       k == 0 ? m.price : 99, clock);
                ensure_equal(at, i, "the member of a key");
            }
            ensure_equal(p_.add({"here", std::to_string(i), "r", name}, key_of(i, 0), {}, {}, 0, clock), i,
                         "a key that is there");
            ensure_equal(p_.keys(i), m.keys, "keys of a member");
            ensure_equal(p_.price(i), m.price, "its price");
            log.note(name, " member ", i, ": price ", m.price, ", keys ", m.keys, ", rpm ", m.q.rpm.value_or(0),
                     ", rps ", m.q.rps.value_or(0), ", tpm ", m.q.tpm.value_or(0), ", accounting ",
                     static_cast<int>(o.accounting), ", J ", o.jitter.count());
            members_.push_back(std::move(m));
        }
        ensure_equal(p_.size(), n, "members");
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t k = 0; k < members_[i].keys; ++k)
                ensure_equal(p_.member_of(key_of(i, k)), i, "the member of a key");
        }
        ensure_equal(p_.member_of("stranger"), pool::none, "the member of no key");
    }

    pool& real() { return p_; }
    struct prices {
        std::uint64_t least = 0;
        std::uint64_t most = ~std::uint64_t{0};
    };
    bool has_price(prices among) const {
        return std::any_of(members_.begin(), members_.end(),
                           [&](member const& m) { return m.price >= among.least && m.price <= among.most; });
    }
    std::size_t size() const { return members_.size(); }

    /// What an attempt must meet in addition to the limiters: when each member is ready, and which another thread takes
    /// first.
    struct obstacles {
        std::array<std::int64_t, 8> ready{};
        unsigned taken = 0;
        std::uint64_t asked = 0;

        time_point ready_at(std::size_t i, time_point t) const { return std::max(t, at<time_point>(ready[i])); }
        bool take(std::size_t i) { return (taken >> i & 1U) == 0; }
    };

    /// What the pool ought to answer.
    struct answer {
        std::vector<std::size_t> candidates{};  // any of them
        std::int64_t retry = max_ticks;
        bool exact = false;  // a limiter says so, and no condition
    };
    answer ask(weir::llm::tokens n, std::int64_t t, std::uint64_t except, obstacles const* extra = nullptr,
               prices among = {}) {
        answer a;
        std::uint64_t best = ~std::uint64_t{0};
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if ((except >> i & 1U) != 0) continue;
            auto const& m = members_[i];
            std::int64_t when = t;
            bool exact = false;
            if (m.price < among.least || m.price > among.most) {
                when = max_ticks;
            } else if (m.out.is_out(t)) {
                when = m.out.back();
            } else if (extra != nullptr && extra->ready[i] > t) {
                when = extra->ready[i];
            } else if (auto const d = p_.limits(i).check(n, at<time_point>(t)); !d.granted()) {
                when = ticks(d.retry_at());
                exact = true;
            } else if (extra != nullptr && (extra->taken >> i & 1U) != 0) {
                when = t;
            } else {
                if (m.price < best) a.candidates.clear();
                if (m.price <= best) a.candidates.push_back(i);
                best = std::min(best, m.price);
            }
            a.exact = when < a.retry ? exact : a.exact || (exact && when == a.retry);
            a.retry = std::min(a.retry, when);
        }
        if (!a.candidates.empty()) a.retry = t;
        return a;
    }

    /// Whether an attempt's answer is that one; notes what was granted.
    void compare(typename pool::choice const& c, answer const& a, weir::llm::tokens n, std::int64_t t,
                 std::uint64_t except) {
        ensure_equal(c.granted(), !a.candidates.empty(), name_, " grants ", n.input, " + ", n.output, " at ", t);
        ensure_equal(ticks(c.retry_at()), a.retry, name_, " retry_at, asked at ", t);
        if (!c.granted()) {
            ensure_equal(*c, pool::none, "the member of a denial");
            bool anybody = false;
            for (std::size_t i = 0; i < members_.size(); ++i) anybody = anybody || (except >> i & 1U) == 0;
            ensure_equal((c.denied_by() == weir::llm::limit_kind::none), !anybody, "a denial's reason is missing");
            return;
        }
        ensure(std::find(a.candidates.begin(), a.candidates.end(), *c) != a.candidates.end(), name_, " chose ", *c,
               ", which is dearer than another that grants, or does not grant");
        ensure(c.denied_by() == weir::llm::limit_kind::none, "a grant's reason to be denied");
        ensure_equal(p_.key(c), key_of(*c, members_[*c].key), "the key of a grant");
        // In turns: among equals that all grant, each once before one is chosen again.
        if (a.candidates == turns_of_) {
            ensure(turns_.size() == a.candidates.size() || std::find(turns_.begin(), turns_.end(), *c) == turns_.end(),
                   name_, " chose ", *c, " again before its equals");
        } else {
            turns_.clear();
            turns_of_ = a.candidates;
        }
        if (turns_.size() == a.candidates.size()) turns_.clear();
        turns_.push_back(*c);
        auto& m = members_[*c];
        m.log.push_back(t);
        within(m, t);
    }

    void refunded(std::size_t i, std::int64_t stamp) {
        auto& log = members_[i].log;
        log.erase(std::find(log.begin(), log.end(), stamp));
    }
    std::uint32_t key(std::size_t i) const { return members_[i].key; }

    /// As documented: an answer resets the delay, a verdict that asks for another account begins a cooldown; an invalid
    /// key does so only when all keys were invalid.
    void report(std::size_t i, std::uint32_t key, weir::llm::verdict const& v, std::int64_t t,
                std::chrono::sys_seconds now) {
        auto& m = members_[i];
        if (v.action == weir::llm::action::proceed) return m.out.answered();
        if (v.action != weir::llm::action::next_account && v.cause != weir::llm::cause::free_quota) return;
        if (v.cause == weir::llm::cause::authentication) {
            if (m.key != key) return;  // it was blamed already
            m.key = (key + 1) % static_cast<std::uint32_t>(m.keys);
            if (m.key != 0) return;
        }
        m.out.begin(v, t, now);
    }
    void begin_cooldown(std::size_t i, std::int64_t t) {
        members_[i].out.until(t);
        p_.begin_cooldown(i, at<time_point>(t));
    }
    void end_cooldown(std::size_t i) {
        members_[i].out.end();
        p_.end_cooldown(i);
    }

    /// What can be seen of all members.
    void observe(std::int64_t t) {
        std::uint64_t rpm = 0;
        bool limited = true;
        for (std::size_t i = 0; i < members_.size(); ++i) {
            auto const& m = members_[i];
            ensure_equal(ticks(p_.cooldown_until(i)), m.out.back(), name_, " cooldown_until of ", i);
            ensure_equal(p_.key(i), key_of(i, m.key), name_, " the key in use of ", i);
            if (m.out.is_out(t)) continue;
            limited = limited && (m.q.rpm || m.q.rps);
            rpm += std::min(m.q.rpm.value_or(1'000'000), m.q.rps.value_or(1'000'000) * 60);
        }
        ensure(p_.effective_rpm(at<time_point>(t)) == (limited ? std::optional{rpm} : std::nullopt), name_,
               " effective_rpm is not the sum of those that are there");
    }

private:
    struct member {
        weir::llm::quota q{};
        std::uint64_t price = 0;
        std::size_t keys = 1;
        cooldown_model<duration> out;
        std::uint32_t key = 0;
        std::vector<std::int64_t> log{};  // requests, at their stamps
    };

    std::string key_of(std::size_t i, std::size_t k) const {
        return name_ + std::to_string(i) + '/' + std::to_string(k);
    }

    /// No window that ends at t holds more requests than the quota.
    void within(member const& m, std::int64_t t) const {
        auto const in = [&](std::chrono::seconds w) {
            auto const from = t - std::chrono::ceil<duration>(w).count();
            return static_cast<std::uint64_t>(
                std::count_if(m.log.begin(), m.log.end(), [&](std::int64_t s) { return s > from; }));
        };
        ensure(!m.q.rpm || in(std::chrono::seconds{60}) <= *m.q.rpm, name_,
               " granted more requests than a member has in a minute");
        ensure(!m.q.rps || in(std::chrono::seconds{1}) <= *m.q.rps, name_,
               " granted more requests than a member has in a second");
    }

    weir::llm::account_pool_options options_;
    pool p_;
    std::string name_;
    std::vector<member> members_;
    std::vector<std::size_t> turns_, turns_of_;
};

template <class Clock>
class pool_run {
    using model = pool_model<Clock>;
    using pool = typename model::pool;
    using time_point = typename model::time_point;

public:
    pool_run(std::array<step, 2> const& setup, journal& log) : log_{log}, m_{setup[1], 5, "pool", clock_, log} {}

    void take(step const& s) {
        std::size_t const i = m_.size() == 0 ? 0 : s.pick % m_.size();
        switch (s.op % 10) {
            case 0:
            case 1: return let_time_pass(clock_, s, log_);
            case 2:
            case 3:
            case 4: return attempt(s);
            case 5: return attempt_with_condition(s);
            case 6: return end_call(s);
            case 7: return report(s, i);
            case 8:
                if (m_.size() != 0) m_.begin_cooldown(i, plus(clock_.ticks, s.a % 4 == 0 ? size(s.b) : s.b));
                return m_.observe(clock_.ticks);
            default:
                if (m_.size() != 0) m_.end_cooldown(i);
                return m_.observe(clock_.ticks);
        }
    }

    void end() { m_.observe(clock_.ticks); }

private:
    struct held {
        typename pool::choice c;
        weir::llm::tokens n;
        std::int64_t stamp;
        std::uint32_t key;
        bool live = true;
    };

    static std::vector<std::size_t> numbers_in(std::uint64_t bits) {
        std::vector<std::size_t> numbers;
        for (std::size_t i = 0; i < 64; ++i) {
            if ((bits >> i & 1U) != 0) numbers.push_back(i);
        }
        return numbers;
    }
    weir::llm::tokens tokens_of(step const& s) const { return {.input = s.a % 40U, .output = s.b % 40U}; }

    void keep(typename pool::choice&& c, weir::llm::tokens n) {
        if (!c) return;
        auto const i = *c;
        calls_.push_back({std::move(c), n, clock_.ticks, m_.key(i)});
    }

    void attempt(step const& s) {
        auto const n = tokens_of(s);
        std::uint64_t const except = s.pick % 4 == 0 ? s.c : 0;
        auto const expected = m_.ask(n, clock_.ticks, except);
        auto c = m_.real().try_acquire(n, clock_.now(), numbers_in(except));
        log_.note("take ", n.input, " + ", n.output, " except ", except, " at ", clock_.ticks, ": ",
                  c ? static_cast<int>(*c) : -1);
        m_.compare(c, expected, n, clock_.ticks, except);
        if (c || c.retry_at() == time_point::max() || s.pick / 4 % 2 == 0) return keep(std::move(c), n);
        // At retry_at a member serves it, and none a tick before.
        auto const again = ticks(c.retry_at());
        ensure(!m_.real().try_acquire(n, at<time_point>(again - 1), numbers_in(except)), "granted before its retry_at ",
               again);
        clock_.ticks = again;
        auto then = m_.ask(n, again, except);
        auto d = m_.real().try_acquire(n, clock_.now(), numbers_in(except));
        log_.note("and at ", again, ": ", d ? static_cast<int>(*d) : -1);
        // A member whose cooldown has ended may have no room.
        ensure(d.granted() || !expected.exact, "denied at its own retry_at ", again);
        m_.compare(d, then, n, again, except);
        keep(std::move(d), n);
    }

    void attempt_with_condition(step const& s) {
        typename model::obstacles o;
        random r{s.c};
        for (auto& t : o.ready) t = r.below(3) == 0 ? plus(clock_.ticks, r.below(2'000)) : min_ticks;
        o.taken = static_cast<unsigned>(r.next() & r.next() & 0xffU);
        struct condition {
            typename model::obstacles& o;
            time_point ready(std::size_t i, time_point t) const { return o.ready_at(i, t); }
            bool take(std::size_t i, time_point) const { return o.take(i); }
            weir::llm::limit_kind denied_by() const { return weir::llm::limit_kind::other; }
        };
        auto const n = tokens_of(s);
        auto const t = clock_.now();
        std::vector<weir::llm::quota> before;
        for (std::size_t i = 0; i < m_.size(); ++i) before.push_back(m_.real().limits(i).used(t));
        auto const expected = m_.ask(n, clock_.ticks, 0, &o);
        auto c = m_.real().try_acquire(n, t, {}, condition{o});
        log_.note("take ", n.input, " + ", n.output, " with a condition, at ", clock_.ticks, ": ",
                  c ? static_cast<int>(*c) : -1);
        m_.compare(c, expected, n, clock_.ticks, 0);
        for (std::size_t i = 0; i < m_.size(); ++i) {
            if (!c || *c != i)
                ensure(m_.real().limits(i).used(t) == before[i], "what was taken of ", i,
                       " for nothing was not given back whole");
        }
        keep(std::move(c), n);
    }

    void end_call(step const& s) {
        if (calls_.empty()) return;
        auto& h = calls_[s.pick % calls_.size()];
        bool const refunds = s.a % 2 == 0;
        weir::llm::tokens const used{.input = s.b % (h.n.input + 1), .output = s.c % (h.n.output + 1)};
        log_.note(refunds ? "refund of " : "settle of ", *h.c, h.live ? "" : ", for the second time");
        bool const done =
            refunds ? ends([&] { (void)m_.real().refund(h.c); }, h.c) : m_.real().settle(h.c, used, clock_.now());
        ensure_equal(done, h.live, "ends once");
        if (h.live && refunds) m_.refunded(*h.c, h.stamp);
        h.live = false;
    }

    void report(step const& s, std::size_t i) {
        auto const now =
            s.c % 4 == 0 ? std::chrono::sys_seconds{} : std::chrono::sys_seconds{std::chrono::seconds{1'760'000'000}};
        auto const v = verdict_of(s, std::chrono::sys_seconds{std::chrono::seconds{1'760'000'000}});
        log_.note("a verdict: cause ", static_cast<int>(v.cause), ", action ", static_cast<int>(v.action));
        if (s.c / 4 % 2 == 0 && !calls_.empty()) {
            auto const& h = calls_[s.c / 8 % calls_.size()];
            m_.real().report(h.c, v, clock_.now(), now);
            m_.report(*h.c, h.key, v, clock_.ticks, now);
        } else {
            m_.real().report(m_.size() == 0 ? 0 : i, v, clock_.now(), now);
            if (m_.size() != 0) m_.report(i, m_.key(i), v, clock_.ticks, now);
        }
        m_.observe(clock_.ticks);
    }

    journal& log_;
    Clock clock_{};
    model m_;
    std::vector<held> calls_;
};

template <class Clock>
class chain_run {
    using model = pool_model<Clock>;
    using pool = typename model::pool;
    using chain = weir::llm::fallback_chain<pool>;
    using duration = typename model::duration;
    using time_point = typename model::time_point;

public:
    chain_run(std::array<step, 4> const& setup, journal& log)
        : log_{log},
          max_overloads_{1 + setup[0].c % 4U},
          options_{.max_overloads = max_overloads_,
                   .min_cooldown = std::chrono::milliseconds{1 + setup[0].a % 50'000U},
                   .max_cooldown = std::chrono::seconds{1 + setup[0].b % 300U}},
          c_{options_} {
        static constexpr char const* names[] = {"max", "plus", "flash"};
        std::size_t const n = setup[0].op % 4;
        for (std::size_t i = 0; i < n; ++i) {
            pools_.push_back(std::make_unique<model>(setup[i + 1], 3, names[i], clock_, log));
            ensure_equal(c_.add(names[i], pools_.back()->real()), i, "the number of a link");
            outs_.emplace_back(options_.min_cooldown, options_.max_cooldown);
            overloads_.push_back(0);
        }
        ensure_equal(c_.size(), n, "links");
    }

    void take(step const& s) {
        switch (s.op % 8) {
            case 0:
            case 1: return let_time_pass(clock_, s, log_);
            case 2:
            case 3:
            case 4: return attempt(s);
            case 5: return end_call(s);
            case 6: return report(s);
            default:
                if (!pools_.empty()) {
                    auto& p = *pools_[s.pick % pools_.size()];
                    if (p.size() != 0) p.begin_cooldown(s.a % p.size(), plus(clock_.ticks, s.b));
                }
                return;
        }
    }

    void end() {
        for (auto& p : pools_) p->observe(clock_.ticks);
    }

private:
    struct held {
        typename chain::choice c;
        weir::llm::tokens n;
        std::int64_t stamp;
        std::uint32_t key;
        bool live = true;
    };

    void attempt(step const& s) {
        std::int64_t const t = clock_.ticks;
        duration const patience{static_cast<std::int64_t>(s.c % 8 == 0 ? 0 : s.c % 8 == 1 ? size(s.c) >> 1U : s.c)};
        // Each link counts its own way.
        auto const need = [&](std::size_t i) {
            return weir::llm::tokens{.input = (s.a + i) % 40U, .output = s.b % 40U};
        };

        typename chain::terms bears{.patience = patience};
        if (s.pick % 4 == 1) bears.max_price = s.pick / 4 % 4U;
        bears.cheapest_first = s.pick / 16 % 4 == 1;
        typename model::answer served;
        std::size_t link = chain::none;
        std::size_t waits_for = chain::none;
        std::int64_t retry = max_ticks;
        // Whether that settles it: granted, or worth waiting for.
        auto const ask = [&](std::size_t i, typename model::prices among) {
            bool const out = outs_[i].is_out(t);
            auto a = out ? typename model::answer{} : pools_[i]->ask(need(i), t, 0, nullptr, among);
            if (!a.candidates.empty()) {
                served = std::move(a);
                link = i;
                retry = t;
                waits_for = chain::none;
                return true;
            }
            std::int64_t const when = !out ? a.retry : pools_[i]->has_price(among) ? outs_[i].back() : max_ticks;
            bool const soon = !out && when != max_ticks && when - t <= patience.count();
            if (soon || when < retry) {
                retry = when;
                waits_for = when == max_ticks ? chain::none : i;
            }
            return soon;
        };
        bool settled = false;
        // By link, or by price and then by link.
        for (std::uint64_t price = 0; price < (bears.cheapest_first ? 3U : 1U) && !settled; ++price) {
            if (bears.cheapest_first && price > bears.max_price) break;
            for (std::size_t i = 0; i < pools_.size() && !settled; ++i) {
                if (bears.cheapest_first && !pools_[i]->has_price({price, price})) continue;
                settled = bears.cheapest_first ? ask(i, {price, price}) : ask(i, {0, bears.max_price});
            }
        }

        auto c = c_.try_acquire(need, t_of(t), bears, nothing{});
        log_.note("take at ", t, " with patience ", patience.count(), ", price at most ", bears.max_price,
                  bears.cheapest_first ? ", cheapest first: " : ": ", c ? static_cast<int>(*c) : -1);
        ensure_equal(c.granted(), link != chain::none, "grants at ", t);
        ensure_equal(*c, link, "the link");
        ensure_equal(ticks(c.retry_at()), retry, "retry_at, asked at ", t);
        ensure_equal(c.waits_for(), waits_for, "the link that is worth waiting for");
        if (!c) {
            ensure(c.denied_by() != weir::llm::limit_kind::none || waits_for == chain::none,
                   "a denial's reason is missing");
            return;
        }
        ensure(c.denied_by() == weir::llm::limit_kind::none, "a grant's reason to be denied");
        pools_[link]->compare(c.member(), served, need(link), t, 0);
        auto const key = pools_[link]->key(*c.member());
        calls_.push_back({std::move(c), need(link), t, key});
    }

    void end_call(step const& s) {
        if (calls_.empty()) return;
        auto& h = calls_[s.pick % calls_.size()];
        bool const refunds = s.a % 2 == 0;
        bool const done =
            refunds ? ends([&] { (void)c_.refund(h.c); }, h.c.member())
                    : c_.settle(h.c, {.input = s.b % (h.n.input + 1), .output = s.c % (h.n.output + 1)}, clock_.now());
        ensure_equal(done, h.live, "ends once");
        if (h.live && refunds) pools_[*h.c]->refunded(*h.c.member(), h.stamp);
        h.live = false;
    }

    /// By the text.
    void report(step const& s) {
        using weir::llm::action;
        using weir::llm::cause;
        if (calls_.empty()) return;
        auto const wall = std::chrono::sys_seconds{std::chrono::seconds{1'760'000'000}};
        auto const now = s.c % 4 == 0 ? std::chrono::sys_seconds{} : wall;
        auto const v = verdict_of(s, wall);
        auto const& h = calls_[s.c / 4 % calls_.size()];
        std::size_t const i = *h.c;
        log_.note("a verdict for link ", i, ": cause ", static_cast<int>(v.cause), ", action ",
                  static_cast<int>(v.action));
        c_.report(h.c, v, clock_.now(), now);
        auto const to_the_pool = [&] { pools_[i]->report(*h.c.member(), h.key, v, clock_.ticks, now); };
        bool const overloaded = pools_.size() > 1 && (v.cause == cause::overload || v.cause == cause::transport);
        if (v.action == action::next_model) {
            if (v.cause == cause::free_quota && pools_[i]->size() > 1) {
                to_the_pool();
            } else if (v.cause != cause::token_rate) {
                outs_[i].begin(v, clock_.ticks, now);
            }
        } else if (overloaded) {
            if (++overloads_[i] >= max_overloads_) outs_[i].begin(v, clock_.ticks, now);
        } else {
            if (v.action == action::proceed) {
                overloads_[i] = 0;
                outs_[i].answered();
            }
            to_the_pool();
        }
        for (std::size_t k = 0; k < pools_.size(); ++k) {
            ensure_equal(ticks(c_.cooldown_until(k)), outs_[k].back(), "cooldown_until of link ", k);
            pools_[k]->observe(clock_.ticks);
        }
    }

    struct nothing {
        static time_point ready(std::size_t, std::size_t, time_point t) { return t; }
        static bool take(std::size_t, std::size_t, time_point) { return true; }
        static weir::llm::limit_kind denied_by() { return weir::llm::limit_kind::none; }
    };
    static time_point t_of(std::int64_t t) { return at<time_point>(t); }

    journal& log_;
    std::uint32_t max_overloads_;
    weir::llm::fallback_options options_;
    Clock clock_{};
    std::vector<std::unique_ptr<model>> pools_;
    chain c_;
    std::vector<cooldown_model<duration>> outs_;
    std::vector<std::uint32_t> overloads_;
    std::vector<held> calls_;
};

inline void account_pool_script(schedule const& s, journal& log) { interpret<pool_run>(s, log); }
inline void fallback_chain_script(schedule const& s, journal& log) { interpret<chain_run, 4>(s, log); }

}  // namespace script
