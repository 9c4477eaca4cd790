// SPDX-License-Identifier: MIT
//
// What is learnt from answers, against all that was seen: margin's range of delays, running_quantile's quantile,
// token_estimator's bounds, and the weights of usage.
#pragma once

#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/client/jitter_estimator.hpp>
#include <weir/detail/quantile.hpp>
#include <weir/llm/estimate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace script {

class margin_run {
    using ns = std::chrono::nanoseconds;

public:
    margin_run(std::array<step, 3> const& setup, journal& log) : log_{log} {
        auto const any = [&](std::uint8_t pick, std::uint16_t code) {
            return ns{pick % 8 == 0 ? static_cast<std::int64_t>(size(code)) : std::int64_t{code} * 100'000};
        };
        o_.initial = any(setup[0].op, setup[0].a);
        o_.min_jitter = any(setup[0].pick, setup[0].b);
        o_.max_jitter = any(setup[1].op, setup[1].a);
        o_.steps = any(setup[1].pick, setup[1].b);
        o_.memory = any(setup[2].op, setup[2].a);
        o_.min_samples = setup[0].c % 32U;
        o_.headroom = setup[1].c % 16 == 0 ? setup[1].c : setup[1].c % 400U;
        std::chrono::nanoseconds const hour = std::chrono::hours{1};
        bool const is_bad = o_.min_jitter < ns{0} || o_.initial < o_.min_jitter || o_.max_jitter < o_.initial ||
                            o_.max_jitter > hour || o_.steps < ns{0} || o_.steps > hour || o_.memory <= ns{0} ||
                            o_.min_samples < 2 || o_.headroom > 10'000;
        ensure_equal(static_cast<bool>(weir::jitter_estimator::validate(o_)), is_bad, "refused: a margin");
        if (is_bad) {
            ensure(*weir::jitter_estimator::validate(o_).message() != '\0', "refused without a reason");
            auto const part = [](ns d, std::int64_t n) { return ns{(d.count() & max_ticks) % n}; };
            o_.min_jitter = part(o_.min_jitter, 100'000'000);
            o_.initial = o_.min_jitter + part(o_.initial, 1'000'000'000);
            o_.max_jitter = o_.initial + part(o_.max_jitter, 30'000'000'000);
            o_.steps = part(o_.steps, 10'000'000);
            o_.memory = ns{1} + part(o_.memory, 120'000'000'000);
            o_.min_samples = std::max(o_.min_samples, 2U);
            o_.headroom %= 10'001U;
        }
        log_.note("before ", o_.initial.count(), ", least ", o_.min_jitter.count(), ", most ", o_.max_jitter.count(),
                  ", steps ", o_.steps.count(), ", memory ", o_.memory.count(), ", enough ", o_.min_samples,
                  ", headroom ", o_.headroom);
        real_.emplace(o_);
        ensure_equal(real_->jitter().count(), o_.initial.count(), "before anything is known");
        now_ = origin_of_time(setup[2].b);
    }

    void take(step const& s) {
        auto const delay = [&](std::uint16_t code) {
            return static_cast<std::int64_t>(s.pick % 16 == 0 ? size(code) : std::uint64_t{code} * 10'000);
        };
        unsigned const times = s.op / 4 % 8 == 0 ? 1 + s.c % 40U : 1;
        for (unsigned i = 0; i < times; ++i) {
            switch (s.op % 4) {
                case 0:
                    now_ = plus(now_, s.pick % 3 == 0 ? static_cast<std::uint64_t>(o_.memory.count()) / (1 + s.a % 4U)
                                                      : std::uint64_t{s.a} * 1'000'000);
                    log_.note("the time is ", now_);
                    break;
                case 1: {
                    // Another clock's, which may be anywhere.
                    std::int64_t const stamp = s.pick % 2 == 0 ? plus(now_, static_cast<std::uint64_t>(delay(s.b)))
                                                               : minus(now_, static_cast<std::uint64_t>(delay(s.b)));
                    real_->arrived(ns{now_}, ns{stamp});
                    note(stamped_, integer{stamp} - now_);
                    break;
                }
                default: {
                    std::int64_t const heard =
                        s.a % 16 == 0 ? minus(now_, s.b) : plus(now_, static_cast<std::uint64_t>(delay(s.b)));
                    std::int64_t const took = s.c % 4 == 0 ? 0 : s.c % 4 == 1 ? delay(s.c) : delay(s.b) / 2;
                    real_->answered(ns{now_}, ns{heard}, ns{took});
                    integer const whole = integer{heard} - now_;
                    if (whole.is_negative()) break;
                    note(bounded_, took > 0 && integer{took} <= whole ? whole - took : whole);
                }
            }
        }
        look();
    }

    void end() const { look(); }

private:
    struct seen {
        std::int64_t sent;
        integer delay;
    };
    static std::int64_t origin_of_time(std::uint16_t code) {
        return code % 8 == 0 ? plus(min_ticks, size(code) >> 8U) : static_cast<std::int64_t>(size(code) >> 8U);
    }
    void note(std::vector<seen>& all, integer const& delay) {
        log_.note(&all == &stamped_ ? "stamped " : "bounded ", delay.text());
        all.push_back({now_, std::min(std::max(delay, integer{min_ticks}), integer{max_ticks})});
    }

    struct range {
        integer least = max_ticks, greatest = min_ticks;
        std::uint64_t n = 0;
        void add(integer const& d) {
            least = std::min(least, d);
            greatest = std::max(greatest, d);
            ++n;
        }
    };
    /// Of all, and of what is younger than the memory, which is never forgotten.
    range all_of(std::vector<seen> const& v, bool young) const {
        range r;
        for (auto const& s : v) {
            if (!young || integer{now_} - s.sent < o_.memory.count()) r.add(s.delay);
        }
        return r;
    }
    integer margin_of(integer const& width, bool known) const {
        integer const most = o_.max_jitter.count();
        integer const all = std::min(std::max(width, integer{0}) + o_.steps.count(), most);
        // Headroom is taken of whole hundreds of nanoseconds.
        integer const wide = all + floor_div(all, integer{100}) * o_.headroom;
        return std::min(std::max(wide, integer{known ? o_.min_jitter.count() : o_.initial.count()}), most);
    }

    void look() const {
        auto const j = integer{real_->jitter().count()};
        ensure(j >= integer{o_.min_jitter.count()} && j <= integer{o_.max_jitter.count()},
               "outside its bounds: ", j.text());
        auto const stamps = all_of(stamped_, false);
        auto const bounds = all_of(bounded_, false);
        ensure(real_->measured() <= stamps.n + bounds.n, "more was measured than there was");
        auto const young_stamps = all_of(stamped_, true);
        auto const young_bounds = all_of(bounded_, true);
        ensure(real_->measured() >= young_stamps.n + young_bounds.n, "what is young was forgotten");
        if (stamps.n + bounds.n == 0) return;
        // Nothing is forgotten for less than `enough` that is newer: once it is known, it stays known.
        bool const by_stamps = stamps.n >= o_.min_samples || (bounds.n < o_.min_samples && stamps.n != 0);
        bool const known = stamps.n >= o_.min_samples || bounds.n >= o_.min_samples;
        auto const width = [&](range const& s, range const& b) {
            return by_stamps ? (s.n == 0 ? integer{0} : s.greatest - s.least) : b.n == 0 ? integer{0} : b.greatest;
        };
        integer const least = margin_of(width(young_stamps, young_bounds), known);
        integer const most = margin_of(width(stamps, bounds), known);
        ensure(j >= least, "a margin of ", j.text(), ", where what was seen lately needs ", least.text());
        ensure(j <= most, "a margin of ", j.text(), ", where all that was ever seen needs ", most.text());
    }

    journal& log_;
    weir::jitter_estimator_options o_{};
    std::optional<weir::jitter_estimator> real_;
    std::int64_t now_ = 0;
    std::vector<seen> stamped_, bounded_;
};

class estimate_run {
public:
    estimate_run(step const& setup, journal& log) : log_{log}, fallback_{size(setup.a) >> 20U} {
        w_ = {1 + setup.op % 8U, 1 + setup.op / 8U % 4U, setup.pick % 4U, setup.pick / 4U % 16U, setup.pick / 64U};
        log_.note("weights ", w_.ascii_per_token, ", ", w_.cjk_per_token, ", ", w_.other_bytes_per_token, ", ",
                  w_.per_message, ", ", w_.per_request);
        real_.emplace(w_, fallback_);
    }

    void take(step const& s) {
        switch (s.op % 4) {
            case 0: {
                std::uint64_t const n = s.pick % 2 == 0 ? size(s.a) : std::uint64_t{s.a} * (1 + s.b % 64U);
                for (unsigned i = 0; i <= s.c % 64U; ++i) add(n + (s.pick % 4 == 0 ? i : 0));
                return look(1 + s.b % 100U, 100);
            }
            case 1: {
                auto const t = text_of(s);
                weir::llm::tokens const used{.input = size(s.c), .output = s.b};
                for (unsigned i = 0; i <= s.pick % 40U; ++i) learn(t, used);
                return;
            }
            case 2: return weigh(s);
            default: {
                auto const t = text_of(s);
                auto const e = real_->input(t);
                ensure(e.expected <= e.bound && e.bound <= weir::llm::token_bound(t, w_), "more expected than can be");
                if (learnt_ < weir::llm::token_estimator<>::min_samples)
                    ensure_equal(e.bound, weir::llm::token_bound(t, w_), "before enough is known");
                auto const asked = s.pick % 2 == 0 ? std::optional<std::uint64_t>{s.b} : std::nullopt;
                auto const out = real_->output(asked);
                if (asked) ensure_equal(out, *asked, "what the request says");
                if (!asked && outputs_ < weir::llm::token_estimator<>::min_samples)
                    ensure_equal(out, fallback_, "before enough is known");
                return;
            }
        }
    }

    void end() const {}

private:
    static constexpr std::uint64_t greatest = std::uint64_t{1} << 40U;

    static weir::llm::text_size text_of(step const& s) {
        weir::llm::text_size t;
        t.ascii = s.a % 5'000U;
        t.cjk = s.b % 300U;
        t.other = s.b / 512U;
        t.bytes = t.ascii + 3 * t.cjk + t.other;
        t.messages = s.c % 4U;
        return t;
    }

    void add(std::uint64_t n) {
        real_quantile_.add(n);
        seen_.push_back(std::min(n, greatest));
        log_.note("seen ", n);
        // Half of them are left, each value's rounded up; in what is left each quantile is still between the least and
        // the greatest ever seen.
        if (seen_.size() - 1 == weir::llm::running_quantile<>::memory) is_whole_ = false;
    }
    void look(std::uint32_t numerator, std::uint32_t denominator) {
        if (seen_.empty()) {
            ensure_equal(real_quantile_.at(numerator, denominator), std::uint64_t{0}, "a quantile of nothing");
            return;
        }
        is_whole_ = is_whole_ && seen_.size() < weir::llm::running_quantile<>::memory;
        auto const got = real_quantile_.at(numerator, denominator);
        ensure(real_quantile_.size() <= seen_.size() && real_quantile_.size() < weir::llm::running_quantile<>::memory,
               "more are remembered than there were");
        auto sorted = seen_;
        std::sort(sorted.begin(), sorted.end());
        auto const at_most_an_eighth_above = [&](std::uint64_t exact) {
            return integer{got} * 8 < integer{exact} * 9 || got == exact;
        };
        if (is_whole_) {
            ensure_equal(real_quantile_.size(), seen_.size(), "observations");
            auto const rank = (sorted.size() * numerator + denominator - 1) / denominator;
            std::uint64_t const exact = sorted[rank == 0 ? 0 : rank - 1];
            ensure(got >= exact && at_most_an_eighth_above(exact), "the quantile is ", exact, ", not ", got);
        } else {
            ensure(got >= sorted.front() && at_most_an_eighth_above(sorted.back()),
                   "a quantile outside all that was seen: ", got);
            // What makes up most of the last half of what it remembers is its median's neighbour.
            std::uint32_t const last = std::min<std::uint32_t>(numerator, denominator);
            ensure(real_quantile_.at(last, denominator) <= real_quantile_.at(denominator, denominator),
                   "a quantile above the greatest");
        }
    }

    void learn(weir::llm::text_size const& t, weir::llm::tokens used) {
        real_->learn(t, used);
        log_.note("a text of ", t.bytes, " bytes was ", used.input, " + ", used.output, " tokens");
        auto const plain = weir::llm::expected_tokens(t, w_);
        bool const teaches = used.input != 0 && plain != 0 && used.input < (std::uint64_t{1} << 54U) - 1;
        learnt_ += teaches ? 1U : 0U;
        outputs_ += used.output != 0 ? 1U : 0U;
        if (!teaches || learnt_ < weir::llm::token_estimator<>::min_samples) return;
        // What has just been seen is within the bound for its like, as far as a factor can be told.
        auto const bound = real_->input(t).bound;
        if (used.input / plain >= greatest / 2'048) return;
        ensure(bound >= std::min<std::uint64_t>(used.input, weir::llm::token_bound(t, w_)), "bound to ", bound,
               ", just after it was ", used.input);
    }

    /// So many thousandths of each, rounded up, as far as numbers go.
    static void weigh(step const& s) {
        weir::llm::usage_weights const w{s.a % 3'000U, s.b % 3'000U, s.c, size(s.c) >> (s.pick % 64U)};
        weir::llm::tokens const used{.input = size(s.a), .output = size(s.b)};
        std::uint64_t const cached = size(s.c);
        std::uint64_t const images = s.pick % 5U;
        auto const times = [](integer const& n, std::uint64_t thousandths) {
            return ceil_div(n * thousandths, integer{1000});
        };
        integer const known = std::min(cached, used.input.value());
        integer const in = times(integer{used.input.value()} - known, w.input) + times(known, w.cached) +
                           integer{images} * w.per_image;
        auto const got = weir::llm::weighted(used, cached, images, w);
        ensure_equal(got.input, in.u64(), "input");
        ensure_equal(got.output, times(integer{used.output.value()}, w.output).u64(), "output");
    }

    journal& log_;
    std::uint64_t fallback_;
    weir::llm::token_weights w_{};
    std::optional<weir::llm::token_estimator<weir::unsynchronized>> real_;
    weir::llm::running_quantile<> real_quantile_{};
    std::vector<std::uint64_t> seen_;
    bool is_whole_ = true;
    std::uint64_t learnt_ = 0, outputs_ = 0;
};

inline void margin_script(schedule const& s, journal& log) { take_the_rest<3>(margin_run{setup_of<3>(s), log}, s); }
inline void estimate_script(schedule const& s, journal& log) {
    take_the_rest<1>(estimate_run{setup_of<1>(s)[0], log}, s);
}

}  // namespace script
