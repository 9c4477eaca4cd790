// SPDX-License-Identifier: MIT
//
// fair_queue' hand-over in every interleaving, as waiting_line_model_test does it for one line: what is new is that
// a newcomer may take the place of the first, which sleeps on. No wake-up is lost: else a thread waits forever, and
// the checker says so. Each execution must also show: a waiter that has joined a class before another of it begins
// is served first; no waiter leaves a trace; no permit is lost or made.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "queue_world.hpp"

#include <weir/wait/fair_queue.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace fair_queue_model_test {

using line_world::pool;
using line_world::stop_source;
using line_world::timer;
using model::options;
using model::scenario;
using weir::permits;
using weir::wait_status;

using lines_type = weir::fair_queue<pool, 2, model::atomics>;

constexpr weir::fair_class two_to_one[] = {{.weight = 2}, {.weight = 1}};

struct waiter {
    std::size_t of = 0;
    permits n = 1;
    bool may_be_stopped = false;
};

struct program {
    permits left = 0;
    std::vector<waiter> waiters{};
    std::vector<permits> refunds{};  // one thread gives them back through the line of class 1, one by one
    std::size_t refunds_through = 1;
    bool one_stops = false;
};

class world {
public:
    explicit world(program const& p)
        : p_{p},
          pool_{p.left},
          lines_{pool_, two_to_one},
          timers_(p.waiters.size()),
          ended_(p.waiters.size()),
          joins_(p.waiters.size()),
          places_(p.waiters.size()) {}

    void wait(std::size_t i) {
        auto const& w = p_.waiters[i];
        timer& t = timers_[i];
        model::span joining = model::begin();
        joins_[i] = joining;
        auto one = (*lines_)[w.of].async_acquire(w.n, t, stop_source::token{w.may_be_stopped ? &stop_ : nullptr});
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
        ended_[i] = a.status();
    }
    void give_back() {
        for (permits const n : p_.refunds) {
            (*lines_)[p_.refunds_through].refund(n);
            returned_ += n;
            ++refunds_ended_;
        }
    }
    void stop() { stop_.request(); }

    void check() const {
        for (std::size_t i = 0; i < ended_.size(); ++i) {
            if (!ended_[i]) return;
            model::check(*ended_[i] == wait_status::granted ||
                             (*ended_[i] == wait_status::stopped && p_.waiters[i].may_be_stopped),
                         "ended for no reason");
        }
        if (refunds_ended_ != p_.refunds.size()) return;
        model::check(lines_->waiting() == 0, "a waiter left a trace in the queues");
        model::check(pool_.left() + granted_ == p_.left + returned_, "permits were lost or made");
        for (std::size_t i = 0; i < ended_.size(); ++i) {
            for (std::size_t j = 0; j < ended_.size(); ++j) {
                if (p_.waiters[i].of != p_.waiters[j].of) continue;
                if ((stood_ >> i & 1U) == 0 || !joins_[i].real_time || !joins_[i].precedes(joins_[j])) continue;
                model::check(places_[i] == 0 || places_[j] == 0 || places_[i] < places_[j],
                             "a waiter was overtaken in its class");
            }
        }
    }

private:
    program p_;
    pool pool_;
    line_world::kept<lines_type> lines_;
    stop_source stop_;
    std::vector<timer> timers_;
    std::vector<std::optional<wait_status>> ended_;
    std::vector<model::span> joins_;
    std::vector<unsigned> places_;
    unsigned stood_ = 0;
    permits granted_ = 0;
    permits returned_ = 0;
    std::size_t refunds_ended_ = 0;
};

std::function<scenario()> of(program const& p) {
    return [p] {
        auto const w = std::make_shared<world>(p);
        scenario s;
        for (std::size_t i = 0; i < p.waiters.size(); ++i) s.threads.push_back([w, i] { w->wait(i); });
        if (!p.refunds.empty()) s.threads.push_back([w] { w->give_back(); });
        if (p.one_stops) s.threads.push_back([w] { w->stop(); });
        s.check = [w] { w->check(); };
        return s;
    };
}

void sees(options o, std::string const& name, program const& p) {
    o.name = name;
    model::sees(o, of(p));
}
void sees(std::string const& name, program const& p) { model::sees_either_way(name, of(p)); }

TEST(fair_queue_model, a_waiter_that_displaces_the_first_wakes_it_when_served) {
    program p;
    p.waiters = {{0, 1}, {1, 1}};
    p.refunds = {2};
    sees("agent | batch | two at once", p);
    p.refunds = {1, 1};
    sees("agent | batch | refund, refund", p);
}

TEST(fair_queue_model, a_waiter_that_displaces_the_first_and_is_stopped_wakes_it) {
    program p;
    p.waiters = {{0, 3, true}, {1, 1}};
    p.left = 0;
    p.refunds = {1};
    p.one_stops = true;
    sees(options::sc(""), "agent for three | batch | refund | stop", p);
    sees(options::bounded("", 2), "agent for three | batch | refund | stop, weak", p);
    p.left = 1;
    p.refunds = {};
    sees("agent for three | batch for what is there | stop", p);
}

TEST(fair_queue_model, a_refund_to_a_class_wakes_the_next_waiter) {
    program p;
    p.waiters = {{1, 2}, {0, 1}};
    p.left = 1;
    p.refunds = {1, 1};
    p.refunds_through = 0;
    sees("batch for two | agent | refund, refund", p);
}

TEST(fair_queue_model, is_fifo_inside_a_class) {
    program p;
    p.waiters = {{0, 1}, {0, 1}};
    p.refunds = {2};
    sees("agent | agent | two at once", p);
}

TEST(fair_queue_model_long, two_of_a_class_and_one_of_the_other) {
    program p;
    p.waiters = {{0, 1}, {0, 1}, {1, 1}};
    p.refunds = {3};
    sees(model::preempted(2), "agent | agent | batch | three at once", p);
    sees(options::bounded("", 1), "agent | agent | batch | three at once, weak", p);
}

}  // namespace fair_queue_model_test
