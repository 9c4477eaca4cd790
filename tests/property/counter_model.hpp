// SPDX-License-Identifier: MIT
//
// What sliding_window_counter.hpp promises: a count for each segment, and the exact log of what was granted.
#pragma once

#include "exact.hpp"
#include "script.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

namespace script {

/// How a window is cut, by the text at the head of the header; nothing where it is refused.
struct counter_cut {
    std::int64_t window = 0;
    std::int64_t length = 0;     // L
    std::uint64_t segments = 0;  // B
    std::uint64_t ring = 0;
    std::uint64_t last = 0;
    unsigned count_bits = 0;

    template <class Duration>
    static std::optional<counter_cut> of(std::uint64_t limit, std::int64_t window, std::uint32_t asked) {
        using exact::integer;
        if (limit == 0 || window <= 0 || integer{window} >= integer::power(60) || asked == 0 || asked > 65'536)
            return std::nullopt;
        counter_cut c;
        c.window = window;
        c.length = ceil_div(integer{window}, integer{asked}).clamped<std::int64_t>();
        c.segments = ceil_div(integer{window}, integer{c.length}).u64();
        c.ring = std::bit_ceil(std::max<std::uint64_t>(c.segments + 1, 8));
        // 30 years, or what the clock can count of them.
        integer const years =
            std::min(floor_div(integer{946'728'000} * Duration::period::den, integer{Duration::period::num}),
                     integer::power(63) - 1);
        std::uint64_t const needed = (floor_div(years, integer{c.length}) + c.ring + c.segments + 2).u64();
        auto const segment_bits = static_cast<unsigned>(std::bit_width(needed));
        unsigned const version_bits = 3;
        // One bit of the count is for overruns.
        if (segment_bits + 1 + version_bits + static_cast<unsigned>(std::bit_width(limit)) + 1 > 64)
            return std::nullopt;
        c.count_bits = 64 - segment_bits - 1 - version_bits;
        c.last = (std::uint64_t{1} << segment_bits) - 1;
        return c;
    }
    std::uint64_t max_limit() const { return (std::uint64_t{1} << (count_bits - 1)) - 1; }
    std::uint64_t max_count() const { return (std::uint64_t{1} << count_bits) - 1; }
};

class counter_model {
public:
    struct receipt {
        std::uint64_t segment = 0;
        std::uint64_t live = 0;
        std::size_t entry = 0;
    };

    counter_model(std::uint64_t limit, counter_cut const& c, std::int64_t origin, std::uint64_t start)
        : cut_{c}, origin_{origin}, ring_(static_cast<std::size_t>(c.ring)), open_{c.ring} {
        for (std::uint64_t s = 0; s < c.ring; ++s) place(s).segment = s;
        std::uint64_t const taken = limit - std::min(limit, start);
        place(open_ - 1).count = taken;
        closed_ = taken;
        limits_[0] = {0, limit};
        log_.push_back({-1, taken, false});
    }

    std::uint64_t limit() const { return limits_[version_].value; }
    counter_cut const& cut() const { return cut_; }

    std::uint64_t segment_of(std::int64_t t) const {
        return cut_.ring + since(t) / static_cast<std::uint64_t>(cut_.length);
    }
    /// The first tick of a segment.
    std::int64_t start_of(std::uint64_t segment) const {
        exact::integer const at =
            std::min(exact::integer{segment - cut_.ring} * cut_.length, exact::integer{max_ticks});
        return (at + origin_).clamped<std::int64_t>();
    }

    /// What a grant of more than nothing does first.
    void move_to(std::int64_t t) { advance(std::min(segment_of(t), cut_.last)); }

    bool grants(std::uint64_t n, std::int64_t t) const { return n == 0 || (n <= limit() && used(t) <= limit() - n); }
    /// Larger than the limit, it needs an empty window.
    bool grants_alone(std::uint64_t n, std::int64_t t) const { return grants(std::min(n, limit()), t); }
    std::uint64_t used_open() const { return closed_ + count_; }
    std::uint64_t used(std::int64_t t) const {
        std::uint64_t const want = std::min(segment_of(t), cut_.last);
        return want <= open_ ? used_open() : at_segment(want);
    }
    std::uint64_t available(std::int64_t t) const { return limit() - std::min(limit(), used(t)); }

    /// The first time, not before t, at which the window holds `budget` at most; none: not while segments can be
    /// counted.
    std::optional<std::int64_t> first_fit(std::uint64_t budget, std::int64_t t) const {
        std::uint64_t const want = segment_of(t);
        // Before the open segment, and in it, the window holds what it holds there.
        if (want <= open_ && used_open() <= budget) return t;
        std::uint64_t g = std::max(want, open_ + 1);
        // The sum falls with each segment that leaves: the first number at which it does so far enough.
        while (at_segment(g) > budget) {
            std::uint64_t oldest = open_;
            for (auto const& w : ring_) {
                if (w.segment >= g - cut_.segments && w.segment < oldest && w.count != 0) oldest = w.segment;
            }
            g = oldest + cut_.segments + 1;
        }
        if (g > cut_.last) return std::nullopt;
        return g == want ? t : std::max(t, start_of(g));
    }
    std::optional<std::int64_t> retry(std::uint64_t n, std::int64_t t) const {
        return n > limit() ? std::nullopt : first_fit(limit() - n, t);
    }

    receipt take(std::uint64_t n, std::int64_t t) {
        if (n != 0) move_to(t);
        count_ += n;
        if (n == 0) return {open_, 0, 0};
        log_.push_back({effective(t), n, n <= limit()});
        keep_promise();
        return {open_, n, log_.size() - 1};
    }
    /// As much as there is room to count.
    receipt overrun(std::uint64_t n, std::int64_t t) {
        count_ = n > cut_.max_count() - count_ ? cut_.max_count() : count_ + n;
        bool const stuck = count_ == cut_.max_count();
        is_exact_ = is_exact_ && !stuck;
        log_.push_back({effective(t), n, false});
        return {open_, stuck ? 0 : n, log_.size() - 1};
    }
    bool is_stuck() const { return count_ == cut_.max_count(); }

    std::uint64_t refund(receipt& r, std::uint64_t k) {
        k = std::min(k, r.live);
        if (k == 0) return 0;
        r.live -= k;
        log_[r.entry].live -= k;
        if (r.segment == open_) return lower(count_, k);
        // Known with the next segment.
        is_behind_ = true;
        auto& w = place(r.segment);
        return w.segment == r.segment ? lower(w.count, k) : 0;
    }

    /// The error's kind: 0 none, 1 bad, 2 busy.
    int change(std::uint64_t to, std::int64_t t) {
        if (to == 0 || to > cut_.max_limit()) return 1;
        move_to(t);
        unsigned const next = (version_ + 1) % 8;
        if (open_ <= limits_[(next + 1) % 8].segment) return 2;
        limits_[next] = {open_, to};
        version_ = next;
        return 0;
    }

    /// A denial of n is one of an exact log of window (B + 1)·L, or a refund of a past segment waits for the next.
    void justify_denial(std::uint64_t n, std::int64_t t) const {
        // At the last segment that can be counted to it stands still.
        if (!is_exact_ || is_behind_ || n > limit() || segment_of(t) > cut_.last) return;
        exact::integer const from = exact::integer{effective(t)} - exact::integer{cut_.length} * (cut_.segments + 1);
        exact::integer sum = 0;
        for (auto const& e : log_) {
            if (exact::integer{e.time} > from) sum += e.live;
        }
        ensure(sum + n > limit(), "denied ", n, " at ", t, ", where a log of a segment more holds ", sum.text());
    }

private:
    struct word {
        std::uint64_t segment = 0;
        std::uint64_t count = 0;
    };
    struct named_limit {
        std::uint64_t segment = 0;
        std::uint64_t value = 0;
    };
    struct entry {
        std::int64_t time;  // effective, since the origin
        std::uint64_t live;
        bool is_granted;  // else an overrun, or what the start says was taken
    };

    std::uint64_t since(std::int64_t t) const {
        exact::integer const d = exact::integer{t} - origin_;
        return std::max(exact::integer{0}, std::min(d, exact::integer{max_ticks})).u64();
    }
    std::int64_t effective(std::int64_t t) const {
        std::uint64_t const start = (open_ - cut_.ring) * static_cast<std::uint64_t>(cut_.length);
        return static_cast<std::int64_t>(std::min(std::max(since(t), start), static_cast<std::uint64_t>(max_ticks)));
    }

    word& place(std::uint64_t segment) { return ring_[static_cast<std::size_t>(segment % cut_.ring)]; }
    std::uint64_t at_segment(std::uint64_t g) const {
        std::uint64_t const from = g - cut_.segments;
        std::uint64_t sum = open_ >= from ? count_ : 0;
        for (auto const& w : ring_) {
            if (w.segment >= from && w.segment < open_) sum += w.count;
        }
        return sum;
    }
    void advance(std::uint64_t want) {
        if (want <= open_) return;
        place(open_) = {open_, count_};
        closed_ = 0;
        for (auto const& w : ring_) {
            if (w.segment >= want - cut_.segments && w.segment < want) closed_ += w.count;
        }
        open_ = want;
        count_ = 0;
        is_behind_ = false;
    }
    std::uint64_t lower(std::uint64_t& count, std::uint64_t k) const {
        if (count == cut_.max_count()) return 0;  // it has lost count, and stays
        k = std::min(k, count);
        count -= k;
        return k;
    }
    /// Of what was granted and not refunded, no more than the limit in force in the window that ends now.
    void keep_promise() const {
        exact::integer sum = 0;
        std::int64_t const now = log_.back().time;
        for (auto const& e : log_) {
            if (e.is_granted && e.time >= now - cut_.window) sum += e.live;
        }
        ensure(sum <= limit(), "the promise: ", sum.text(), " in a window, the limit is ", limit());
    }

    counter_cut cut_;
    std::int64_t origin_;
    std::vector<word> ring_;
    std::uint64_t open_;
    std::uint64_t count_ = 0;
    std::uint64_t closed_ = 0;
    std::array<named_limit, 8> limits_{};
    unsigned version_ = 0;
    std::vector<entry> log_;
    bool is_behind_ = false;
    bool is_exact_ = true;
};

}  // namespace script
