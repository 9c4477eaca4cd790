// SPDX-License-Identifier: MIT
//
// retry_budget exactly: so many retries for so many successes, up to what can be saved, and then the floor's bucket.
#pragma once

#include "bucket_script.hpp"

#include <weir/client/retry_budget.hpp>

namespace script {

template <class Clock>
class budget_run {
    using shared = weir::retry_budget<Clock&, weir::std_atomics>;
    using plain = weir::retry_budget<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

public:
    budget_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const number = [](std::uint16_t code) {
            return static_cast<std::uint32_t>(code % 4 == 0 ? size(code) : code / 4U % 12U);
        };
        retries_ = number(setup[0].a);
        successes_ = number(setup[0].b);
        most_ = number(setup[0].c);
        auto const floor = bucket_config_of<weir::token_bucket<Clock&>>(setup[1], log_);
        weir::retry_budget_options o{retries_, successes_, most_, floor.r.rate, floor.burst};
        bool const is_bad = retries_ == 0 || successes_ == 0 || most_ == 0;
        ensure_equal(static_cast<bool>(shared::validate(o)), is_bad, "refused: a budget");
        if (is_bad) {
            ensure(*shared::validate(o).message() != '\0', "refused without a reason");
            o.retries = retries_ = std::max(retries_, 1U);
            o.successes = successes_ = std::max(successes_, 1U);
            o.max_saved = most_ = std::max(most_, 1U);
        }
        log_.note(retries_, " retries for ", successes_, " successes, at most ", most_);
        clock_.ticks = origin_ = origin_of(setup[0].op);
        shared_.emplace(o, clock_);
        plain_.emplace(o, clock_);
        auto const g = gcra_model::make<duration>(floor.r, floor.burst);
        floor_.emplace(g, max_ticks, g.ticks);
        observe(origin_);
    }

    void take(step const& s) {
        std::int64_t const t = s.pick % 8 == 0 ? minus(clock_.ticks, s.b) : clock_.ticks;
        switch (s.op % 6) {
            case 0:
                clock_.ticks = plus(clock_.ticks, s.pick % 3 == 0 ? size(s.a) : s.a);
                log_.note("the clock goes to ", clock_.ticks);
                return;
            case 1:
            case 2:
                for (unsigned i = 0; i <= s.a % 32U; ++i) succeeded();
                return observe(t);
            case 3: return observe(t);
            default:
                for (unsigned i = 0; i <= s.a % 8U; ++i) retry(t);
                return observe(t);
        }
    }

    /// As the header has it: retries that were not of the floor are no more than the successes earned.
    void end() const {
        ensure(taken_ * successes_ <= succeeded_ * retries_, "more retries than the successes earned");
        floor_->keep_promise();
    }

private:
    std::uint64_t since(std::int64_t t) const { return time_since(origin_, t, floor_->algorithm().horizon); }
    void succeeded() {
        shared_->succeeded();
        plain_->succeeded();
        earned_ = std::min(earned_ + retries_, integer{most_} * successes_);
        succeeded_ += 1;
    }
    void retry(std::int64_t t) {
        bool const earned = earned_ >= integer{successes_};
        bool const grants = earned || floor_->grants(1, since(t));
        log_.note("retry at ", t, grants ? ": granted" : ": denied", earned ? ", as earned" : "");
        ensure_equal(shared_->try_retry(at<time_point>(t)), grants, "retries at ", t);
        ensure_equal(plain_->try_retry(at<time_point>(t)), grants, "with plain cells, retries at ", t);
        if (earned) {
            earned_ -= successes_;
            taken_ += 1;
        } else if (grants) {
            floor_->take(1, since(t));
        }
    }
    void observe(std::int64_t t) const {
        integer const saved = floor_div(earned_, integer{successes_});
        integer const all = saved + floor_->available(since(t));
        ensure_equal(shared_->available(at<time_point>(t)), all.u64(), "available at ", t);
        ensure_equal(plain_->available(at<time_point>(t)), all.u64(), "with plain cells, available at ", t);
    }

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    std::uint32_t retries_ = 0, successes_ = 0, most_ = 0;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    std::optional<bucket_model> floor_;
    integer earned_ = 0;  // in parts of a retry
    integer succeeded_ = 0;
    integer taken_ = 0;
};

inline void retry_budget_script(schedule const& s, journal& log) { interpret<budget_run>(s, log); }

}  // namespace script
