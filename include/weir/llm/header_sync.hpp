// SPDX-License-Identifier: MIT
//
// header_sync: what a server says is left goes into a quota_limiter, in the safe direction only. Where less is left
// than the limiter believes, the difference is charged as the use of others; where more is left, nothing happens.
//
// **What is charged.** Let L be the limit, R what the server says remains, r the time at which the server counted.
// The server has room for R, so L − R was taken at r, by any client. Of that, at most
//     own = what the limiter's window held when the call that carries the report was sent, reservations included and
//           charges by header_sync excluded, + what was sent since then and may be counted by r, each call at its bound
// is ours: a call of ours in flight at r may be in R or not, and is in `own` in both cases. So where L − R > own, the
// difference is the use of strangers, and our own use is never charged twice. The limiter is charged with the
// greatest difference that the reports of the last window showed, not with their sum: a report that is repeated, late
// or out of order adds nothing. What had aged out for us when the call was sent had aged out for the server at r, by
// the argument of quota_limiter.hpp, whose conditions are needed here too. The price is sharpness: use by strangers
// below what we sent between the stamp and r is not seen.
//
// **When the server counted.** `on_arrival`: when it accepted the call, as a server does that charges at admission.
// Then only what was sent within the limiter's jitter J after the stamp can have overtaken it: a call j that arrived
// before call i has sent_j + d ≤ a_j ≤ a_i ≤ stamp_i + d + J. `on_reply`: when it wrote the reply's head. Then
// all that was sent until the reply was read may be in R. A report that is older than its window is ignored.
//
// **How long.** A difference is charged until one window after the last report that showed it, since more use by a
// stranger follows as a rule; or until the reset, if the server says that all is restored before that. So a stranger
// that stops is charged for one more window at most. A charge that no report renews ages out by itself.
//
// **Never more.** header_sync only charges, and gives back only what it charged: a limiter with it grants nothing
// that the same limiter would not grant without it, after the same calls.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "../clock/clock.hpp"
#include "../detail/mutex_of.hpp"
#include "detail/stranger_levels.hpp"
#include "hints.hpp"
#include "quota.hpp"

namespace weir::inline v0::detail {

constexpr llm::optional_count& limit_in(llm::quota& q, llm::limit l) noexcept {
    return l == llm::limit::rpm ? q.rpm : l == llm::limit::rps ? q.rps : l == llm::limit::tpm ? q.tpm : q.tps;
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// The limit of a quota that a report speaks of. A report without a window counts as one of a minute, as do longer
/// windows: what is left of those bounds a minute's use as well. None for windows between a second and a minute, and
/// for
/// what a quota does not count.
constexpr limit limit_of(limit_report const& r) noexcept {
    if (r.kind != counted::requests && r.kind != counted::tokens) return limit::none;
    bool const requests = r.kind == counted::requests;
    if (r.window == std::chrono::seconds{1}) return requests ? limit::rps : limit::tps;
    if (r.window == r.window.zero() || r.window >= std::chrono::minutes{1}) return requests ? limit::rpm : limit::tpm;
    return limit::none;
}

/// The limits that the server reports for a minute or a second, for a caller that wants to see whether they are higher;
/// the lowest where there are several.
constexpr quota reported_limits(limit_reports const& reports) noexcept {
    quota q;
    for (auto const& r : reports) {
        limit const l = limit_of(r);
        if (l == limit::none || !r.limit || r.window > std::chrono::minutes{1}) continue;
        auto& p = weir::detail::limit_in(q, l);
        p = p ? (std::min)(*p, *r.limit) : *r.limit;
    }
    return q;
}

/// `configured`, with each limit lowered to what the server reports, but not below 1; a higher report raises nothing.
/// For
/// quota_limiter::change, where the caller trusts the server (some report a slice of a minute and do not say so). Start
/// from what was configured, so that a report that rises again undoes it:
///
///     limiter.change(weir::llm::lowered(configured, reports));
constexpr quota lowered(quota configured, limit_reports const& reports) noexcept {
    quota said = reported_limits(reports);
    for (limit const l : {limit::rpm, limit::rps, limit::tpm, limit::tps}) {
        auto& p = weir::detail::limit_in(configured, l);
        if (auto const& s = weir::detail::limit_in(said, l); p && s)
            p = (std::min)(*p, (std::max<std::uint64_t>)(*s, 1));
    }
    return configured;
}

/// When the server counts what it reports; see above.
enum class report_time : unsigned char { on_arrival, on_reply };

/// For a quota_limiter, which it refers to. It is told of each grant before the call is sent, and of its headers when
/// they are read:
///
///     weir::llm::header_sync sync{quota};
///     if (auto d = quota.try_acquire({.input = input, .output = max_tokens})) {
///         auto const mark = sync.sent(d);
///         auto const reply = send();
///         sync.on_response(mark, weir::llm::read_limits(reply.headers, dialect, wall_now), now);
///     }
///
/// A grant that it is not told of counts as a stranger's where a report shows it: then too little is sent, never too
/// much.
/// A call that was not sent and was refunded only makes it less sharp.
/// All verbs take one mutex for some tens of nanoseconds: they come with calls and answers, never with denied attempts.
/// Nothing is allocated.
template <class Limiter>
class header_sync {
public:
    using time_point = typename Limiter::time_point;
    using duration = typename Limiter::duration;

    /// What is known of a call when it leaves. A plain value; keep it with the call.
    class mark {
    public:
        mark() = default;
        time_point sent() const noexcept { return sent_; }

    private:
        friend header_sync;
        time_point sent_{};
        // What the window held but for what was fed, less all that had been sent by then: modulo 2^64, and right again
        // with a
        // later sum of all that was sent.
        std::array<std::uint64_t, 4> base_{};
        std::uint64_t segment_ = 0;  // in which it was noted
        bool known_ = false;
    };

    explicit header_sync(Limiter& l, report_time when = report_time::on_arrival) noexcept
        : limiter_{l},
          when_{when},
          origin_{weir::detail::ticks(l.clock().now())},
          jitter_{std::chrono::ceil<duration>(l.options().jitter)},
          length_{static_cast<std::uint64_t>((std::chrono::ceil<duration>(std::chrono::minutes{1}) + jitter_).count()) /
                      span +
                  1} {}
    header_sync(header_sync const&) = delete;
    header_sync& operator=(header_sync const&) = delete;

    /// After a grant, before the call leaves. O(1).
    mark sent(typename Limiter::decision const& d) noexcept {
        mark m;
        if (!d.granted()) return m;
        std::lock_guard const lock{mutex_};
        keep_up(d.at());
        // Before the window is read: a call that is not in it yet comes here later.
        sums_.requests += 1;
        sums_.tokens += (std::min)(d.asked().total(), std::uint64_t{1} << 48U);
        newest_ = (std::max)(newest_, segment_of(d.at()));
        segment_at(newest_) = {newest_, sums_};
        quota used = limiter_.used(d.at());
        for (limit const l : limits)
            m.base_[index(l)] = weir::detail::limit_in(used, l).value_or(0) - others_[index(l)].sum() - sum(sums_, l);
        m.sent_ = d.at();
        m.segment_ = newest_;
        m.known_ = true;
        return m;
    }

    /// What came with the reply to that call. Returns what was found to be strangers' use.
    quota on_response(mark const& m, limit_reports const& reports, time_point now) noexcept {
        quota found;
        if (!m.known_ || reports.empty()) return found;
        std::lock_guard const lock{mutex_};
        keep_up(now);
        auto const last = counted_by(m, now);
        if (!last) return found;
        quota in_force = limiter_.limits();
        for (auto const& r : reports) {
            limit const l = limit_of(r);
            if (l == limit::none || !r.remaining) continue;
            auto const most = weir::detail::limit_in(in_force, l);
            if (!most || *r.remaining >= *most || since(m.sent_, now) >= window_of(l)) continue;
            std::uint64_t const taken = *most - *r.remaining;
            std::uint64_t const own = m.base_[index(l)] + sum(*last, l);
            if (taken <= own) continue;
            auto& f = weir::detail::limit_in(found, l);
            f = (std::max)(f.value_or(0), taken - own);
            others_[index(l)].note(taken - own, ends(r, window_of(l), now), window_of(l));
            keep_up(now);
        }
        return found;
    }

    /// What the limiter is charged with for strangers.
    quota charged(time_point now) noexcept {
        std::lock_guard const lock{mutex_};
        keep_up(now);
        quota q = limiter_.limits();
        for (limit const l : limits) {
            if (auto& p = weir::detail::limit_in(q, l)) p = others_[index(l)].sum();
        }
        return q;
    }

    /// Gives back charges whose time is over, as the other verbs do too: for a caller that waits with no call in
    /// flight.
    void expire(time_point now) noexcept {
        std::lock_guard const lock{mutex_};
        keep_up(now);
    }

private:
    [[gnu::__visibility__("hidden")]] static constexpr limit limits[] = {limit::rpm, limit::rps, limit::tpm,
                                                                         limit::tps};
    static constexpr std::uint64_t span = 250;  // segments in a window: the ring has more, so that a window's stay

    struct totals {
        std::uint64_t requests = 0;
        std::uint64_t tokens = 0;
    };
    struct segment {
        std::uint64_t number = (std::numeric_limits<std::uint64_t>::max)();
        totals sums{};  // after the last call in it
    };
    /// A part of what the limiter is charged with.
    struct charge {
        time_point at;
        std::uint64_t amount;
        typename Limiter::decision booked;
    };
    /// Strangers' use of one limit: what is known of it until when, and how it is charged.
    struct strangers {
        weir::detail::stranger_levels<time_point> levels{};
        std::array<std::optional<charge>, 16> charges{};
        bool idle = true;

        void note(std::uint64_t amount, time_point until, duration window) noexcept {
            idle = false;
            levels.note(amount, until, window);
        }
        std::uint64_t known(time_point t) const noexcept { return levels.known(t); }
        std::uint64_t sum() const noexcept {
            std::uint64_t all = 0;
            for (auto const& c : charges) all += c ? c->amount : 0;
            return all;
        }
    };

    static constexpr std::size_t index(limit l) noexcept { return static_cast<std::size_t>(l) - 1; }
    static constexpr std::uint64_t sum(totals const& s, limit l) noexcept {
        return l == limit::rpm || l == limit::rps ? s.requests : s.tokens;
    }
    static constexpr duration window_of(limit l) noexcept {
        return std::chrono::ceil<duration>(std::chrono::seconds{l == limit::rpm || l == limit::tpm ? 60 : 1});
    }
    static constexpr duration since(time_point from, time_point to) noexcept {
        return duration{static_cast<typename duration::rep>(
            weir::detail::saturating_sub(weir::detail::ticks(to), weir::detail::ticks(from)))};
    }
    std::uint64_t segment_of(time_point t) const noexcept {
        std::int64_t const d = weir::detail::saturating_sub(weir::detail::ticks(t), origin_);
        return d > 0 ? static_cast<std::uint64_t>(d) / length_ : 0;
    }

    segment& segment_at(std::uint64_t number) noexcept {
        return ring_[static_cast<std::size_t>(number % ring_.size())];
    }
    segment const& segment_at(std::uint64_t number) const noexcept {
        return ring_[static_cast<std::size_t>(number % ring_.size())];
    }

    /// What had been sent by the latest time at which the server may have counted; none if that is too long ago to
    /// know.
    std::optional<totals> counted_by(mark const& m, time_point now) const noexcept {
        if (when_ == report_time::on_reply) return sums_;
        std::uint64_t s = (std::max)(m.segment_, segment_of((std::min)(now, m.sent_ + jitter_)));
        if ((std::max)(newest_, s) >= m.segment_ + ring_.size()) return std::nullopt;
        // Its own segment is there still, and counts it.
        while (s > m.segment_ && segment_at(s).number != s) --s;
        return segment_at(s).sums;
    }

    static time_point ends(limit_report const& r, duration window, time_point now) noexcept {
        bool const sooner = r.full_reset && r.reset && *r.reset > r.reset->zero() && *r.reset < window;
        return now + (sooner ? std::chrono::ceil<duration>(*r.reset) : window);
    }

    /// The limiter is charged with what is known. A charge leaves this book before the limiter's window: what is
    /// subtracted from
    /// the window's sum is in it.
    void keep_up(time_point now) noexcept {
        for (limit const l : limits) {
            strangers& s = others_[index(l)];
            if (!s.idle) keep_up(l, s, now);
        }
    }
    void keep_up(limit l, strangers& s, time_point now) noexcept {
        duration const window = window_of(l);
        std::uint64_t const wanted = s.known(now);
        for (auto& c : s.charges) {
            if (!c || since(c->at, now) < window / 2) continue;
            // What outlives its charge is charged again, in good time, before the old charge is given back.
            if (since(c->at, now) < window && s.known(c->at + window) != 0) {
                auto again = book(l, c->amount, now);
                limiter_.refund(c->booked);
                c.emplace(charge{now, c->amount, std::move(again)});
            } else if (since(c->at, now) >= window) {
                limiter_.refund(c->booked);
                c.reset();
            }
        }
        std::uint64_t have = s.sum();
        for (auto& c : s.charges) {
            if (!c || have <= wanted) continue;
            std::uint64_t const less = (std::min)(have - wanted, c->amount);
            quota some;
            weir::detail::limit_in(some, l) = less;
            limiter_.refund(c->booked, some);
            have -= less;
            c->amount -= less;
            if (c->amount == 0) c.reset();
        }
        if (have < wanted) {
            auto* place = &s.charges[0];
            for (auto& c : s.charges) {
                if (!c) place = &c;
            }
            // All taken: the first and the rest as one.
            std::uint64_t const amount = wanted - have + (*place ? (*place)->amount : 0);
            auto booked = book(l, amount, now);
            if (*place) limiter_.refund((*place)->booked);
            place->emplace(charge{now, amount, std::move(booked)});
        }
        s.idle = wanted == 0;
    }
    typename Limiter::decision book(limit l, std::uint64_t n, time_point now) noexcept {
        quota use;
        weir::detail::limit_in(use, l) = n;
        return limiter_.charge(use, now);
    }

    Limiter& limiter_;
    report_time when_;
    std::int64_t origin_;
    duration jitter_;
    std::uint64_t length_;  // of a segment, in ticks

    typename weir::detail::mutex_of<typename Limiter::atomics>::type mutex_{};
    std::uint64_t newest_ = 0;
    totals sums_{};  // of all calls
    std::array<segment, 256> ring_{};
    std::array<strangers, 4> others_{};
};

template <class Limiter>
header_sync(Limiter&) -> header_sync<Limiter>;
template <class Limiter>
header_sync(Limiter&, report_time) -> header_sync<Limiter>;

}  // namespace weir::inline v0::llm
