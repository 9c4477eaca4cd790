// SPDX-License-Identifier: MIT
//
// The turn of a queue_group in every interleaving: each queue has a pool of its own and shares another. Time stands
// still, so that a turn that is lost leaves a thread that waits without end, and the checker reports it.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "queue_world.hpp"

#include <weir/wait/queue_group.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace queue_group_model_test {

using line_world::kept;
using line_world::pool;
using line_world::stop_source;
using line_world::timer;
using model::options;
using model::scenario;
using weir::permits;
using weir::wait_status;

// Both pools or none, as an all_of.
class both {
public:
    using clock_type = pool::clock_type;
    using time_point = pool::time_point;
    using duration = pool::duration;

    class decision : public pool::decision {
    public:
        decision(bool granted, std::size_t part) : pool::decision{granted}, part_{part} {}
        std::size_t denied_by() const { return part_; }

    private:
        std::size_t part_;
    };

    both(pool& own, pool& shared) : own_{own}, shared_{shared} {}
    decision try_acquire(permits n) {
        if (!own_.try_acquire(n)) return {false, 0};
        if (shared_.try_acquire(n)) return {true, 2};
        own_.refund(n);
        return {false, 1};
    }
    permits refund(permits n) {
        shared_.refund(n);
        return own_.refund(n);
    }
    std::tuple<pool*, pool*> leaves() { return {&own_, &shared_}; }
    clock_type const& clock() const { return own_.clock(); }

private:
    pool& own_;
    pool& shared_;
};

using group_type = weir::queue_group<model::atomics>;
using queue_type = weir::grouped_queue<both, model::atomics>;

struct waiter {
    std::size_t in = 0;
    permits n = 1;
    bool may_be_stopped = false;
};
struct program {
    permits own[2] = {9, 9};
    permits shared = 0;
    std::vector<waiter> waiters{};
    std::vector<permits> to_own{};     // a thread gives them to the first queue's own pool, one by one
    std::vector<permits> to_shared{};  // another gives them to the shared pool
    bool one_stops = false;
};

class world {
public:
    explicit world(program const& p)
        : p_{p},
          shared_{p.shared},
          own_{std::make_unique<pool>(p.own[0]), std::make_unique<pool>(p.own[1])},
          limits_{std::make_unique<both>(*own_[0], shared_), std::make_unique<both>(*own_[1], shared_)},
          group_{shared_},
          timers_(p.waiters.size()),
          ended_(p.waiters.size()) {
        for (auto& l : limits_) queues_.push_back(std::make_unique<kept<queue_type>>(*group_, *l));
    }
    void wait(std::size_t i) {
        auto const& w = p_.waiters[i];
        auto one =
            (*queues_[w.in])->async_acquire(w.n, timers_[i], stop_source::token{w.may_be_stopped ? &stop_ : nullptr});
        if (!one.ready() && one.start({[](void*) {}, nullptr})) timers_[i].run();
        ended_[i] = one.result().status();
        if (ended_[i] == wait_status::granted) granted_ += w.n;
    }
    void give_own() {
        for (permits const n : p_.to_own) {
            own_[0]->refund(n);
            (*queues_[0])->notify();
        }
    }
    void give_shared() {
        for (permits const n : p_.to_shared) {
            shared_.refund(n);
            group_->notify();
            returned_ += n;
        }
    }
    void stop() { stop_.request(); }
    void check() const {
        permits expected = p_.shared;
        for (permits const n : p_.to_shared) expected += n;
        for (std::size_t i = 0; i < ended_.size(); ++i) {
            if (!ended_[i]) return;
            model::check(*ended_[i] == wait_status::granted ||
                             (*ended_[i] == wait_status::stopped && p_.waiters[i].may_be_stopped),
                         "ended for no reason");
        }
        if (returned_ + p_.shared != expected) return;
        model::check(group_->waiting() == 0, "a waiter left a trace");
        model::check(shared_.left() + granted_ == expected, "permits were lost or made");
    }

private:
    program p_;
    pool shared_;
    std::unique_ptr<pool> own_[2];
    std::unique_ptr<both> limits_[2];
    kept<group_type> group_;
    std::vector<std::unique_ptr<kept<queue_type>>> queues_;
    stop_source stop_;
    std::vector<timer> timers_;
    std::vector<std::optional<wait_status>> ended_;
    permits granted_ = 0;
    permits returned_ = 0;
};

std::function<scenario()> of(program const& p) {
    return [p] {
        auto const w = std::make_shared<world>(p);
        scenario s;
        for (std::size_t i = 0; i < p.waiters.size(); ++i) s.threads.push_back([w, i] { w->wait(i); });
        if (!p.to_own.empty()) s.threads.push_back([w] { w->give_own(); });
        if (!p.to_shared.empty()) s.threads.push_back([w] { w->give_shared(); });
        if (p.one_stops) s.threads.push_back([w] { w->stop(); });
        s.check = [w] { w->check(); };
        return s;
    };
}

TEST(queue_group_model, the_turn_is_handed_on_with_each_grant) {
    model::sees_either_way("queue | queue | two to the shared pool", of({.waiters = {{0}, {1}}, .to_shared = {2}}));
    program const twice{.waiters = {{0}, {0}}, .to_shared = {2}};
    model::sees(options::sc("one queue twice | two to the shared pool"), of(twice));
    model::sees(options::bounded("one queue twice | two to the shared pool, weak", 1), of(twice));
}
TEST(queue_group_model, a_queue_that_is_blocked_passes_its_turn_and_gets_it_back) {
    model::sees_either_way("blocked | open | one to its own",
                           of({.own = {0, 9}, .shared = 2, .waiters = {{0}, {1}}, .to_own = {1}}));
    model::sees(options::bounded("blocked | open | one to its own | two to the shared pool", 1),
                of({.own = {0, 9}, .waiters = {{0}, {1}}, .to_own = {1}, .to_shared = {2}}));
}
TEST(queue_group_model, a_waiter_that_is_stopped_with_the_turn_hands_it_on) {
    model::sees(options::sc("stopped | other | one to the shared pool"),
                of({.waiters = {{0, 2, true}, {1}}, .to_shared = {1}, .one_stops = true}));
    model::sees(options::bounded("stopped | other | one to the shared pool, weak", 1),
                of({.waiters = {{0, 2, true}, {1}}, .to_shared = {1}, .one_stops = true}));
}

}  // namespace queue_group_model_test
