// SPDX-License-Identifier: MIT
#include <weir/atomics.hpp>
#include <weir/wait/task.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/manual_loop.hpp"

namespace task_test {

using weir::task;
using weir::timer_callback;

static_assert(!std::is_copy_constructible_v<task<int>>);
static_assert(std::is_nothrow_move_constructible_v<task<int>>);
static_assert(std::is_nothrow_move_assignable_v<task<>>);

// Writes its name when it dies.
struct witness {
    witness(std::string n, std::vector<std::string>& d) : name{std::move(n)}, dead{&d} {}
    witness(witness&& other) noexcept : name{std::move(other.name)}, dead{std::exchange(other.dead, nullptr)} {}
    witness& operator=(witness&&) = delete;
    ~witness() {
        if (dead != nullptr) dead->push_back(name);
    }
    std::string name;
    std::vector<std::string>* dead;
};
using names = std::vector<std::string>;

constexpr timer_callback counts(int& n) {
    return {[](void* p) { ++*static_cast<int*>(p); }, &n};
}

[[gnu::noinline]] std::uintptr_t stack_here() { return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)); }

task<int> doubled(int n) { co_return n * 2; }
task<int> doubled(gate& g, int n) {
    co_await g.passed();
    co_return n * 2;
}

TEST(task, begins_when_it_is_asked_for_and_not_before) {
    int runs = 0;
    auto const body = [&]() -> task<> {
        ++runs;
        co_return;
    };
    auto t = body();
    EXPECT_EQ(runs, 0);
    EXPECT_TRUE(t.ready());
    EXPECT_EQ(runs, 1);
    EXPECT_TRUE(t.ready());
    EXPECT_EQ(runs, 1);
}

TEST(task, gives_what_it_returned) {
    auto const sum = []() -> task<int> { co_return co_await doubled(3) + co_await doubled(4); };
    auto t = sum();
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result(), 14);
    auto const owner = []() -> task<std::unique_ptr<std::string const>> {
        co_return std::make_unique<std::string>("moved");
    };
    auto u = owner();
    ASSERT_TRUE(u.ready());
    EXPECT_EQ(*u.result(), "moved");
    auto const for_one_thread = []() -> task<int, weir::unsynchronized> { co_return 1; };
    auto v = for_one_thread();
    ASSERT_TRUE(v.ready());
    EXPECT_EQ(v.result(), 1);
}

TEST(task, who_awaits_it_goes_on_where_it_ended) {
    gate g;
    std::optional<int> got;
    auto const outer = [&]() -> task<> { got = co_await doubled(g, 21); };
    auto t = outer();
    EXPECT_FALSE(t.ready());
    EXPECT_FALSE(got);
    g.open();
    EXPECT_EQ(got, 42);
    EXPECT_TRUE(t.ready());
}

TEST(task, done_is_called_once_when_it_has_ended) {
    gate g;
    int calls = 0;
    auto t = doubled(g, 1);
    EXPECT_TRUE(t.start(counts(calls)));
    EXPECT_EQ(calls, 0);
    g.open();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(t.result(), 2);
}

TEST(task, done_is_not_called_where_it_ended_at_once) {
    int calls = 0;
    auto t = doubled(1);
    EXPECT_FALSE(t.start(counts(calls)));
    EXPECT_EQ(t.result(), 2);
    EXPECT_EQ(calls, 0);
}

TEST(task, done_is_not_called_where_it_ended_between_ready_and_start) {
    gate g;
    int calls = 0;
    auto t = doubled(g, 1);
    EXPECT_FALSE(t.ready());
    g.open();
    EXPECT_FALSE(t.start(counts(calls)));
    EXPECT_EQ(t.result(), 2);
    EXPECT_EQ(calls, 0);
}

TEST(task, done_may_destroy_it) {
    gate g;
    names dead;
    auto const body = [](gate& at, witness) -> task<> { co_await at.passed(); };
    struct owned {
        std::optional<task<>> t;
    } own{body(g, {"parameter", dead})};
    EXPECT_TRUE(own.t->start({[](void* p) { static_cast<owned*>(p)->t.reset(); }, &own}));
    EXPECT_EQ(dead, names{});
    g.open();
    EXPECT_EQ(dead, names{"parameter"});
    EXPECT_FALSE(own.t);
}

TEST(task, what_it_throws_passes_to_its_awaiter) {
    auto const fails = [](gate* g) -> task<int> {
        if (g != nullptr) co_await g->passed();
        throw std::runtime_error("no");
    };
    auto const outer = [&](gate* g) -> task<std::string> {
        try {
            co_await fails(g);
        } catch (std::runtime_error const& e) {
            co_return e.what();
        }
        co_return "nothing";
    };
    auto t = outer(nullptr);
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result(), "no");
    gate g;
    auto u = outer(&g);
    EXPECT_FALSE(u.ready());
    g.open();
    ASSERT_TRUE(u.ready());
    EXPECT_EQ(u.result(), "no");
    auto v = fails(nullptr);
    ASSERT_TRUE(v.ready());
    EXPECT_THROW(v.result(), std::runtime_error);
}

TEST(task, one_that_never_began_is_destroyed_with_its_parameters) {
    names dead;
    bool ran = false;
    auto const body = [&](witness) -> task<> {
        ran = true;
        co_return;
    };
    {
        auto const t = body({"parameter", dead});
    }
    EXPECT_EQ(dead, names{"parameter"});
    EXPECT_FALSE(ran);
}

TEST(task, one_that_waits_is_destroyed_with_all_that_it_awaits_innermost_first) {
    names dead;
    gate g;
    auto const inner = [&]() -> task<> {
        witness const w{"inner", dead};
        co_await g.passed();
        ADD_FAILURE();
    };
    auto const outer = [&]() -> task<> {
        witness const w{"outer", dead};
        co_await inner();
        ADD_FAILURE();
    };
    {
        auto t = outer();
        EXPECT_FALSE(t.ready());
        EXPECT_EQ(dead, names{});
    }
    EXPECT_EQ(dead, (names{"inner", "outer"}));
}

TEST(task, is_moved_with_its_frame) {
    names dead;
    gate g;
    auto const body = [&](witness) -> task<> { co_await g.passed(); };
    auto a = body({"a", dead});
    EXPECT_FALSE(a.ready());
    auto b = body({"b", dead});
    a = std::move(b);
    EXPECT_EQ(dead, names{"a"});
    EXPECT_FALSE(static_cast<bool>(b));  // NOLINT(bugprone-use-after-move)
    auto& same = a;
    a = std::move(same);
    EXPECT_TRUE(static_cast<bool>(a));
    auto c = std::move(a);
    EXPECT_FALSE(c.ready());
    g.open();
    EXPECT_TRUE(c.ready());
}

void thousands_take_no_more_stack_than_one(bool wait) {
    constexpr int many = 100'000;
    std::uintptr_t least = UINTPTR_MAX;
    std::uintptr_t most = 0;
    gate g;
    auto const one = [&](int n) -> task<int> {
        if (wait) co_await g.passed();
        least = std::min(least, stack_here());
        most = std::max(most, stack_here());
        co_return n;
    };
    auto const all = [&]() -> task<std::int64_t> {
        std::int64_t sum = 0;
        for (int i = 0; i < many; ++i) sum += co_await one(i);
        co_return sum;
    };
    auto t = all();
    EXPECT_EQ(t.ready(), !wait);
    while (g.waits) g.open();
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result(), std::int64_t{many} * (many - 1) / 2);
    EXPECT_LE(most - least, 1024U);
}

TEST(task, thousands_that_end_at_once_take_no_more_stack_than_one) { thousands_take_no_more_stack_than_one(false); }
TEST(task, thousands_that_wait_take_no_more_stack_than_one) { thousands_take_no_more_stack_than_one(true); }

// A thread that resumes whatever is handed to it.
class other_thread {
public:
    other_thread()
        : thread_{[this] {
              while (!over_.load(std::memory_order_relaxed)) {
                  if (void* const h = handed_.exchange(nullptr, std::memory_order_acquire)) {
                      std::coroutine_handle<>::from_address(h).resume();
                  } else {
                      std::this_thread::yield();
                  }
              }
          }} {}
    ~other_thread() {
        over_.store(true);
        thread_.join();
    }
    struct pass {
        other_thread* to;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept {
            to->handed_.store(h.address(), std::memory_order_release);
        }
        void await_resume() const noexcept {}
    };
    pass resumed() { return {this}; }

private:
    std::atomic<void*> handed_{nullptr};
    std::atomic<bool> over_{false};
    std::thread thread_;
};

// Its end and its waiter meet at every distance: it is not resumed twice, or never, or before the
// result is there.
TEST(task, may_end_on_another_thread_just_as_a_waiter_arrives) {
    constexpr int rounds = 2'000;
    other_thread other;
    auto const inner = [&](int n) -> task<int> {
        co_await other.resumed();
        co_return n;
    };
    auto const outer = [&](int n) -> task<int> {
        int const delay = n % 64;
        auto t = inner(n);
        t.ready();
        for (int i = 0; i < delay * 8; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
        co_return co_await t;
    };
    int waited = 0;
    for (int n = 0; n < rounds; ++n) {
        std::atomic<bool> ended{false};
        auto t = outer(n);
        bool const waits = t.start(
            {[](void* p) { static_cast<std::atomic<bool>*>(p)->store(true, std::memory_order_release); }, &ended});
        if (waits) {
            ++waited;
            while (!ended.load(std::memory_order_acquire)) std::this_thread::yield();
        }
        ASSERT_EQ(t.result(), n);
    }
    RecordProperty("waited", waited);
}

}  // namespace task_test
