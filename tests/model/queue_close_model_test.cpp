// SPDX-License-Identifier: MIT
//
// close() and the destructor of wait_queue and grouped_queue in every interleaving. No waiter is left behind: a
// wake-up that is lost leaves a thread that waits without end, and the checker reports it. Nothing is used after its
// end: the queue's mutex and words know when they are destroyed. A thread takes the same steps as thread_waiter,
// with the checker's signal in place of a parker.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "queue_world.hpp"

#include <weir/wait/queue_group.hpp>
#include <weir/wait/wait_queue.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace queue_close_model_test {

using line_world::kept;
using line_world::pool;
using line_world::stop_source;
using line_world::timer;
using model::options;
using model::scenario;
using weir::permits;
using weir::wait_status;

// Something that must not be used after its destructor.
class mortal {
public:
    mortal() = default;
    mortal(mortal const&) = delete;
    mortal& operator=(mortal const&) = delete;
    ~mortal() { alive_ = false; }
    void check() const { model::check(alive_, "used after its end"); }

private:
    volatile bool alive_ = true;
};

struct mortal_atomics {
    template <class T>
    class atomic : mortal, model::atomics::atomic<T> {
        using base = model::atomics::atomic<T>;
        using order = std::memory_order;

    public:
        using base::base;
        T load(order o) const { return checked().load(o); }
        T exchange(T x, order o) { return checked().exchange(x, o); }
        T fetch_add(T n, order o) { return checked().fetch_add(n, o); }
        T fetch_sub(T n, order o) { return checked().fetch_sub(n, o); }
        bool compare_exchange_strong(T& e, T d, order s, order f) {
            return checked().compare_exchange_strong(e, d, s, f);
        }

    private:
        base& checked() {
            check();
            return *this;
        }
        base const& checked() const {
            check();
            return *this;
        }
    };
    class mutex : mortal {
    public:
        void lock() {
            check();
            mutex_.lock();
        }
        void unlock() {
            check();
            mutex_.unlock();
        }

    private:
        model::atomics::mutex mutex_;
    };
    using event = model::atomics::event;
};

using queue_type = weir::wait_queue<pool, mortal_atomics>;
using group_type = weir::queue_group<mortal_atomics>;
using member_type = weir::grouped_queue<pool, mortal_atomics>;

// What thread_waiter does.
template <class Queue>
class thread_like : public weir::detail::waiter<Queue, permits, weir::never_stop> {
    using base = weir::detail::waiter<Queue, permits, weir::never_stop>;
    using node = weir::detail::waiter_node<mortal_atomics>;

public:
    thread_like(Queue& q, permits n)
        : base{q,  n,       pool::time_point::max(),
               {}, nullptr, [](node& p) { static_cast<thread_like&>(p).signal_.raise(); }} {}
    template <class Joined>
    void wait(Joined joined) {
        if (this->settled_at_once() || !this->join()) return joined();
        joined();
        while (!this->step()) signal_.wait();
    }

private:
    model::signal signal_;
};

struct waiter {
    bool is_thread = false;
    std::size_t in = 0;  // which member of a group
};
struct program {
    permits left = 0;
    std::vector<waiter> waiters{};
    permits refund = 0;     // a thread gives so many back through the first queue
    bool destroys = false;  // the queue is destroyed, when all have joined; else it is closed at any time
};

template <class Queue>
class world {
    static constexpr bool is_group = std::is_same_v<Queue, member_type>;

public:
    explicit world(program const& p)
        : p_{p}, pool_{p.left}, group_{pool_}, timers_(p.waiters.size()), ended_(p.waiters.size()) {
        for (std::size_t i = 0; i < members; ++i) {
            if constexpr (is_group) {
                queues_.push_back(std::make_unique<kept<Queue>>(*group_, pool_));
            } else {
                queues_.push_back(std::make_unique<kept<Queue>>(pool_));
            }
        }
    }
    void wait(std::size_t i) {
        Queue& q = **queues_[p_.waiters[i].in];
        if (p_.waiters[i].is_thread) {
            thread_like<Queue> w{q, 1};
            w.wait([this] { joined(); });
            ended(i, std::move(w).result().status());
        } else {
            auto w = q.async_acquire(permits{1}, timers_[i]);
            bool const waits = !w.ready() && w.start({[](void*) {}, nullptr});
            joined();
            if (waits) timers_[i].run();
            ended(i, w.result().status());
        }
    }
    void give_back() {
        (*queues_[0])->refund(p_.refund);
        returned_ = p_.refund;
        joined();
    }
    void end() {
        if (!p_.destroys) {
            if constexpr (is_group) {
                group_->close();
            } else {
                (*queues_[0])->close();
            }
            return;
        }
        for (std::size_t i = 0; i < p_.waiters.size() + (p_.refund != 0 ? 1 : 0); ++i) all_joined_.wait();
        for (auto& q : queues_) q->destroy();
    }
    void check() const {
        for (auto const& e : ended_) {
            if (!e) return;
            model::check(*e == wait_status::granted || *e == wait_status::closed, "ended for no reason");
        }
        model::check(pool_.left() + granted_ == p_.left + returned_ || (p_.refund != 0 && returned_ == 0),
                     "permits were lost or made");
    }

private:
    static constexpr std::size_t members = is_group ? 2 : 1;

    // A count, of signals that are raised one at a time.
    struct counting_signal {
        void raise() {
            mutex.lock();
            ++count;
            mutex.unlock();
            some.raise();
        }
        void wait() {
            for (;;) {
                mutex.lock();
                bool const taken = count != 0;
                if (taken) --count;
                mutex.unlock();
                if (taken) return;
                some.wait();
            }
        }
        model::atomics::mutex mutex;
        model::signal some;
        int count = 0;
    };

    void joined() {
        if (p_.destroys) all_joined_.raise();
    }
    void ended(std::size_t i, wait_status s) {
        ended_[i] = s;
        if (s == wait_status::granted) ++granted_;
    }

    program p_;
    pool pool_;
    kept<group_type> group_;
    std::vector<std::unique_ptr<kept<Queue>>> queues_;
    std::vector<timer> timers_;
    std::vector<std::optional<wait_status>> ended_;
    counting_signal all_joined_;
    permits granted_ = 0;
    permits returned_ = 0;
};

template <class Queue>
std::function<scenario()> of(program const& p) {
    return [p] {
        auto const w = std::make_shared<world<Queue>>(p);
        scenario s;
        for (std::size_t i = 0; i < p.waiters.size(); ++i) s.threads.push_back([w, i] { w->wait(i); });
        if (p.refund != 0) s.threads.push_back([w] { w->give_back(); });
        s.threads.push_back([w] { w->end(); });
        s.check = [w] { w->check(); };
        return s;
    };
}

constexpr waiter coroutine{};
constexpr waiter thread{.is_thread = true};

TEST(queue_close_model, close_ends_every_wait_wherever_it_is) {
    for (waiter const w : {coroutine, thread}) {
        std::string const name = w.is_thread ? "thread" : "coroutine";
        model::sees_either_way(name + " | close", of<queue_type>({.waiters = {w}}));
        model::sees_either_way(name + " | refund | close", of<queue_type>({.waiters = {w}, .refund = 1}));
    }
    model::sees(options::sc("thread | coroutine | close, SC"), of<queue_type>({.waiters = {thread, coroutine}}));
    model::sees(options::bounded("thread | coroutine | close, weak", 2),
                of<queue_type>({.waiters = {thread, coroutine}}));
}
TEST(queue_close_model, nothing_touches_the_queue_after_its_destructor) {
    for (waiter const w : {coroutine, thread}) {
        std::string const name = w.is_thread ? "thread" : "coroutine";
        model::sees_either_way(name + " | destroy", of<queue_type>({.waiters = {w}, .destroys = true}));
        model::sees(options::sc(name + " | refund | destroy, SC"),
                    of<queue_type>({.waiters = {w}, .refund = 1, .destroys = true}));
        model::sees(options::bounded(name + " | refund | destroy, weak", 2),
                    of<queue_type>({.waiters = {w}, .refund = 1, .destroys = true}));
    }
    model::sees(options::bounded("thread | coroutine | destroy", 2),
                of<queue_type>({.waiters = {thread, coroutine}, .destroys = true}));
}
TEST(queue_close_model, a_group_closes_all_its_queues) {
    model::sees_either_way("coroutine | close", of<member_type>({.waiters = {coroutine}}));
    model::sees(options::sc("coroutine | thread of another queue | close"),
                of<member_type>({.waiters = {coroutine, {.is_thread = true, .in = 1}}}));
    model::sees(options::bounded("coroutine | coroutine of another queue | refund | close", 1),
                of<member_type>({.waiters = {coroutine, {.in = 1}}, .refund = 1}));
}
TEST(queue_close_model, nothing_touches_a_queue_of_a_group_after_its_destructor) {
    model::sees(options::bounded("coroutine | thread of another queue | destroy", 1),
                of<member_type>({.waiters = {coroutine, {.is_thread = true, .in = 1}}, .destroys = true}));
}

}  // namespace queue_close_model_test
