// SPDX-License-Identifier: MIT
//
// wait_queue's hand-over in every interleaving: the shipped queue, its mutex the checker's, in the form that
// coroutines use; a timer that only wake() ends, since time stands still. So a wake-up that is lost leaves a thread
// that waits forever, and the checker says so. (Threads take the same steps; they sleep in a parker, which keeps a
// notification as the timer does.) Each execution must also show: a waiter that has joined before another begins is
// served first, by newest stores and in real time; a waiter that leaves without a grant has taken nothing and is out
// of the queue; what is left is what came back less what was granted.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "queue_world.hpp"

#include <weir/wait/wait_queue.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace wait_queue_model_test {

using line_world::pool;
using line_world::stop_source;
using line_world::timer;
using model::coverage;
using model::options;
using model::outcome;
using model::scenario;
using weir::permits;
using weir::wait_status;

using line_type = weir::wait_queue<pool, model::atomics>;

struct waiter {
    permits n = 1;
    bool may_be_stopped = false;
    bool again = false;  // once served, it comes again with its ticket
};

struct program {
    permits left = 0;
    std::vector<waiter> waiters{};
    std::vector<permits> refunds{};       // one thread gives them back through the line, one by one
    std::vector<permits> more_refunds{};  // another
    bool one_stops = false;               // a thread asks the stoppable ones to stop
    permits direct = 0;                   // a thread tries so many past the line
    std::size_t most = 8;                 // places in the line
};

class world {
public:
    explicit world(program const& p)
        : p_{p},
          pool_{p.left},
          line_{pool_, weir::wait_queue_options{.max_waiting = p.most}},
          timers_(p.waiters.size()),
          ended_(p.waiters.size()),
          joins_(p.waiters.size()),
          places_(p.waiters.size()),
          overtaken_(p.waiters.size()) {}

    void wait(std::size_t i) {
        auto const& w = p_.waiters[i];
        weir::queue_ticket ticket;
        if (!visit(i, ticket) || !w.again) return;
        unsigned const before = pool_.grants();
        timer& t = timers_[i];
        auto one = line_->async_try_acquire_until(w.n, pool::time_point::max(), t, ticket, never(i));
        unsigned standing = before;
        bool stood = false;
        if (!one.ready() && one.start({[](void*) {}, nullptr})) {
            stood = true;
            standing = pool_.grants();
            t.run();
        }
        auto const a = one.result();
        if (a.granted()) {
            granted_ += w.n;
            // Those that were served since it joined again, though they arrived after it first did.
            for (std::size_t j = 0; stood && j < places_.size(); ++j) {
                if (j != i && places_[j] > standing && joins_[i].precedes(joins_[j])) ++overtaken_[i];
            }
        }
        ended_[i] = a.status();
    }
    stop_source::token never(std::size_t i) {
        return stop_source::token{p_.waiters[i].may_be_stopped ? &stop_ : nullptr};
    }
    bool visit(std::size_t i, weir::queue_ticket& ticket) {
        auto const& w = p_.waiters[i];
        timer& t = timers_[i];
        model::span joining = model::begin();
        joins_[i] = joining;
        auto one = line_->async_try_acquire_until(w.n, pool::time_point::max(), t, ticket, never(i));
        if (!one.ready() && one.start({[](void*) {}, nullptr})) {
            joins_[i] = model::end(joining);
            stood_ |= 1U << i;
            t.run();
        }
        auto const a = one.result();
        if (a.granted()) {
            granted_ += w.n;
            places_[i] = pool_.last_grant(i);
        }
        ended_[i] = a.granted() && w.again ? std::nullopt : std::optional{a.status()};
        return a.granted();
    }
    void give_back(std::vector<permits> const& all) {
        for (permits const n : all) {
            line_->refund(n);
            returned_ += n;
            ++refunds_ended_;
        }
    }
    void stop() { stop_.request(); }
    void try_directly() {
        if (pool_.try_acquire(p_.direct)) granted_ += p_.direct;
        direct_ended_ = true;
    }

    void check() const {
        bool all_ended = true;
        for (std::size_t i = 0; i < ended_.size(); ++i) {
            if (!ended_[i]) {
                all_ended = false;
                continue;
            }
            auto const why = *ended_[i];
            model::check(why == wait_status::granted || (why == wait_status::stopped && p_.waiters[i].may_be_stopped) ||
                             (why == wait_status::queue_full && p_.waiters.size() > p_.most),
                         "ended for no reason");
        }
        for (unsigned const o : overtaken_) {
            // One may have had his turn already when it came again.
            model::check(o <= 1, "a retry was overtaken by two later arrivals");
        }
        model::check(p_.direct == 0 || direct_ended_, "a direct attempt at the limiter was stopped by the queue");
        if (!all_ended || refunds_ended_ != p_.refunds.size() + p_.more_refunds.size()) return;
        model::check(line_->waiting() == 0, "a waiter left a trace in the queue");
        model::check(pool_.left() + granted_ == p_.left + returned_, "permits were lost or made");
        for (std::size_t i = 0; i < ended_.size(); ++i) {
            for (std::size_t j = 0; j < ended_.size(); ++j) {
                if ((stood_ >> i & 1U) == 0 || !joins_[i].real_time || !joins_[i].precedes(joins_[j])) continue;
                model::check(places_[i] == 0 || places_[j] == 0 || places_[i] < places_[j], "a waiter was overtaken");
            }
        }
    }

private:
    program p_;
    pool pool_;
    line_world::kept<line_type> line_;
    stop_source stop_;
    std::vector<timer> timers_;
    std::vector<std::optional<wait_status>> ended_;
    std::vector<model::span> joins_;
    std::vector<unsigned> places_;
    std::vector<unsigned> overtaken_;
    unsigned stood_ = 0;
    permits granted_ = 0;
    permits returned_ = 0;
    std::size_t refunds_ended_ = 0;
    bool direct_ended_ = false;
};

std::function<scenario()> of(program const& p) {
    return [p] {
        auto const w = std::make_shared<world>(p);
        scenario s;
        for (std::size_t i = 0; i < p.waiters.size(); ++i) s.threads.push_back([w, i] { w->wait(i); });
        if (!p.refunds.empty()) s.threads.push_back([w, &p] { w->give_back(p.refunds); });
        if (!p.more_refunds.empty()) s.threads.push_back([w, &p] { w->give_back(p.more_refunds); });
        if (p.one_stops) s.threads.push_back([w] { w->stop(); });
        if (p.direct != 0) s.threads.push_back([w] { w->try_directly(); });
        s.check = [w] { w->check(); };
        return s;
    };
}

void sees(options o, std::string const& name, program const& p) {
    o.name = name;
    model::sees(o, of(p));
}
void sees(std::string const& name, program const& p) { model::sees_either_way(name, of(p)); }

TEST(wait_queue_model, a_refund_wakes_a_waiter_anywhere_on_its_way_in) {
    program p;
    p.waiters = {{1}};
    p.refunds = {1};
    sees("wait | refund", p);
    p.waiters = {{2}};
    p.refunds = {1, 1};
    sees("wait for two | refund, refund", p);
    p.refunds = {1};
    p.more_refunds = {1};
    sees("wait for two | refund | refund", p);
}

TEST(wait_queue_model, a_waiter_that_is_served_wakes_the_next) {
    program p;
    p.waiters = {{1}, {1}};
    p.refunds = {2};
    sees("wait | wait | two at once", p);
    p.refunds = {1, 1};
    sees("wait | wait | refund, refund", p);
    p.waiters = {{2}, {1}};
    p.refunds = {3};
    sees("wait for two | wait | three at once", p);
}

TEST(wait_queue_model, a_waiter_that_is_stopped_leaves_no_trace_and_wakes_the_next) {
    program p;
    p.waiters = {{1, true}};
    p.refunds = {1};
    p.one_stops = true;
    sees("wait | refund | stop", p);
    p.waiters = {{1, true}, {1}};
    p.refunds = {2};
    sees("wait | wait | two at once | stop", p);
    // What the stopped waiter does not take is enough for the other: it must not sleep on it.
    p.waiters = {{3, true}, {1}};
    p.left = 1;
    p.refunds = {};
    sees("wait for three | wait for what is there | stop", p);
}

TEST(wait_queue_model_long, no_wake_up_is_lost_when_a_retry_displaces_the_first) {
    program p;
    p.waiters = {{1, false, true}, {1}};
    p.refunds = {3};
    sees("wait, again | wait | three at once", p);
    p.left = 1;
    p.refunds = {2};
    sees("at once, again | wait | two at once", p);
    p.refunds = {1, 1};
    sees(options::sc(""), "at once, again | wait | refund, refund", p);
    sees(options::bounded("", 1), "at once, again | wait | refund, refund, weak", p);
    p.waiters = {{1, true, true}, {1}};
    p.refunds = {2};
    p.one_stops = true;
    sees(options::sc(""), "at once, again, or stopped | wait | two at once | stop", p);
    sees(options::bounded("", 1), "at once, again, or stopped | wait | two at once | stop, weak", p);
}

TEST(wait_queue_model, a_full_queue_refuses_and_leaves_no_trace) {
    program p;
    p.most = 1;
    p.waiters = {{1}, {1}};
    p.refunds = {2};
    sees("a line of one", p);
}

TEST(wait_queue_model, a_waiter_suspended_anywhere_does_not_stop_direct_attempts) {
    // Where the mutex is never released, what needs it waits: joining, leaving, giving back through the queue.
    program p;
    p.waiters = {{1}};
    p.refunds = {2};
    p.direct = 1;
    std::uint64_t executions = 0;
    unsigned const for_ever_on = options::unlimited;
    for (unsigned first = 0; first != for_ever_on;) {
        unsigned first_took = 0;
        for (unsigned second = 0;; ++second) {
            auto o = options::weak("frozen at " + std::to_string(first) + " and " + std::to_string(second));
            o.frozen = {{0, first}, {1, second}};
            auto const out = model::explore(o, of(p));
            ASSERT_TRUE(out.passed(coverage::complete)) << out;
            executions += out.executions;
            first_took = std::max(first_took, out.thread_steps[0]);
            if (out.thread_steps[1] < second) break;
        }
        first = first_took < first ? for_ever_on : first + 1;
    }
    std::cout << "frozen at every pair of steps: complete, " << executions << " executions" << std::endl;
    EXPECT_GT(executions, 1000U);
}

TEST(wait_queue_model_long, three_in_the_queue) {
    program p;
    p.waiters = {{1}, {1}, {1}};
    p.refunds = {3};
    sees(model::preempted(2), "three wait | three at once", p);
    sees(options::bounded("", 1), "three wait | three at once, weak", p);
    p.left = 1;
    p.waiters = {{1, false, true}, {1}, {1}};
    sees(model::preempted(2), "at once, again | wait | wait | three at once", p);
}

}  // namespace wait_queue_model_test
