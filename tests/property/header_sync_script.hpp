// SPDX-License-Identifier: MIT
//
// header_sync against a server that counts in exact windows and is shared with strangers: what is charged was theirs,
// for certain; it is the greatest that was reported within a window; and the limiter that is fed grants nothing that
// its like, which hears nothing, would not.
#pragma once

#include "run.hpp"

#include <weir/llm/header_sync.hpp>
#include <weir/llm/quota_limiter.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace script {

class limit_feed_run {
    using clock = ticking_clock<std::nano>;
    using limiter = weir::llm::quota_limiter<clock&, weir::unsynchronized>;
    using feed = weir::llm::header_sync<limiter>;
    using time_point = limiter::time_point;
    static constexpr std::int64_t second = 1'000'000'000;

public:
    limit_feed_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const& a = setup[0];
        auto const& b = setup[1];
        limits_.rpm = 3 + a.a % 40U;
        if (a.op % 3 != 0) limits_.tpm = 100 + a.b % 4'000U;
        if (a.op / 4 % 4 == 0) limits_.rps = 2 + a.c % 8U;
        if (a.op / 16 % 4 == 0) limits_.tps = 60 + a.c / 8U % 400U;
        options_.jitter = std::chrono::milliseconds{b.a % 4 == 0 ? 0 : b.a % 2'000U};
        options_.accounting = b.pick % 2 == 0 ? weir::llm::accounting::any : weir::llm::accounting::reserve;
        when_ = b.op % 2 == 0 ? weir::llm::report_time::on_arrival : weir::llm::report_time::on_reply;
        delay_ = static_cast<std::int64_t>(b.b) * 10'000;
        log_.note("rpm ", *limits_.rpm, ", rps ", limits_.rps.value_or(0), ", tpm ", limits_.tpm.value_or(0), ", tps ",
                  limits_.tps.value_or(0), ", J ", options_.jitter.count(),
                  b.op % 2 == 0 ? ", counts on arrival" : ", counts on reply");
        fed_ = std::make_unique<limiter>(limits_, options_, clock_);
        unfed_ = std::make_unique<limiter>(limits_, options_, clock_);
        feed_ = std::make_unique<feed>(*fed_, when_);
    }

    void take(step const& s) {
        switch (s.op % 10) {
            case 0:
            case 1: return pass(s);
            case 2:
            case 3:
            case 4: return call(s);
            case 5:
                for (unsigned i = 0; i < s.c % 16U; ++i) call(s);
                return;
            case 6: return stranger(s);
            case 7:
                for (unsigned i = 0; i < 1 + s.c % 32U; ++i) stranger(s);
                return;
            case 8: return reply(s);
            default:
                // Repeated, and late: a report that was heard already.
                if (!heard_.empty()) hear(heard_[s.a % heard_.size()]);
                return;
        }
    }

    /// When all is over nothing is left of it.
    void end() {
        while (!calls_.empty()) reply({0, 0, 0, 0, 0});
        // A window after the last report, and as long for what that is made of to age out.
        for (int i = 0; i < 2; ++i) {
            go_to(clock_.ticks + 63 * second + options_.jitter.count());
            feed_->expire(clock_.now());
        }
        go_to(clock_.ticks + 400 * second + options_.jitter.count());
        auto const charged = feed_->charged(clock_.now());
        for (auto const l : all) ensure_equal(in(charged, l).value_or(0), std::uint64_t{0}, "charged in the end");
        ensure(fed_->used(clock_.now()) == unfed_->used(clock_.now()), "something of it is left in the limiter");
    }

private:
    static constexpr weir::llm::limit all[] = {weir::llm::limit::rpm, weir::llm::limit::rps, weir::llm::limit::tpm,
                                               weir::llm::limit::tps};

    template <class Quota>
    static std::conditional_t<std::is_const_v<Quota>, weir::llm::optional_count const, weir::llm::optional_count>& in(
        Quota& q, weir::llm::limit l) {
        return l == weir::llm::limit::rpm   ? q.rpm
               : l == weir::llm::limit::rps ? q.rps
               : l == weir::llm::limit::tpm ? q.tpm
                                            : q.tps;
    }
    static bool of_requests(weir::llm::limit l) { return l == weir::llm::limit::rpm || l == weir::llm::limit::rps; }
    static std::int64_t window_of(weir::llm::limit l) {
        return l == weir::llm::limit::rpm || l == weir::llm::limit::tpm ? 60 * second : second;
    }

    /// What the server has counted.
    struct record {
        std::int64_t time;
        std::uint64_t tokens;
        bool ours;
    };
    std::uint64_t counted(weir::llm::limit l, std::optional<bool> ours = {}) const {
        std::uint64_t sum = 0;
        for (auto const& r : server_) {
            if (r.time <= clock_.ticks - window_of(l) || (ours && r.ours != *ours)) continue;
            sum += of_requests(l) ? 1 : r.tokens;
        }
        return sum;
    }
    std::optional<std::size_t> arrive(std::uint64_t n, bool ours) {
        for (auto const l : all) {
            if (in(limits_, l) && counted(l) + (of_requests(l) ? 1 : n) > *in(limits_, l)) return std::nullopt;
        }
        server_.push_back({clock_.ticks, n, ours});
        return server_.size() - 1;
    }
    /// Its headers, and what of it is strangers', which they do not say.
    struct report {
        weir::llm::limit_reports says{};
        weir::llm::quota theirs{};
        std::int64_t whole_after = 0;  // 0: it does not say so
    };
    report write(step const& s) const {
        report r;
        for (auto const l : all) {
            if (!in(limits_, l)) continue;
            weir::llm::limit_report one{
                .kind = of_requests(l) ? weir::llm::counted::requests : weir::llm::counted::tokens,
                .window = std::chrono::nanoseconds{window_of(l)},
                .limit = *in(limits_, l),
                .remaining = *in(limits_, l) - counted(l)};
            if (s.c % 8 == 1) {
                // When all that is counted has aged out.
                std::int64_t last = clock_.ticks - window_of(l);
                for (auto const& x : server_) last = std::max(last, x.time);
                one.reset = std::chrono::nanoseconds{last + window_of(l) - clock_.ticks};
            }
            r.says.add(one);
            in(r.theirs, l) = counted(l, false);
        }
        return r;
    }

    struct in_flight {
        limiter::decision d, shadow;
        feed::mark mark;
        weir::llm::quota own;  // what its limiter held when it was sent, what was fed left out
        std::size_t number;
        weir::llm::tokens asked;
        std::int64_t arrives;
        bool arrived = false;
        std::optional<std::size_t> place{};
        report heads{};
        step how;
    };

    /// Time passes, and what is under way arrives in it.
    void go_to(std::int64_t t) {
        for (;;) {
            in_flight* next = nullptr;
            for (auto& c : calls_) {
                if (!c->arrived && c->arrives <= t && (next == nullptr || c->arrives < next->arrives)) next = c.get();
            }
            if (next == nullptr) break;
            clock_.ticks = std::max(clock_.ticks, next->arrives);
            next->arrived = true;
            next->place = arrive(next->asked.total(), true);
            next->heads = write(next->how);
            log_.note("a call arrives at ", clock_.ticks, next->place ? "" : ": refused");
        }
        clock_.ticks = t;
    }
    void pass(step const& s) {
        std::int64_t const most[] = {3, second / 20 + 1, second, 10 * second, 40 * second};
        go_to(clock_.ticks + static_cast<std::int64_t>(up_to(static_cast<std::uint64_t>(most[s.pick % 5]), s.a)));
        log_.note("the clock goes to ", clock_.ticks);
        // None is away for longer than the server's timeout.
        for (std::size_t i = 0; i < calls_.size();) {
            if (calls_[i]->arrives < clock_.ticks - 120 * second) {
                reply({0, 0, static_cast<std::uint16_t>(i), 0, 0});
                i = 0;
            } else {
                ++i;
            }
        }
        if (s.pick >= 128) {
            // What was given back of a segment is gone with the next, and what is charged is all that is there and
            // not ours.
            auto const charged = feed_->charged(clock_.now());
            go_to(clock_.ticks + 3 * second + options_.jitter.count() / 20);
            auto const used = fed_->used(clock_.now());
            auto const without = unfed_->used(clock_.now());
            for (auto const l : all) {
                if (in(used, l))
                    ensure(*in(used, l) <= *in(without, l) + *in(charged, l),
                           "the limiter holds more than it is charged with: ", to_string(l));
            }
        }
        look();
    }

    void call(step const& s) {
        auto const now = clock_.now();
        weir::llm::tokens const n{.input = 1 + s.a % 60U, .output = s.b % 60U};
        auto d = fed_->try_acquire(n, now);
        log_.note("call of ", n.input, " + ", n.output, " at ", clock_.ticks, d.granted() ? "" : ": denied");
        if (!d.granted()) return;
        auto shadow = unfed_->try_acquire(n, now);
        ensure(shadow.granted(), "granted what the limiter would not grant that hears nothing");
        auto const mark = feed_->sent(d);
        ensure(mark.sent() == now, "the stamp of a call");
        auto own = fed_->used(now);
        auto const charged = feed_->charged(now);
        for (auto const l : all) {
            if (in(own, l)) *in(own, l) -= *in(charged, l);
        }
        sent_.push_back({clock_.ticks, n.total(), true});
        std::int64_t const late =
            static_cast<std::int64_t>(up_to(static_cast<std::uint64_t>(options_.jitter.count()), s.c));
        calls_.push_back(std::make_unique<in_flight>(in_flight{std::move(d),
                                                               std::move(shadow),
                                                               mark,
                                                               own,
                                                               sent_.size(),
                                                               n,
                                                               clock_.ticks + delay_ + late,
                                                               false,
                                                               {},
                                                               {},
                                                               s}));
        go_to(clock_.ticks);
        look();
    }

    void stranger(step const& s) {
        if (arrive(s.a % 100U, false)) log_.note("a stranger at ", clock_.ticks);
    }

    struct told {
        feed::mark mark;
        report heads;
        weir::llm::quota own;
        std::size_t number;
    };
    void reply(step const& s) {
        if (calls_.empty()) return;
        std::size_t const i = s.a % calls_.size();
        go_to(std::max(clock_.ticks, calls_[i]->arrives));
        auto& c = *calls_[i];
        weir::llm::tokens used{};
        if (c.place) {
            used = {.input = c.asked.input, .output = s.b % (c.asked.output + 1)};
            server_[*c.place].tokens = used.total();
            if (when_ == weir::llm::report_time::on_reply) c.heads = write(s);
        }
        log_.note("reply to the call that arrived at ", c.arrives, ", read at ", clock_.ticks);
        told const t{c.mark, c.heads, c.own, c.number};
        hear(t);
        heard_.push_back(t);
        ensure(fed_->settle(c.d, used, clock_.now()) && unfed_->settle(c.shadow, used, clock_.now()), "settles once");
        calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i));
        look();
    }

    struct difference {
        weir::llm::limit which;
        std::uint64_t n;
        std::int64_t until;
    };
    /// Of what was sent after that call, what the server can have counted when it wrote: of calls within the jitter,
    /// and `more`.
    std::uint64_t sent_since(told const& t, weir::llm::limit l, std::int64_t more) const {
        std::uint64_t sum = 0;
        std::int64_t const last = ticks(t.mark.sent()) + options_.jitter.count() + more;
        for (std::size_t i = t.number; i < sent_.size(); ++i) {
            if (when_ == weir::llm::report_time::on_reply || sent_[i].time <= last)
                sum += of_requests(l) ? 1 : sent_[i].tokens;
        }
        return sum;
    }
    void hear(told const& t) {
        auto const found = feed_->on_response(t.mark, t.heads.says, clock_.now());
        // As the text has it: what is taken, less our own. Arrivals are told apart by segments, of a 250th of a window.
        std::int64_t const segment = (60 * second + options_.jitter.count()) / 250 + 1;
        for (auto const& r : t.heads.says) {
            auto const l = weir::llm::limit_of(r);
            if (ticks(t.mark.sent()) <= clock_.ticks - window_of(l)) continue;
            std::uint64_t const taken = *r.limit - *r.remaining;
            auto const theirs = [&](std::int64_t more) {
                std::uint64_t const own = *in(t.own, l) + sent_since(t, l, more);
                return taken > own ? taken - own : 0;
            };
            std::uint64_t const n = in(found, l).value_or(0);
            ensure(n <= theirs(0), "found ", n, " of strangers' ", to_string(l), ", where it can be ", theirs(0),
                   " at most");
            // Calls of long ago are no longer told apart.
            ensure(n >= theirs(segment) || clock_.ticks - ticks(t.mark.sent()) > 50 * second, "found ", n,
                   " of strangers' ", to_string(l), ", where there are ", theirs(segment));
        }
        for (auto const l : all) {
            if (!in(found, l)) continue;
            log_.note("strangers' ", to_string(l), ": ", *in(found, l), " of ", in(t.heads.theirs, l).value_or(0));
            ensure(*in(found, l) <= in(t.heads.theirs, l).value_or(0),
                   "ours were taken for strangers': ", to_string(l));
            ensure(ticks(t.mark.sent()) > clock_.ticks - window_of(l),
                   "a report that is older than its window was heard");
            std::int64_t until = clock_.ticks + window_of(l);
            for (auto const& r : t.heads.says) {
                if (weir::llm::limit_of(r) == l && r.reset && r.reset->count() > 0)
                    until = std::min<std::int64_t>(until, clock_.ticks + r.reset->count());
            }
            found_.push_back({l, *in(found, l), until});
        }
        look();
    }

    void look() {
        auto const now = clock_.now();
        auto const charged = feed_->charged(now);
        auto const used = fed_->used(now);
        auto const without = unfed_->used(now);
        for (auto const l : all) {
            if (!in(limits_, l)) continue;
            std::uint64_t most = 0;
            std::uint64_t least = 0;
            for (auto const& f : found_) {
                if (f.which != l) continue;
                if (f.until > clock_.ticks) most = std::max(most, f.n);
                // Of two that end within a 32nd of a window, the one that ends first may stand for both.
                if (f.until - window_of(l) / 32 > clock_.ticks) least = std::max(least, f.n);
            }
            std::uint64_t const n = in(charged, l).value_or(0);
            ensure(n <= most, "charged with ", n, " of strangers' ", to_string(l), ", where ", most,
                   " were reported in a window");
            ensure(n >= least, "charged with ", n, " of strangers' ", to_string(l), ", where ", least,
                   " were reported in a window");
            ensure(in(used, l).value_or(0) >= in(without, l).value_or(0) + n,
                   "the limiter does not hold what it is charged with: ", to_string(l));
        }
        std::erase_if(found_, [&](difference const& f) { return f.until <= clock_.ticks; });
    }

    journal& log_;
    clock clock_{};
    weir::llm::quota limits_;
    weir::llm::quota_options options_;
    weir::llm::report_time when_ = weir::llm::report_time::on_arrival;
    std::int64_t delay_ = 0;
    std::unique_ptr<limiter> fed_, unfed_;
    std::unique_ptr<feed> feed_;
    std::vector<record> server_, sent_;
    std::vector<std::unique_ptr<in_flight>> calls_;
    std::vector<told> heard_;
    std::vector<difference> found_;
};

inline void limit_feed_script(schedule const& s, journal& log) {
    take_the_rest<2>(limit_feed_run{setup_of<2>(s), log}, s);
}

}  // namespace script
