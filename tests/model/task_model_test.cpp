// SPDX-License-Identifier: MIT
//
// task's end and its waiter, in every interleaving: the shipped header, coroutines on the checker's
// threads. One thread ends it where its own wait resumed it, another awaits it, asks whether it is ready, or gives it a
// function to call. Each execution must show: a waiter goes on once, whichever comes first; both sides see what the
// other wrote; and the frame is destroyed after the last look at it.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "weakening.hpp"

#include <weir/wait/task.hpp>

#include <gtest/gtest.h>

#include <coroutine>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace task_model_test {

using model::coverage;
using model::explore;
using model::options;
using model::outcome;
using model::scenario;
using weir::timer_callback;

template <class T = void>
using task = weir::task<T, model::atomics>;

/// A number whose every move is an access to plain data.
class result {
public:
    result(int n) { n_.write(n); }
    result(result&& other) noexcept { n_.write(other.n_.read()); }
    result& operator=(result&&) = delete;
    ~result() { n_.write(0); }
    int number() const { return n_.read(); }

private:
    model::checked_cell<int> n_;
};

/// What a coroutine waits for until some thread opens it.
class gate {
public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        waits_.write(h);
        there_.raise();
    }
    void await_resume() const noexcept {}
    void open() {
        there_.wait();
        waits_.read().resume();
    }

private:
    model::checked_cell<std::coroutine_handle<>> waits_;
    model::signal there_;
};

task<result> through(gate& g, int n) {
    co_await g;
    co_return n;
}
task<result> fails_behind(gate& g) {
    co_await g;
    throw std::runtime_error("no");
}

/// One task and its waiter. An execution that is given up leaves the frames as they stand: running, so they
/// must not be destroyed.
template <class Task>
struct world {
    gate g;
    Task* t = nullptr;
    model::checked_cell<int> waiters{0};  // written before one comes to wait, read by the waiter
    int seen = 0;
    int ended = 0;

    void keep(Task made) { t = new Task{std::move(made)}; }
    void destroy() { delete std::exchange(t, nullptr); }
    void finish() {
        seen = take();
        ++ended;
        destroy();
    }
    int take() {
        try {
            return t->result().number();
        } catch (std::runtime_error const&) {
            return -1;
        }
    }
    timer_callback done() {
        return {[](void* p) {
                    auto& w = *static_cast<world*>(p);
                    model::check(w.waiters.read() == 1,
                                 "what was written before the wait is not seen by the thread that ends it");
                    w.finish();
                },
                this};
    }
    void check(int expected) const {
        model::check(ended == 1, "a waiter goes on once");
        model::check(seen == expected, "another result");
        model::check(t == nullptr, "the frame is not destroyed");
    }
};

/// Its end, and a thread that has a function called: the second of the two takes the result and destroys the frame.
template <class Make>
scenario by_function(Make make, int expected) {
    auto w = std::make_shared<world<decltype(make(std::declval<gate&>()))>>();
    w->keep(make(w->g));
    return {{[w] { w->g.open(); },
             [w] {
                 w->waiters.write(1);
                 // Where start() says yes, nothing of it is touched any more.
                 if (!w->t->start(w->done())) w->finish();
             }},
            [w, expected] { w->check(expected); }};
}
scenario start() {
    return by_function([](gate& g) { return through(g, 7); }, 7);
}
scenario start_of_one_that_throws() { return by_function(fails_behind, -1); }

/// The same where either may stop forever, and the gate is not what is waited for.
scenario one_stands_still() {
    struct still : world<task<result>> {
        bool over[2]{};
    };
    auto w = std::make_shared<still>();
    w->keep(through(w->g, 7));
    (void)w->t->ready();
    return {{[w] {
                 w->g.open();
                 w->over[0] = true;
             },
             [w] {
                 w->waiters.write(1);
                 if (!w->t->start(w->done())) w->finish();
                 w->over[1] = true;
             }},
            [w] {
                model::check(w->over[0] || w->over[1], "one waits for the other");
                model::check(w->ended <= 1, "a waiter goes on once");
                if (w->over[0] && w->over[1]) w->check(7);
            }};
}

/// A thread asks twice before it waits: no may become yes, yes stays.
scenario ready() {
    auto w = std::make_shared<world<task<result>>>();
    w->keep(through(w->g, 7));
    return {{[w] { w->g.open(); },
             [w] {
                 w->waiters.write(1);
                 bool const first = w->t->ready();
                 bool const second = w->t->ready();
                 model::check(second || !first, "it has ended, and then it has not");
                 if (second || !w->t->start(w->done())) w->finish();
             }},
            [w] { w->check(7); }};
}

/// One that awaits another, which awaits a third: each end resumes its waiter, on the thread where it ended.
task<result> around(int depth, gate& g, model::checked_cell<int>& mine) {
    mine.write(depth);
    auto inner = depth == 1 ? through(g, 7) : around(depth - 1, g, mine);
    int const n = (co_await inner).number();
    model::check(mine.read() == 1, "what was written before the wait is not seen by the waiter");
    co_return n + 1;
}
scenario around(int depth) {
    struct nested : world<task<result>> {
        model::checked_cell<int> mine;
    };
    auto w = std::make_shared<nested>();
    w->keep(around(depth, w->g, w->mine));
    return {{[w] { w->g.open(); },
             [w] {
                 w->waiters.write(1);
                 if (!w->t->start(w->done())) w->finish();
             }},
            [w, depth] { w->check(7 + depth); }};
}

scenario awaited() { return around(1); }
scenario awaited_by_one_that_is_awaited() { return around(2); }

/// One that was begun by hand, and may have ended before another coroutine awaits it.
scenario begun_before_it_is_awaited() {
    struct begun : world<task<result>> {
        task<result>* inner = nullptr;
        static task<result> awaits(begun* w) {
            int const n = (co_await *w->inner).number();
            model::check(w->waiters.read() == 1, "what was written before the wait is not seen by the waiter");
            co_return n;
        }
    };
    auto w = std::make_shared<begun>();
    w->inner = new task<result>{through(w->g, 7)};
    w->keep(begun::awaits(w.get()));
    return {{[w] { w->g.open(); },
             [w] {
                 w->waiters.write(1);
                 (void)w->inner->ready();
                 if (!w->t->start(w->done())) w->finish();
             }},
            [w] {
                w->check(7);
                delete w->inner;
            }};
}

/// Two that end on two threads, awaited one after the other by a third coroutine on whichever.
scenario two_ends() {
    struct both : world<task<result>> {
        gate other;
        static task<result> sum(both* w) {
            auto a = through(w->g, 3);
            auto b = through(w->other, 4);
            (void)a.ready();
            (void)b.ready();
            int const n = (co_await a).number();
            co_return n + (co_await b).number();
        }
    };
    auto w = std::make_shared<both>();
    w->keep(both::sum(w.get()));
    w->waiters.write(1);
    model::check(w->t->start(w->done()), "both gates are shut");
    return {{[w] { w->g.open(); }, [w] { w->other.open(); }}, [w] { w->check(7); }};
}

struct named {
    char const* name;
    scenario (*make)();
};
constexpr named cases[] = {{"start", start},
                           {"start of one that throws", start_of_one_that_throws},
                           {"ready", ready},
                           {"awaited", awaited},
                           {"awaited by one that is awaited", awaited_by_one_that_is_awaited},
                           {"begun before it is awaited", begun_before_it_is_awaited},
                           {"two ends", two_ends}};

TEST(task_model, its_end_and_its_waiter_meet_once_and_see_what_the_other_wrote) {
    for (auto const& c : cases) model::sees_either_way(c.name, c.make);
}

TEST(task_model, whichever_stops_the_other_goes_on) {
    model::sees(model::explore_frozen(options::weak("start"), 2, 1, one_stands_still), coverage::complete);
}

TEST(task_model, each_order_is_earned) {
    std::vector<model::trial> trials;
    for (auto const& c : cases) trials.push_back({c.name, [c] { return explore(options::weak(c.name), c.make); }});
    auto const all = model::weaken_each("task.hpp", trials);
    for (auto const& e : all) {
        std::cout << e.what << ": " << (e.noticed_by.empty() ? "NO CASE" : e.noticed_by) << '\n';
        EXPECT_FALSE(e.noticed_by.empty()) << e.what << ": not needed, or not looked for";
    }
    EXPECT_EQ(model::unreached("../../include/weir/wait/task.hpp", all), std::vector<unsigned>{});
}

}  // namespace task_model_test
