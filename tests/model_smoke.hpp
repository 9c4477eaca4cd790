// SPDX-License-Identifier: MIT
//
// Runs a few threads through every interleaving of their shared accesses that differs in more than the order of independent
// ones (depth-first by replay, with sleep sets), or through every one with at most so many preemptions. Sequentially
// consistent and without spurious failures: it finds faults of a protocol, not of its orders. Threads are fibers on one OS
// thread, so sanitizers that follow stacks do not go with it.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace model_smoke {

class engine {
public:
    using body = std::function<void()>;
    static constexpr std::size_t unbounded = ~std::size_t{0};

    struct outcome {
        std::uint64_t executions = 0;  // run to the end
        std::uint64_t pruned = 0;      // given up, since all that is left was seen in another order
        std::size_t longest = 0;       // steps
        bool complete = false;
        bool stuck = false;  // an execution took more steps than any may
    };

    /// Calls `setup` before each execution for its threads, and `check` after it; until all have been seen, `check` returns false
    /// or `most` executions have been made.
    static outcome explore(std::function<std::vector<body>()> const& setup, std::function<bool()> const& check,
                           std::size_t preemptions = unbounded, std::uint64_t most = 300'000) {
        engine e;
        e.preemptions_ = preemptions;
        outcome o;
        for (;;) {
            e.start(setup());
            auto const end = e.run(o.longest);
            e.threads_.clear();
            if (end == ending::stuck) {
                o.stuck = true;
                return o;
            }
            if (end == ending::finished) {
                ++o.executions;
                if (!check()) return o;
            } else {
                ++o.pruned;
            }
            if (!e.backtrack()) {
                o.complete = true;
                return o;
            }
            if (o.executions + o.pruned >= most) return o;
        }
    }

    /// Runs the threads with the one first in line taking `steps` steps and then none any more, and the others to their ends, one after
    /// another. Returns the most steps that one of them took; 0 where the first ended before.
    static std::size_t freeze(std::vector<body> threads, std::size_t steps) {
        engine e;
        e.start(std::move(threads));
        for (std::size_t i = 0; i < steps; ++i) {
            if (e.threads_[0]->done) return 0;
            e.resume(0);
        }
        if (e.threads_[0]->done) return 0;
        std::size_t longest = 0;
        for (std::size_t t = 1; t < e.threads_.size(); ++t) {
            std::size_t n = 0;
            for (; !e.threads_[t]->done; ++n) {
                if (n > too_many) return n;
                e.resume(t);
            }
            if (n > longest) longest = n;
        }
        return longest;
    }

    /// Announces an access of the running fiber, and lets the scheduler decide when it happens. Nothing outside a fiber.
    /// An exchange writes if it finds what it expects; when it does not, it only reads.
    static void touch(void const* where, std::uint64_t const* value, std::uint64_t const* expected) {
        engine* const e = current();
        if (e == nullptr) return;
        auto& t = *e->threads_[e->running_];
        t.where = where;
        t.value = value;
        t.expected = expected;
        current() = nullptr;
        swapcontext(t.context.get(), e->scheduler_.get());
    }

private:
    static constexpr std::size_t too_many = 5000;
    enum class ending { finished, pruned, stuck };

    struct fiber {
        // Not a member itself: some targets end it in an array of no size, which pedantry forbids inside another.
        std::unique_ptr<ucontext_t> context = std::make_unique<ucontext_t>();
        std::unique_ptr<char[]> stack;
        body run;
        void const* where = nullptr;
        std::uint64_t const* value = nullptr;
        std::uint64_t const* expected = nullptr;
        bool done = false;

        bool writes() const { return expected != nullptr && *value == *expected; }
    };
    struct node {
        std::uint32_t enabled;  // those that may be picked
        std::uint32_t sleep;
        std::uint32_t explored;
        std::size_t pick;
    };

    static engine*& current() {
        static engine* e = nullptr;
        return e;
    }
    static engine*& starting() {
        static engine* e = nullptr;
        return e;
    }

    static void entry() {
        engine* const e = starting();
        auto& t = *e->threads_[e->running_];
        t.run();
        t.done = true;
        current() = nullptr;
        swapcontext(t.context.get(), e->scheduler_.get());
    }

    void start(std::vector<body> bodies) {
        constexpr std::size_t stack = 64 * 1024;
        threads_.clear();
        for (auto& b : bodies) {
            auto f = std::make_unique<fiber>();
            f->run = std::move(b);
            f->stack = std::unique_ptr<char[]>(new char[stack]);
            getcontext(f->context.get());
            f->context->uc_stack.ss_sp = f->stack.get();
            f->context->uc_stack.ss_size = stack;
            f->context->uc_link = nullptr;
            makecontext(f->context.get(), &engine::entry, 0);
            threads_.push_back(std::move(f));
        }
        // To the first access of each: nothing before it is shared.
        for (std::size_t t = 0; t < threads_.size(); ++t) resume(t);
    }

    void resume(std::size_t t) {
        running_ = t;
        starting() = this;
        current() = this;
        swapcontext(scheduler_.get(), threads_[t]->context.get());
        current() = nullptr;
    }

    bool independent(std::size_t a, std::size_t b) const {
        auto const& x = *threads_[a];
        auto const& y = *threads_[b];
        return x.where != y.where || (!x.writes() && !y.writes());
    }

    static std::size_t lowest(std::uint32_t set) { return static_cast<std::size_t>(__builtin_ctz(set)); }

    ending run(std::size_t& longest) {
        std::uint32_t sleep = 0;
        std::size_t last = 0;
        std::size_t used = 0;
        for (std::size_t depth = 0;; ++depth) {
            if (depth > longest) longest = depth;
            if (depth > too_many) return ending::stuck;
            std::uint32_t enabled = 0;
            for (std::size_t t = 0; t < threads_.size(); ++t) {
                if (!threads_[t]->done) enabled |= 1U << t;
            }
            if (enabled == 0) return ending::finished;
            // With a bound, a thread that can go on is left for another only so often; then sleep sets would be unsound.
            bool const bounded = preemptions_ != unbounded;
            bool const running_on = depth != 0 && ((enabled >> last) & 1U) != 0;
            std::uint32_t const may = bounded && running_on && used == preemptions_ ? 1U << last : enabled;
            if (depth == path_.size()) {
                if ((may & ~sleep) == 0) return ending::pruned;
                // Going on comes first, so that few preemptions come before many.
                std::size_t const pick = bounded && running_on ? last : lowest(may & ~sleep);
                path_.push_back({may, sleep, 0, pick});
            }
            node const& n = path_[depth];
            if (bounded) {
                if (running_on && n.pick != last) ++used;
            } else {
                std::uint32_t next = 0;
                for (std::size_t t = 0; t < threads_.size(); ++t) {
                    if ((((n.sleep | n.explored) >> t) & 1U) != 0 && independent(t, n.pick)) next |= 1U << t;
                }
                sleep = next;
            }
            last = n.pick;
            resume(n.pick);
        }
    }

    bool backtrack() {
        while (!path_.empty()) {
            node& n = path_.back();
            n.explored |= 1U << n.pick;
            std::uint32_t const left = n.enabled & ~n.sleep & ~n.explored;
            if (left != 0) {
                n.pick = lowest(left);
                return true;
            }
            path_.pop_back();
        }
        return false;
    }

    std::vector<std::unique_ptr<fiber>> threads_;
    std::vector<node> path_;
    std::size_t preemptions_ = unbounded;
    std::unique_ptr<ucontext_t> scheduler_ = std::make_unique<ucontext_t>();
    std::size_t running_ = 0;
};

/// The policy: every access is a step.
struct atomics {
    template <class T>
    class atomic {
    public:
        atomic() noexcept = default;
        atomic(T value) noexcept : value_{static_cast<std::uint64_t>(value)} {}
        atomic(atomic const&) = delete;
        atomic& operator=(atomic const&) = delete;

        template <class... Order>
        T load(Order...) const {
            engine::touch(this, nullptr, nullptr);
            return static_cast<T>(value_);
        }
        template <class... Order>
        T exchange(T desired, Order...) {
            engine::touch(this, &value_, &value_);
            return static_cast<T>(std::exchange(value_, static_cast<std::uint64_t>(desired)));
        }
        template <class... Order>
        bool compare_exchange_strong(T& expected, T desired, Order...) {
            auto const wanted = static_cast<std::uint64_t>(expected);
            engine::touch(this, &value_, &wanted);
            if (value_ != wanted) {
                expected = static_cast<T>(value_);
                return false;
            }
            value_ = static_cast<std::uint64_t>(desired);
            return true;
        }
        template <class... Order>
        bool compare_exchange_weak(T& expected, T desired, Order... order) {
            return compare_exchange_strong(expected, desired, order...);
        }

    private:
        std::uint64_t value_ = 0;
    };
};

}  // namespace model_smoke
