// SPDX-License-Identifier: MIT
//
// The attempts of a sliding_window_counter, in ticks and without a clock: in one step, in two (prepare and commit) for
// limiters that look at all their windows before they charge any, and shared by several counters. window_state.hpp
// lists the pairs of the memory orders.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "../limiter.hpp"
#include "saturating.hpp"
#include "window_layout.hpp"
#include "window_segments.hpp"
#include "window_state.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::detail {

/// At most `limit` permits in any window: what sliding_window_counter promises, which is made of it, and what
/// quota_limiter is made of.
///
/// A counter may share its limit with others. A caller first charges its hold in counter H, and then calls
/// main.try_acquire_shared(n, t, others) with others = H.used_at(t), less its own hold where n stands for it. What
/// moves between them is charged in the one before it is refunded in the other.
///
/// Lemma: the two together never exceed the limit. (a) The exchange (3) on main's head is acq_rel, and all that follow
/// it on head continue its release. So the later of two exchanges sees the earlier one's hold when it looks at the
/// others again. (b) This second look is needed: refunds may bring head back to an old value, and then the exchange
/// succeeds on a sum that is stale. (c) It reads the others first and this counter last, so what moves meanwhile is
/// counted at least once. If the sum exceeds the limit, the charge is taken back and the attempt denied: of attempts
/// that race for the last room, all may be denied.
template <class Atomics>
class window_counter : public window_segments<Atomics> {
    using base = window_segments<Atomics>;
    using words = window_words;

public:
    using typename base::word;

    window_counter(window_layout const& p, permits limit, permits taken, std::int64_t origin)
        : base{p, limit, taken, origin} {}
    ~window_counter() = default;

    // ---- in one step ----

    struct attempt {
        word head = 0;      // after a grant; of a denial, what it was decided by
        permits taken = 0;  // 0 when denied
        permits room = 0;   // after a grant, or at the time of a denial
        bool granted = false;
    };

    /// Takes n at `t` if the window then holds no more than the limit. A denial changes nothing. Alone: n above the
    /// limit is granted when the window is empty and counts in full, max_limit() at most.
    template <bool Alone = false>
    [[gnu::__always_inline__]] attempt try_acquire(permits n, std::int64_t t) noexcept {
        for (;;) {
            // (10): the load (1) after it sees a head at that segment or a later one. So `t`, if it is not past the end
            // of that one, is not past the end of head's.
            if (t <= cached_segment_end_.load(std::memory_order_acquire)) [[likely]] {
                // (1) pairs with (2) and (6)
                word h = head_.load(std::memory_order_acquire);
                // Relaxed: a segment and a version of head have one total and one limit, so one room, whichever thread
                // wrote it.
                word const c = cached_room_.load(std::memory_order_relaxed);
                if (words_.is_current(c, h)) [[likely]] {
                    permits const room = words::room(h, c);
                    word desired = words::charged(h, n);
                    if (n > room) {
                        if (!Alone || room < this->limit_at(h) || n == permit_count::invalid_value) return {h, 0, room};
                        desired = words_.overcharged(h, (std::min)(n, this->max_limit()));
                    }
                    // Relaxed: it publishes nothing, and what it covers (segment, open, version, count) is one word.
                    // Equal words mean equal totals and limits, so a word that came back is no danger. Continues the
                    // release sequences of (2), (3) and (6).
                    if (head_.compare_exchange_weak(h, desired, std::memory_order_relaxed, std::memory_order_relaxed))
                        [[likely]] {
                        return {desired, desired - h, n > room ? 0 : room - n, true};
                    }
                    continue;
                }
            }
            attempt denied;
            if (!enter<Alone>(n, t, denied)) return denied;
        }
    }

    /// What try_acquire would answer. Changes nothing.
    [[gnu::__always_inline__]] attempt check(permits n, std::int64_t t) const noexcept {
        attempt a;
        if (!is_known(t, a)) [[unlikely]]
            return check_slowly(n, t);
        a.granted = n <= a.room;
        return a;
    }

    /// Whether an attempt at `t` is certain to be denied, though the clock may not have reached `t`: `a` says how. It
    /// never moves the counter on.
    [[gnu::__always_inline__]] bool is_denied_at(permits n, std::int64_t t, attempt& a) const noexcept {
        return is_known(t, a) && n > a.room;
    }

    /// Charges n at `t`, whether it fits or not: an overrun, which blocks later grants and is outside the promise.
    /// Counted in the segment of max(t, open segment). The count saturates, and what saturated cannot be refunded.
    window_receipt force_acquire(permits n, std::int64_t t) noexcept {
        this->advance_to(t);
        for (;;) {
            // (1): shows a head at the segment of t or later, open or not, and the limit that it names.
            word h = head_.load(std::memory_order_acquire);
            if (words_.is_closing(h)) {
                this->advance(0);
                continue;
            }
            word const desired = words_.overcharged(h, n);
            // Relaxed: as the grant's. The exchange is made even where nothing changes, so that the answer is of one
            // moment.
            if (head_.compare_exchange_weak(h, desired, std::memory_order_relaxed, std::memory_order_relaxed))
                [[likely]] {
                return window_receipt{desired, words_.is_stuck(desired) ? 0 : n};
            }
        }
    }

    /// Before the counter is shared: books n permits that were taken at `t`.
    void restore(permits n, std::int64_t t) noexcept {
        if (!this->restore_past(n, t)) (void)force_acquire(n, t);
    }

    // ---- in two steps ----

    /// What the window holds in a segment that is not open yet, for a commit that opens it.
    struct forecast {
        word head;  // of which it was summed; 0: the segment is open, but its cached room is not known
        std::uint64_t segment;
        permits used;
    };

    /// Phase one of an attempt: the word of head on which it would be granted.
    class prepared {
    public:
        constexpr bool granted() const noexcept { return head_ != 0; }
        /// It would be granted where a forecast was made: there is no word yet.
        constexpr bool is_later() const noexcept { return head_ == later; }

    private:
        friend window_counter;
        static constexpr word later = 1;
        word head_ = 0;  // a head is neither 0 nor 1: segments are numbered from the ring's size on
    };

    /// As check, and commit can take it up.
    [[gnu::__always_inline__]] prepared prepare(permits n, std::int64_t t, forecast& f) const noexcept {
        attempt a;
        if (!is_known(t, a)) [[unlikely]]
            return prepare_later(n, n, t, f);
        prepared p;
        if (n <= a.room) p.head_ = a.head;
        return p;
    }
    /// For an attempt that is granted in an empty window only, whatever its number; `others` counts too.
    [[gnu::__noinline__]] prepared prepare_alone(permits n, std::int64_t t, window_usage others) const noexcept {
        prepared p;
        auto const s = this->sum_at((std::max)(t, others.as_of));
        if (others.used == 0 && has_room<true>(n, room_of(s.used, this->limit()), this->limit()))
            p.head_ = prepared::later;
        return p;
    }

    /// As try_acquire(n, t), of what was prepared for them: one exchange if head is as it was then, whatever happened
    /// meanwhile (equal words mean equal totals and limits); a new attempt if not.
    [[gnu::__always_inline__]] bool commit(prepared p, forecast const& f, permits n, std::int64_t t,
                                           window_receipt& r) noexcept {
        if (commit_shared(p, n, r)) [[likely]]
            return true;
        return commit_again(p.is_later() ? &f : nullptr, n, t, r);
    }

    // ---- with a limit that other counters share ----

    /// Takes n at `t` if what the window holds, n and others() are together within the limit. others() says what other
    /// counters hold of it. The attempt is made no earlier than its time, so that what has aged out there cannot be in
    /// this window. It is called several times.
    template <class Others>
    bool try_acquire_shared(permits n, std::int64_t t, Others others, window_receipt& r) noexcept {
        for (;;) {
            forecast f;
            prepared const p = prepare_shared(n, t, others, f);
            if (!p.granted()) return false;
            if (p.is_later()) {
                if (n == 0) return true;
                window_usage const x = others();
                attempt denied;
                if (!enter<false>(saturating_sum(n, x.used), (std::max)(t, x.as_of), denied)) return false;
                continue;
            }
            if (!commit_shared(p, n, r)) continue;
            outcome const did = n == 0 ? outcome::yes : look_again(r, others());
            if (did != outcome::again) return did == outcome::yes;
        }
    }

    /// The steps of try_acquire_shared one by one, for a limiter that has several counters next to the same others:
    /// prepare each, commit each, one look at the others, and verify each. Where a commit or a verification fails,
    /// nothing is charged here.
    template <class Others>
    [[gnu::__always_inline__]] prepared prepare_shared(permits n, std::int64_t t, Others others,
                                                       forecast& f) const noexcept {
        // (10)
        std::int64_t const end = cached_segment_end_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        window_usage const x = others();
        // Relaxed: as in try_acquire.
        word const c = cached_room_.load(std::memory_order_relaxed);
        std::int64_t const latest = (std::max)(t, x.as_of);
        if (latest <= end && words_.is_current(c, h)) [[likely]] {
            permits const room = words::room(h, c);
            prepared p;
            if (n == 0 || (n <= room && x.used <= room - n)) p.head_ = h;
            return p;
        }
        return prepare_later(n, saturating_sum(n, x.used), latest, f);
    }
    [[gnu::__always_inline__]] bool commit_shared(prepared p, permits n, window_receipt& r) noexcept {
        word h = p.head_;
        // (3) pairs with itself in other attempts, for what others() reads. Where there is no word yet, it fails.
        if (!head_.compare_exchange_weak(h, words::charged(h, n), std::memory_order_acq_rel, std::memory_order_relaxed))
            [[unlikely]] {
            return false;
        }
        r = window_receipt{words::charged(h, n), n};
        return true;
    }
    /// `others` was looked up after the commit.
    [[gnu::__always_inline__]] bool verify_shared(window_receipt& r, window_usage others) noexcept {
        return look_again(r, others) == outcome::yes;
    }

private:
    using base::cached_room_;
    using base::cached_segment_end_;
    using base::closed_;
    using base::head_;
    using base::scale_;
    using base::words_;

    enum class outcome { yes, no, again };

    static constexpr permits room_of(permits used, permits limit) noexcept { return limit - (std::min)(used, limit); }
    template <bool Alone>
    static constexpr bool has_room(permits n, permits room, permits limit) noexcept {
        return n <= room || (Alone && room >= limit && n != permit_count::invalid_value);
    }

    /// Whether the cached room is that of the open segment, and that is the segment of `t`: then `a` is the room.
    [[gnu::__always_inline__]] bool is_known(std::int64_t t, attempt& a) const noexcept {
        // (10)
        if (t > cached_segment_end_.load(std::memory_order_acquire)) [[unlikely]]
            return false;
        // (1)
        a.head = head_.load(std::memory_order_acquire);
        // Relaxed: as in try_acquire.
        word const c = cached_room_.load(std::memory_order_relaxed);
        if (!words_.is_current(c, a.head)) [[unlikely]]
            return false;
        a.room = words::room(a.head, c);
        return true;
    }
    [[gnu::__noinline__]] attempt check_slowly(permits n, std::int64_t t) const noexcept {
        auto const s = this->sum_at(t);
        // (1)
        word const h = s.head != 0 ? s.head : head_.load(std::memory_order_acquire);
        permits const room = room_of(s.used, this->limit_at(h));
        return {h, 0, room, n <= room};
    }

    /// What a commit of n will need where the cached room is not that of `t`; `sum` with what others hold.
    [[gnu::__noinline__]] prepared prepare_later(permits n, permits sum, std::int64_t t, forecast& f) const noexcept {
        prepared p;
        auto const s = this->sum_at(t);
        if (n != 0 && sum > room_of(s.used, s.head != 0 ? this->limit_at(s.head) : this->limit())) return p;
        p.head_ = prepared::later;
        f = {s.head, (std::min)(s.segment, scale_.last()), s.used};
        return p;
    }
    [[gnu::__noinline__]] bool commit_again(forecast const* f, permits n, std::int64_t t, window_receipt& r) noexcept {
        if (f != nullptr && f->head != 0 && n != 0) carry(f->head, f->segment, f->used);
        attempt const a = try_acquire(n, t);
        if (a.granted) r = window_receipt{a.head, a.taken};
        return a.granted;
    }

    /// Opens segment g, for which `used` was summed of h; if head is h no longer, nothing.
    void carry(word h, std::uint64_t g, permits used) noexcept {
        if (words_.is_closing(h) || this->close(h)) {
            this->help(h, g, [used](std::uint64_t) { return used; });
        }
    }

    /// Opens the segment of `t` if an attempt of n would then be granted. False: it would not, and nothing has changed.
    ///
    /// A sum of the segments of the ring never rises while they age, and the exchange that closes head's segment fails
    /// unless the count is the one that was summed. So when it succeeds there is room for n in the new segment, and
    /// only a grant made there since can have taken it.
    template <bool Alone>
    [[gnu::__noinline__]] bool enter(permits n, std::int64_t t, attempt& a) noexcept {
        if (n == 0) {  // it opens no segment
            a = check_slowly(0, t);
            return false;
        }
        std::uint64_t const want = scale_.reachable(t);
        for (;;) {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            bool const closing = words_.is_closing(h);
            if (!closing && words_.segment(h) >= want) {
                this->refresh();
                return true;
            }
            std::uint64_t const g = words_.next_charge(h, want);
            permits used = 0;
            if (!this->sum_ahead(h, g, used)) continue;
            permits const limit = this->limit_at(h);
            permits const room = room_of(used, limit);
            if (!has_room<Alone>(n, room, limit)) {
                a = {h, 0, room};
                return false;
            }
            carry(h, g, used);
        }
    }

    /// The second look of try_acquire_shared.
    [[gnu::__always_inline__]] outcome look_again(window_receipt& r, window_usage others) noexcept {
        // (10): as long as head is at this segment, cached_segment_end_ is not past its end.
        std::int64_t const end = cached_segment_end_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        // Relaxed: as in try_acquire.
        word const c = cached_room_.load(std::memory_order_relaxed);
        if (words_.segment(h) == words_.segment(r.head()) && others.as_of <= end && words_.is_current(c, h) && h <= c &&
            others.used <= c - h) [[likely]] {
            return outcome::yes;
        }
        return look_closely(r, others);
    }

    /// The same without the cached room, which may be of another moment; takes the charge back where it does not fit.
    [[gnu::__noinline__]] outcome look_closely(window_receipt& r, window_usage others) noexcept {
        std::uint64_t const charged = words_.segment(r.head());
        bool const late = scale_.reachable(others.as_of) > charged;
        permits const used = this->sum_in(charged).used;
        permits const most = this->limit();
        if (!late && used <= most && others.used <= most - used) return outcome::yes;
        this->refund(r);
        return late ? outcome::again : outcome::no;
    }
};

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
