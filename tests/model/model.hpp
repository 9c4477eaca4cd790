// SPDX-License-Identifier: MIT
//
// A checker for lock-free code: runs a small scenario through every interleaving that the C++ memory model allows.
//
//     using bucket = weir::token_bucket<weir::manual_clock&, model::atomics>;  // see model_atomic.hpp
//
//     auto const o = model::explore(model::options::weak("two take one"), [] {  // called again for each execution
//         struct state { weir::manual_clock clock; bucket b{weir::rate{1, 1s}, 1, clock}; int granted = 0; };
//         auto s = std::make_shared<state>();
//         auto const take = [s] {
//             auto const op = model::begin();
//             if (s->b.try_acquire()) ++s->granted;
//             else model::check(model::end(op).writes == 0, "a denial writes nothing");
//         };
//         return model::scenario{{take, take}, [s] { model::check(s->granted == 1, "one gets it"); }};
//     });
//     EXPECT_TRUE(o.passed(model::coverage::complete)) << o;
//
// - A thread's body is code up to its end; each access of a model::atomics::atomic is a step, at which the others may
//   run (but a load of what no thread ever writes need not be one). What a body does between two steps belongs to the
//   step before (or, at the beginning, to none): it may touch the scenario's own plain data, but only to record. With
//   sleep sets (all but bounded and sampled searches) executions that differ in the order of independent steps are seen
//   once, so no verdict may hang on the order of steps on different locations.
// - An execution that is given up is abandoned where it stands: what a body owns on its stack is not destroyed then.
//   Keep what allocates in the scenario's state.
// - model::check and model::fail may be called in bodies and in the final check. The first failure ends the search; the
//   outcome has a table of the execution and a token which runs it again: WEIR_MODEL_REPLAY=token in the environment,
//   or options.replay.
// - begin() and end() around an operation give a `span`: thread, steps, writes, what others wrote, for bounds on
//   progress; linearizable.hpp records histories with them. options.frozen stops threads forever after so many steps
//   each; explore_frozen does it to every choice of threads and steps. weakening.hpp lowers the memory orders one by
//   one.
//
// Memory model: the release/acquire fragment of C++20, by views. Each location keeps its stores in modification order.
// A thread's view says, for each location, the oldest store that it may still read; a load picks any from there on, and
// raises the view (coherence). A release store carries the writer's view; an acquire load takes it over; a
// read-modify-write carries on what the store it read carried (release sequence). A read-modify-write reads the newest
// store. A failed compare-exchange is a load, so it may read an old store; a weak one may fail for nothing,
// options.spurious times an execution.
// What makes the search complete: after construction every write is a read-modify-write, so modification order is order
// of execution, and every execution in which program order and reads-from make no cycle (the standard wants none,
// though it cannot say so exactly) is an interleaving with old stores read. Hence a plain store, a fence (there is
// none) and a seq_cst access are refused by name.
// Code that blocks on purpose does so through model::atomics::mutex and model::signal (model_atomic.hpp): where all
// that have not ended wait, the execution fails, unless threads are frozen.
// What it does not find: what needs more threads, operations or spurious failures than the scenario has.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <source_location>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace model {

inline constexpr unsigned max_threads = 8;

using body = std::function<void()>;

/// Fresh shared state, captured by the bodies of its threads, and what must hold when all have ended (or stand frozen).
struct scenario {
    std::vector<body> threads;
    body check = {};
};

/// An access of the code under test. `failure`: the order of a compare-exchange that fails.
struct site {
    std::string file;
    unsigned line = 0;
    unsigned column = 0;
    bool failure = false;
    std::memory_order order = std::memory_order_relaxed;

    auto key() const { return std::tie(file, line, column, failure); }
    friend bool operator<(site const& a, site const& b) { return a.key() < b.key(); }
    friend std::ostream& operator<<(std::ostream& os, site const& s);
};

/// That access with a weaker order.
struct weakening {
    site where;
    std::memory_order to = std::memory_order_relaxed;
    friend std::ostream& operator<<(std::ostream& os, weakening const& w);
};

/// How much of what there is was seen.
enum class coverage {
    complete,            // everything, up to options.spurious and options.rereads
    preemption_bounded,  // everything with at most options.preemptions of them
    execution_bounded,   // the first options.max_executions, and the test asked for no more
    sampled,             // options.samples executions by chance
    replayed,            // the one that was asked for
    cut_off,             // as execution_bounded, but the test did not ask: no pass
    failed,              // up to the first failure
};

struct freeze {
    unsigned thread;
    unsigned after;  // steps
};

struct options {
    static constexpr unsigned unlimited = std::numeric_limits<unsigned>::max();

    std::string name = {};         // in tokens: which exploration they belong to
    bool stale = true;             // loads may read old stores
    unsigned spurious = 1;         // weak compare-exchanges that fail for nothing, in an execution
    unsigned rereads = unlimited;  // how often in a row a thread reads one old store: for loops that wait for a new one
    unsigned preemptions = unlimited;  // a thread that could go on is left for another
    bool real_time = false;            // begin() and end() are steps, and order operations that do not overlap
    bool reduce = true;                // sleep sets, where they are sound; off, to test them
    std::uint64_t max_executions = 10'000'000;
    bool may_be_cut_off = false;
    std::size_t max_steps = 2000;  // more are a livelock
    std::vector<freeze> frozen = {};
    std::uint64_t samples = 0;  // by chance instead of all
    std::uint64_t seed = 1;
    unsigned pct_depth = 0;  // samples by priorities with so many changes less one, instead of evenly
    std::string replay = {};
    std::optional<weakening> weaken = {};
    std::set<site>* sites = nullptr;  // gathers what was accessed with more than relaxed

    /// Every interleaving, newest stores only, real-time order.
    static options sc(std::string name) {
        options o;
        o.name = std::move(name);
        o.stale = false;
        o.spurious = 0;
        o.real_time = true;
        return o;
    }
    /// Everything.
    static options weak(std::string name, unsigned spurious = 1) {
        options o;
        o.name = std::move(name);
        o.spurious = spurious;
        return o;
    }
    static options bounded(std::string name, unsigned preemptions, unsigned spurious = 1) {
        options o = weak(std::move(name), spurious);
        o.preemptions = preemptions;
        return o;
    }
    static options random(std::string name, std::uint64_t samples, std::uint64_t seed = 1, unsigned pct_depth = 0) {
        options o = weak(std::move(name));
        o.samples = samples;
        o.seed = seed;
        o.pct_depth = pct_depth;
        return o;
    }
};

struct outcome {
    std::string name;
    coverage seen = coverage::cut_off;
    std::string bounds;            // in words
    std::uint64_t executions = 0;  // run to the end
    std::uint64_t pruned = 0;      // given up, since all that was left had been seen in another order
    std::size_t longest = 0;       // steps of an execution
    unsigned operation_steps = 0;  // most steps between begin() and end()
    std::array<unsigned, max_threads> thread_steps{};  // most steps of each thread
    std::string failure;                               // what, and the table
    std::string token;                                 // runs the failure again

    bool passed(coverage expected) const { return failure.empty() && seen == expected; }
    friend std::ostream& operator<<(std::ostream& os, outcome const& o);
};

/// What an operation took.
struct span {
    int thread = -1;  // none: before or after all threads
    bool ended = false;
    std::uint64_t from = 0;  // steps of the whole execution
    std::uint64_t to = 0;
    unsigned steps = 0;     // accesses of its own
    unsigned writes = 0;    // of those, the ones that wrote
    unsigned spurious = 0;  // compare-exchanges that failed for nothing
    unsigned others = 0;    // stores by others that it could not know of when it began, up to its end
    std::array<std::uint32_t, max_threads> seen{};  // steps of each thread that happened before it began
    std::uint32_t clock = 0;                        // steps of its own thread when it ended
    std::uint64_t number = 0;                       // of all operations, in the order in which they began
    bool real_time = false;

    /// All of this precedes all of `other`: in real time where that is what was explored, else by happens-before.
    bool precedes(span const& other) const {
        if (!ended) return false;
        if (thread == other.thread || thread < 0 || other.thread < 0) return number < other.number;
        if (real_time) return to < other.from;
        return other.seen[static_cast<unsigned>(thread)] >= clock;
    }
};

namespace detail {

inline char const* name_of(std::memory_order o) {
    switch (o) {
        case std::memory_order_relaxed: return "relaxed";
        case std::memory_order_consume: return "consume";
        case std::memory_order_acquire: return "acquire";
        case std::memory_order_release: return "release";
        case std::memory_order_acq_rel: return "acq_rel";
        case std::memory_order_seq_cst: break;
    }
    return "seq_cst";
}
inline bool acquires(std::memory_order o) {
    return o == std::memory_order_acquire || o == std::memory_order_consume || o == std::memory_order_acq_rel;
}
inline bool releases(std::memory_order o) { return o == std::memory_order_release || o == std::memory_order_acq_rel; }

inline std::string base_name(char const* path) {
    char const* const slash = std::strrchr(path, '/');
    return slash != nullptr ? slash + 1 : path;
}

inline std::string number(std::uint64_t v) {
    char text[32];
    std::snprintf(text, sizeof text, v < 100'000 ? "%llu" : "0x%llx", static_cast<unsigned long long>(v));
    return text;
}

/// What a thread is about to do.
enum class access : std::uint8_t { load, exchange, add, subtract, weak, strong, begin, end };

inline char const* name_of(access a) {
    constexpr char const* names[] = {"load", "exchange", "fetch_add", "fetch_sub", "cas_weak", "cas", "begin", "end"};
    return names[static_cast<unsigned>(a)];
}

class engine {
public:
    using index = std::uint32_t;
    static constexpr index time = ~index{0};  // where begin() and end() are steps

    static engine& get() { return instance_; }

    // ---- for explore ----

    outcome explore(options const& o, std::function<scenario()> const& make) {
        options_ = o;
        if (char const* const wanted = std::getenv("WEIR_MODEL_REPLAY"); wanted != nullptr && options_.replay.empty()) {
            std::string const token = wanted;
            auto const colon = token.rfind(':');
            if (colon != std::string::npos && token.substr(0, colon) == options_.name) options_.replay = token;
        }
        outcome result;
        result.name = options_.name;
        result.bounds = bounds();
        operation_steps_ = 0;
        thread_steps_ = {};
        if (!options_.weaken) options_.weaken = weaken_;
        if (options_.sites == nullptr) options_.sites = sites_;
        base_ = static_cast<index>(used_);
        path_.clear();
        random_ = options_.seed * 0x9e3779b97f4a7c15U + 1;
        sleeping_ = options_.reduce && options_.preemptions == options::unlimited && options_.samples == 0 &&
                    options_.replay.empty();
        commuting_reads_ = options_.stale && options_.rereads == options::unlimited;
        written_.clear();
        if (!options_.replay.empty()) read_token(options_.replay);
        for (std::uint64_t n = 0;; ++n) {
            grew_ = false;
            ending const e = execute(make, result.longest);
            if (grew_ && options_.replay.empty()) {
                // Some loads were no steps that should have been: from the start.
                path_.clear();
                result.executions = result.pruned = n = 0;
                result.longest = 0;
                --n;
                continue;
            }
            if (e == ending::pruned) {
                ++result.pruned;
            } else {
                ++result.executions;
            }
            if (e == ending::failed || !options_.replay.empty()) {
                report(make, result, e);
                break;
            }
            if (options_.samples != 0) {
                path_.clear();
                if (n + 1 < options_.samples) continue;
                result.seen = coverage::sampled;
                break;
            }
            if (!backtrack()) {
                result.seen =
                    options_.preemptions != options::unlimited ? coverage::preemption_bounded : coverage::complete;
                break;
            }
            if (n + 1 >= options_.max_executions) {
                result.seen = options_.may_be_cut_off ? coverage::execution_bounded : coverage::cut_off;
                break;
            }
        }
        used_ = base_;
        path_.clear();
        forced_.clear();
        options_ = {};
        result.operation_steps = operation_steps_;
        result.thread_steps = thread_steps_;
        return result;
    }

    /// What explorations whose options say nothing else have in common: see weakening.hpp.
    void set_ambient(std::optional<weakening> const& w, std::set<site>* sites) {
        weaken_ = w;
        sites_ = sites;
    }

    // ---- for atomics ----

    /// A new location: its first store is visible to all.
    index add(std::uint64_t value) {
        if (used_ == locations_.size()) locations_.emplace_back();
        auto& l = locations_[used_];
        l.stores.clear();
        l.stores.push_back({value, 0});
        if (in_execution_ && threads_ + (used_ - base_) >= stride_) too_many_locations();
        return static_cast<index>(used_++);
    }

    std::uint64_t load(index where, std::memory_order order, std::source_location at) {
        if (running_ < 0) return newest(where).value;
        order = checked(access::load, order, at, false);
        if (order == std::memory_order_release || order == std::memory_order_acq_rel) misuse("release load", at);
        fiber& f = constant(where) ? go_on() : announce(where, access::load, 0);
        index const i = pick_store(f, where);
        read(f, where, i, order);
        std::uint64_t const value = locations_[where].stores[i].value;
        if (tracing_) row(access::load, where, order, "= " + number(value), i, at);
        return value;
    }

    std::uint64_t modify(access a, index where, std::uint64_t operand, std::memory_order order,
                         std::source_location at) {
        if (running_ < 0) {
            std::uint64_t const old = newest(where).value;
            newest(where).value = applied(a, old, operand);
            return old;
        }
        order = checked(a, order, at, false);
        fiber& f = announce(where, a, 0);
        std::uint64_t const old = newest(where).value;
        std::uint64_t const value = applied(a, old, operand);
        write(f, where, value, order);
        if (tracing_) row(a, where, order, number(old) + " -> " + number(value), last(where) - 1, at);
        return old;
    }

    /// An exchange by a thread that stands still until the newest value is 0, or is not.
    void exchange_once(bool zero, index where, std::uint64_t desired, std::memory_order order,
                       std::source_location at) {
        if (running_ < 0) {
            newest(where).value = desired;
            return;
        }
        fibers_[static_cast<unsigned>(running_)]->awaits = zero ? fiber::zero : fiber::not_zero;
        modify(access::exchange, where, desired, order, at);
        fibers_[static_cast<unsigned>(running_)]->awaits = fiber::nothing;
    }

    bool compare_exchange(access a, index where, std::uint64_t& expected, std::uint64_t desired,
                          std::memory_order success, std::memory_order failure, std::source_location at) {
        if (running_ < 0) {
            if (newest(where).value == expected) {
                newest(where).value = desired;
                return true;
            }
            expected = newest(where).value;
            return false;
        }
        success = checked(a, success, at, false);
        failure = checked(a, failure, at, true);
        if (releases(failure)) misuse("release on failure", at);
        fiber& f = announce(where, a, expected);
        auto& stores = locations_[where].stores;
        index const end = last(where);
        index const from = oldest(f, where);
        // 0: succeeds; i + 1: fails, reading store i. Newest first, success before failure, for nothing last.
        ways_.clear();
        if (stores[end].value == expected) ways_.push_back(0);
        for (index i = end + 1; i-- > from;) {
            if (stores[i].value != expected) ways_.push_back(i + 1);
        }
        if (a == access::weak && spurious_left_ != 0) {
            for (index i = end + 1; i-- > from;) {
                if (stores[i].value == expected) ways_.push_back(i + 1);
            }
        }
        if (ways_.empty()) ways_.push_back(end + 1);  // cannot be
        index const way = ways_[choose(static_cast<unsigned>(ways_.size()))];
        if (way == 0) {
            write(f, where, desired, success);
            if (tracing_) row(a, where, success, number(expected) + " -> " + number(desired), end, at);
            return true;
        }
        index const i = way - 1;
        bool const for_nothing = stores[i].value == expected;
        if (for_nothing) {
            --spurious_left_;
            ++f.spurious;
        }
        read(f, where, i, failure);
        if (tracing_) {
            row(a, where, failure,
                (for_nothing ? "fails for nothing at " : "fails, " + number(expected) + " wanted: ") +
                    number(stores[i].value),
                i, at);
        }
        expected = stores[i].value;
        return false;
    }

    [[noreturn]] void misuse(char const* what, std::source_location at) {
        std::string const text =
            std::string{what} + " at " + base_name(at.file_name()) + ":" + std::to_string(at.line());
        if (in_execution_) fail(text);
        std::fprintf(stderr, "model: %s\n", text.c_str());
        std::abort();
    }

    // ---- for plain data ----

    /// Where the running thread is: an event of it precedes what has seen `clock` of its steps. Thread -1 outside of
    /// all.
    int running() const { return running_; }
    std::uint32_t clock_now() const { return running_ < 0 ? 0 : fibers_[static_cast<unsigned>(running_)]->steps + 1; }
    bool has_seen(int thread, std::uint32_t clock) const {
        return running_ < 0 || thread < 0 || thread == running_ ||
               view(static_cast<unsigned>(running_))[static_cast<unsigned>(thread)] >= clock;
    }

    // ---- for scenarios ----

    [[noreturn]] void fail(std::string const& text) {
        if (!in_execution_) {
            std::fprintf(stderr, "model: %s\n", text.c_str());
            std::abort();
        }
        if (failure_.empty()) failure_ = text.empty() ? "failed" : text;
        if (running_ < 0) throw ended{};
        leave();
    }

    span begin() {
        span s;
        s.real_time = options_.real_time;
        s.thread = running_;
        s.number = begun_++;
        if (running_ < 0) return s;
        auto const t = static_cast<unsigned>(running_);
        if (options_.real_time) {
            announce(time, access::begin, 0);
            if (tracing_) rows_.push_back({running_, "begins"});
        }
        fiber& f = *fibers_[t];
        s.from = now_;
        index const* const v = view(t);
        for (unsigned i = 0; i < threads_; ++i) s.seen[i] = v[i];
        // What is not in the view now, and all that comes before the end; less its own: see end().
        std::uint64_t known = 0;
        for (std::size_t i = threads_; i < stride_; ++i) known += v[i];
        s.others = static_cast<unsigned>(writes_ - known);
        s.to = writes_;
        s.steps = f.steps - f.bookkeeping;
        s.writes = f.writes;
        s.spurious = f.spurious;
        return s;
    }

    span end(span s) {
        s.ended = true;
        if (running_ < 0) return s;
        fiber& f = *fibers_[static_cast<unsigned>(running_)];
        s.steps = f.steps - f.bookkeeping - s.steps;
        s.writes = f.writes - s.writes;
        s.spurious = f.spurious - s.spurious;
        s.others += static_cast<unsigned>(writes_ - s.to) - s.writes;
        operation_steps_ = std::max(operation_steps_, s.steps);
        s.clock = f.steps + (s.steps == 0 ? 1 : 0);  // one without a step ends after the step before it
        if (options_.real_time) {
            announce(time, access::end, 0);
            if (tracing_) rows_.push_back({running_, "ends"});
        }
        s.to = now_;
        return s;
    }

    bool tracing() const { return tracing_; }
    void note(std::string text) {
        if (tracing_) rows_.push_back({running_, "  " + std::move(text)});
    }

private:
    enum class ending { finished, pruned, failed };
    struct ended {};  // a failure outside of threads

    struct store {
        std::uint64_t value;
        index message;  // what it carries: a view in messages_, by number; 0 for nothing
    };
    struct location {
        std::vector<store> stores;
    };
    struct fiber {
        ~fiber() {
            if (stack != nullptr) munmap(stack, stack_size);
        }
        ucontext_t context{};
        void* stack = nullptr;
        jmp_buf top;    // to begin a body again
        jmp_buf point;  // to go on
        bool begun = false;
        bool done = false;
        // Announced:
        access kind = access::load;
        index where = 0;
        std::uint64_t expected = 0;
        enum : std::uint8_t { nothing, zero, not_zero } awaits = nothing;  // of the newest value: before it is, no step
        // Counted:
        bool wrote = false;
        unsigned steps = 0;
        unsigned bookkeeping = 0;  // begin and end among them
        unsigned writes = 0;
        unsigned spurious = 0;
        unsigned may = 0;  // steps until it is frozen
    };
    /// A choice on the way: of a thread, where `enabled` is not 0, or of one of `count` values.
    struct node {
        std::uint32_t enabled;
        std::uint32_t sleep;
        std::uint32_t explored;
        std::uint32_t pick;
        std::uint32_t count;
    };
    struct traced {
        int thread;
        std::string text;
    };

    static constexpr std::size_t stack_size = 256 * 1024;
    static constexpr std::size_t spare_locations = 16;  // that threads may make

    static engine instance_;

    // ---- fibers: a context begins one; setjmp, which needs no system call, switches ----

    static void entry() {
        if (_setjmp(instance_.booting_->top) == 0) setcontext(&instance_.boot_);
        instance_.run_body();
    }
    void run_body() {
        auto const t = static_cast<unsigned>(running_);
        try {
            current_.threads[t]();
        } catch (std::exception const& e) {
            if (failure_.empty()) failure_ = std::string{"a thread threw "} + e.what();
        } catch (...) {
            if (failure_.empty()) failure_ = "a thread threw";
        }
        fibers_[t]->done = true;
        leave();
    }
    fiber& boot() {
        auto f = std::make_unique<fiber>();
        f->stack = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (f->stack == MAP_FAILED) std::abort();
        mprotect(f->stack, 4096, PROT_NONE);
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = stack_size;
        f->context.uc_link = nullptr;
        makecontext(&f->context, &engine::entry, 0);
        booting_ = f.get();
        swapcontext(&boot_, &f->context);
        fibers_.push_back(std::move(f));
        return *fibers_.back();
    }
    [[gnu::noinline]] void resume(unsigned t) {
        running_ = static_cast<int>(t);
        fiber& f = *fibers_[t];
        if (_setjmp(scheduler_) == 0) {
            if (std::exchange(f.begun, true)) _longjmp(f.point, 1);
            _longjmp(f.top, 1);
        }
        running_ = -1;
    }
    [[noreturn, gnu::noinline]] void leave() { _longjmp(scheduler_, 1); }
    [[gnu::noinline]] void yield(fiber& f) {
        if (_setjmp(f.point) == 0) _longjmp(scheduler_, 1);
    }

    /// Lets the scheduler decide when the running thread does this.
    fiber& announce(index where, access kind, std::uint64_t expected) {
        fiber& f = *fibers_[static_cast<unsigned>(running_)];
        f.where = where;
        f.kind = kind;
        f.expected = expected;
        yield(f);
        f.wrote = false;
        ++f.steps;
        if (where == time) ++f.bookkeeping;
        ++now_;
        view(static_cast<unsigned>(running_))[running_] = f.steps;
        return f;
    }

    /// A load of what no thread ever writes may come at any time, so it belongs to the step before. What is written is
    /// found out on the way: a first write to a location starts the search again. (Were a location missing in the end,
    /// then in some execution there would be a first write to such a one; up to there it would be one that was seen.)
    bool constant(index where) const {
        return options_.reduce && !(where - base_ < written_.size() && written_[where - base_]) &&
               fibers_[static_cast<unsigned>(running_)]->steps < options_.max_steps;
    }
    fiber& go_on() {
        fiber& f = *fibers_[static_cast<unsigned>(running_)];
        ++f.steps;
        ++now_;
        view(static_cast<unsigned>(running_))[running_] = f.steps;
        return f;
    }
    void will_be_written(index where) {
        std::size_t const i = where - base_;
        if (i >= written_.size()) written_.resize(i + 1);
        grew_ = grew_ || !written_[i];
        written_[i] = true;
    }

    // ---- the memory ----

    index* view(unsigned t) { return views_.data() + t * stride_; }
    index const* view(unsigned t) const { return views_.data() + t * stride_; }
    std::size_t slot(index where) const { return threads_ + (where - base_); }
    store& newest(index where) { return locations_[where].stores.back(); }
    index last(index where) const { return static_cast<index>(locations_[where].stores.size() - 1); }

    /// The oldest store that the thread may read.
    index oldest(fiber const&, index where) const {
        if (!options_.stale) return last(where);
        auto const t = static_cast<unsigned>(running_);
        index const v = view(t)[slot(where)];
        if (options_.rereads == options::unlimited || v == last(where)) return v;
        return rereads_[t * stride_ + slot(where)] >= options_.rereads ? v + 1 : v;
    }
    index pick_store(fiber const& f, index where) {
        index const end = last(where);
        return end - choose(end - oldest(f, where) + 1);
    }
    void join(index* to, index message) {
        if (message == 0) return;
        index const* const from = messages_.data() + std::size_t{message} * stride_;
        for (std::size_t i = 0; i < stride_; ++i) to[i] = std::max(to[i], from[i]);
    }
    void read(fiber&, index where, index i, std::memory_order order) {
        auto const t = static_cast<unsigned>(running_);
        index& v = view(t)[slot(where)];
        if (options_.rereads != options::unlimited) {
            index& n = rereads_[t * stride_ + slot(where)];
            n = (v == i ? n : 0) + (i == last(where) ? 0 : 1);
        }
        v = i;
        if (acquires(order)) join(view(t), locations_[where].stores[i].message);
    }
    void write(fiber& f, index where, std::uint64_t value, std::memory_order order) {
        auto const t = static_cast<unsigned>(running_);
        auto& stores = locations_[where].stores;
        will_be_written(where);
        index const before = stores.back().message;
        index* const v = view(t);
        v[slot(where)] = static_cast<index>(stores.size());
        if (options_.rereads != options::unlimited) rereads_[t * stride_ + slot(where)] = 0;
        if (acquires(order)) join(v, before);
        index message = before;
        if (releases(order)) {
            message = next_message_++;
            std::size_t const from = std::size_t{message} * stride_;
            if (messages_.size() < from + stride_) messages_.resize((from + stride_) * 2);
            std::copy_n(v, stride_, messages_.data() + from);
            join(messages_.data() + from, before);
        }
        stores.push_back({value, message});
        f.wrote = true;
        ++f.writes;
        ++writes_;
    }
    static std::uint64_t applied(access a, std::uint64_t old, std::uint64_t operand) {
        return a == access::add ? old + operand : a == access::subtract ? old - operand : operand;
    }

    std::memory_order checked(access a, std::memory_order order, std::source_location at, bool failure) {
        if (order == std::memory_order_seq_cst) misuse((std::string{"seq_cst "} + name_of(a)).c_str(), at);
        if (options_.sites != nullptr && order != std::memory_order_relaxed) {
            options_.sites->insert({base_name(at.file_name()), at.line(), at.column(), failure, order});
        }
        if (options_.weaken) [[unlikely]] {
            auto const& w = options_.weaken->where;
            if (w.line == at.line() && w.column == at.column() && w.failure == failure &&
                w.file == base_name(at.file_name())) {
                return options_.weaken->to;
            }
        }
        return order;
    }

    // ---- choices ----

    std::uint64_t chance() {
        random_ ^= random_ << 13U;
        random_ ^= random_ >> 7U;
        random_ ^= random_ << 17U;
        return random_ >> 11U;
    }
    node& visit(node const& fresh) {
        if (depth_ == path_.size()) {
            path_.push_back(fresh);
            if (depth_ < forced_.size()) path_.back().pick = forced_[depth_];
        }
        node& n = path_[depth_++];
        if (n.enabled != fresh.enabled || n.count != fresh.count) {
            failure_ = "the scenario does not do the same when it is run again";
            n.enabled = fresh.enabled;
            n.count = fresh.count;
            n.pick = fresh.pick;
        }
        return n;
    }
    unsigned choose(unsigned count) {
        if (count < 2) return 0;
        std::uint32_t pick = 0;
        if (options_.samples != 0 && chance() % 2 == 0) pick = static_cast<std::uint32_t>(chance() % count);
        unsigned const n = visit({0, 0, 0, pick, count}).pick;
        return n < count ? n : 0;
    }

    bool may_write(fiber const& f) const {
        switch (f.kind) {
            case access::load:
            case access::begin:
            case access::end: return false;
            case access::weak:
            case access::strong: return locations_[f.where].stores.back().value == f.expected;
            default: return true;
        }
    }
    /// A thread that sleeps need not wake: what it is about to do may as well have come before this step. In the weak
    /// model a read may always come later than a write, reading the same store as before.
    bool independent(fiber const& sleeper, access did, index where, bool wrote) const {
        if (sleeper.where != where) return true;
        if (where == time) return sleeper.kind == did;
        return !wrote && (commuting_reads_ || !may_write(sleeper));
    }

    static unsigned lowest(std::uint32_t set) { return static_cast<unsigned>(__builtin_ctz(set)); }
    /// Writers first: then readers of the older store are already covered.
    unsigned preferred(std::uint32_t set) const {
        for (std::uint32_t s = set; s != 0; s &= s - 1) {
            if (may_write(*fibers_[lowest(s)])) return lowest(s);
        }
        return lowest(set);
    }

    void start(scenario s) {
        current_ = std::move(s);
        threads_ = static_cast<unsigned>(current_.threads.size());
        if (threads_ > max_threads) std::abort();
        while (fibers_.size() < threads_) boot();
        stride_ = threads_ + (used_ - base_) + spare_locations;
        views_.assign(threads_ * stride_, 0);
        if (options_.rereads != options::unlimited) rereads_.assign(threads_ * stride_, 0);
        next_message_ = 1;
        if (messages_.size() < stride_ * 16) messages_.resize(stride_ * 16);
        spurious_left_ = options_.spurious;
        writes_ = 0;
        for (unsigned t = 0; t < threads_; ++t) {
            fiber& f = *fibers_[t];
            f.begun = f.done = f.wrote = false;
            f.awaits = fiber::nothing;
            f.steps = f.bookkeeping = f.writes = f.spurious = 0;
            f.may = options::unlimited;
        }
        for (auto const& z : options_.frozen) {
            if (z.thread < threads_) fibers_[z.thread]->may = z.after;
        }
        if (options_.samples != 0 && options_.pct_depth != 0) draw_priorities();
    }

    void draw_priorities() {
        for (unsigned t = 0; t < threads_; ++t) priority_[t] = 1000 + static_cast<unsigned>(chance() % 1'000'000);
        changes_.clear();
        for (unsigned i = 1; i < options_.pct_depth; ++i) changes_.push_back(chance() % (pct_length_ + 1));
    }

    ending execute(std::function<scenario()> const& make, std::size_t& longest) {
        used_ = base_;
        depth_ = 0;
        now_ = 0;
        begun_ = 0;
        threads_ = 0;
        stride_ = ~std::size_t{0};
        failure_.clear();
        in_execution_ = true;
        ending e = ending::failed;
        try {
            start(make());
            e = run(longest);
            for (unsigned t = 0; t < threads_; ++t) {
                thread_steps_[t] = std::max(thread_steps_[t], fibers_[t]->steps - fibers_[t]->bookkeeping);
            }
            if (e == ending::finished && current_.check) current_.check();
        } catch (ended const&) {
        } catch (std::exception const& x) {
            if (failure_.empty()) failure_ = std::string{"the scenario threw "} + x.what();
        }
        if (!failure_.empty()) e = ending::failed;
        current_ = {};
        in_execution_ = false;
        return e;
    }

    ending run(std::size_t& longest) {
        std::uint32_t sleep = 0;
        unsigned last = 0;
        unsigned preempted = 0;
        // To the first step of each: nothing before it is shared.
        for (unsigned t = 0; t < threads_; ++t) {
            resume(t);
            if (!failure_.empty()) return ending::failed;
        }
        for (std::size_t step = 0;; ++step) {
            longest = std::max(longest, step);
            pct_length_ = longest;
            if (step > options_.max_steps) {
                failure_ = "no end after " + std::to_string(options_.max_steps) + " steps";
                return ending::failed;
            }
            std::uint32_t enabled = 0;
            bool waiting = false;
            for (unsigned t = 0; t < threads_; ++t) {
                fiber const& f = *fibers_[t];
                if (f.done || f.steps - f.bookkeeping >= f.may) continue;
                if (f.awaits == fiber::nothing || (newest(f.where).value == 0) == (f.awaits == fiber::zero)) {
                    enabled |= 1U << t;
                } else {
                    waiting = true;
                }
            }
            if (enabled == 0) {
                if (!waiting || !options_.frozen.empty()) return ending::finished;
                failure_ = "a thread that has not ended waits forever";
                return ending::failed;
            }
            bool const could_go_on = step != 0 && ((enabled >> last) & 1U) != 0;
            std::uint32_t may = enabled;
            if (could_go_on && preempted >= options_.preemptions) may = 1U << last;
            std::uint32_t const awake = may & ~sleep;
            if (awake == 0) return ending::pruned;
            unsigned pick = lowest(may);
            std::uint32_t seen = 0;
            if ((may & (may - 1)) != 0) {
                // Going on comes first where preemptions are counted.
                bool const bounded = options_.preemptions != options::unlimited;
                unsigned const first = options_.samples != 0    ? by_chance(may, step)
                                       : bounded && could_go_on ? last
                                                                : preferred(awake);
                node const& n = visit({may, sleep, 0, first, 0});
                if (!failure_.empty()) return ending::failed;
                pick = n.pick;
                seen = n.explored;
                if (pick >= threads_ || ((may >> pick) & 1U) == 0) pick = lowest(may);
            }
            if (could_go_on && pick != last) ++preempted;
            fiber const& f = *fibers_[pick];
            access const did = f.kind;
            index const where = f.where;
            std::uint32_t const candidates = sleeping_ ? (sleep | seen) & ~(1U << pick) : 0;
            resume(pick);
            if (!failure_.empty()) return ending::failed;
            sleep = 0;
            for (std::uint32_t s = candidates; s != 0; s &= s - 1) {
                unsigned const t = lowest(s);
                if (independent(*fibers_[t], did, where, f.wrote)) sleep |= 1U << t;
            }
            last = pick;
        }
    }

    unsigned by_chance(std::uint32_t may, std::size_t step) {
        if (options_.pct_depth == 0) {
            unsigned k = static_cast<unsigned>(chance() % static_cast<unsigned>(__builtin_popcount(may)));
            std::uint32_t s = may;
            while (k-- != 0) s &= s - 1;
            return lowest(s);
        }
        unsigned best = lowest(may);
        for (std::uint32_t s = may; s != 0; s &= s - 1) {
            if (priority_[lowest(s)] > priority_[best]) best = lowest(s);
        }
        for (std::size_t i = 0; i < changes_.size(); ++i) {
            if (changes_[i] == step) priority_[best] = static_cast<unsigned>(i);
        }
        return best;
    }

    bool backtrack() {
        while (!path_.empty()) {
            node& n = path_.back();
            if (n.enabled == 0) {
                if (++n.pick < n.count) return true;
            } else {
                n.explored |= 1U << n.pick;
                std::uint32_t const left = n.enabled & ~n.sleep & ~n.explored;
                if (left != 0) {
                    n.pick = lowest(left);
                    return true;
                }
            }
            path_.pop_back();
        }
        return false;
    }

    // ---- reports ----

    [[noreturn]] void too_many_locations() {
        std::fprintf(stderr, "model: threads made more than %zu locations\n", spare_locations);
        std::abort();
    }

    std::string bounds() const {
        std::string text = options_.stale ? "weak" : "sequentially consistent";
        text += ", " + std::to_string(options_.spurious) + " spurious";
        if (options_.rereads != options::unlimited)
            text += ", " + std::to_string(options_.rereads) + " reads of an old store";
        if (options_.preemptions != options::unlimited)
            text += ", " + std::to_string(options_.preemptions) + " preemptions";
        if (options_.samples != 0) text += ", " + std::to_string(options_.samples) + " samples";
        for (auto const& z : options_.frozen) {
            text += ", thread " + std::to_string(z.thread) + " frozen after " + std::to_string(z.after);
        }
        return text;
    }

    void read_token(std::string const& token) {
        forced_.clear();
        auto const colon = token.rfind(':');
        char const* p = token.c_str() + (colon == std::string::npos ? 0 : colon + 1);
        while (*p != '\0') {
            char* end = nullptr;
            forced_.push_back(static_cast<std::uint32_t>(std::strtoul(p, &end, 10)));
            if (end == p) break;
            p = *end == '.' ? end + 1 : end;
        }
        while (*p == ';') {
            char* end = nullptr;
            will_be_written(base_ + static_cast<index>(std::strtoul(p + 1, &end, 10)));
            p = end;
        }
    }
    std::string write_token() const {
        std::string text = options_.name + ":";
        for (std::size_t i = 0; i < path_.size(); ++i) text += (i == 0 ? "" : ".") + std::to_string(path_[i].pick);
        for (std::size_t i = 0; i < written_.size(); ++i) {
            if (written_[i]) text += ';' + std::to_string(i);
        }
        return text;
    }

    /// Runs what was just run once more, for its table.
    void report(std::function<scenario()> const& make, outcome& result, ending e) {
        std::string const text = failure_;
        path_.resize(std::min(path_.size(), depth_));
        result.token = write_token();
        forced_.clear();
        for (auto const& n : path_) forced_.push_back(n.pick);
        path_.clear();
        rows_.clear();
        tracing_ = true;
        bool const slept = std::exchange(sleeping_, false);
        std::size_t ignored = 0;
        execute(make, ignored);
        sleeping_ = slept;
        tracing_ = false;
        result.seen = e == ending::failed ? coverage::failed : coverage::replayed;
        if (e != ending::failed) {
            std::printf("%s", table("replayed, no failure").c_str());
            return;
        }
        result.failure = table(text);
        if (failure_ != text) result.failure += "run again, it said: " + failure_ + "\n";
        result.failure += "WEIR_MODEL_REPLAY='" + result.token + "'\n";
    }

    void row(access a, index where, std::memory_order order, std::string const& value, index i,
             std::source_location at) {
        index const end = last(where) - (fibers_[static_cast<unsigned>(running_)]->wrote ? 1 : 0);
        index const newer = end > i && last(where) != 0 ? end - i : 0;
        std::string text =
            std::string{name_of(a)} + " #" + std::to_string(where - base_) + " " + name_of(order) + " " + value;
        text += newer == 0 ? "" : " (old: " + std::to_string(newer) + " newer)";
        text += " @" + base_name(at.file_name()) + ":" + std::to_string(at.line());
        rows_.push_back({running_, std::move(text)});
    }

    std::string table(std::string const& title) const {
        std::size_t const columns = std::max<std::size_t>(threads_, 1);
        std::vector<std::size_t> width(columns, 10);
        for (auto const& r : rows_) {
            if (r.thread >= 0)
                width[static_cast<unsigned>(r.thread)] =
                    std::max(width[static_cast<unsigned>(r.thread)], r.text.size());
        }
        std::string text = options_.name + ": " + title + "\n  step";
        for (std::size_t t = 0; t < columns; ++t) {
            std::string const head = "thread " + std::to_string(t);
            text += " | " + head + std::string(width[t] - head.size(), ' ');
        }
        text += "\n";
        std::size_t step = 0;
        for (auto const& r : rows_) {
            std::string const n = r.text[0] == ' ' ? "" : std::to_string(++step);
            text += std::string(6 - std::min<std::size_t>(n.size(), 6), ' ') + n;
            if (r.thread < 0) {
                text += " | " + r.text + "\n";
                continue;
            }
            for (int t = 0; t < r.thread; ++t) text += " | " + std::string(width[static_cast<unsigned>(t)], ' ');
            text += " | " + r.text + "\n";
        }
        return text;
    }

    options options_;
    scenario current_;
    std::vector<std::unique_ptr<fiber>> fibers_;
    std::vector<location> locations_;
    std::size_t used_ = 0;  // locations
    index base_ = 0;        // locations older than the exploration
    unsigned threads_ = 0;
    std::size_t stride_ = 1;       // of a view: a clock for each thread, then the locations
    std::vector<index> views_;     // one for each thread
    std::vector<index> messages_;  // views that stores carry
    std::vector<index> rereads_;   // how often each thread has read each location's old store
    index next_message_ = 1;
    std::uint64_t writes_ = 0;
    std::uint64_t now_ = 0;    // steps
    std::uint64_t begun_ = 0;  // operations
    unsigned spurious_left_ = 0;
    unsigned operation_steps_ = 0;
    std::array<unsigned, max_threads> thread_steps_{};
    std::optional<weakening> weaken_;
    std::set<site>* sites_ = nullptr;
    std::vector<index> ways_;
    std::vector<bool> written_;  // locations that threads write, as far as was seen
    bool grew_ = false;

    std::vector<node> path_;
    std::vector<std::uint32_t> forced_;
    std::size_t depth_ = 0;
    std::uint64_t random_ = 1;
    std::array<unsigned, max_threads> priority_{};
    std::vector<std::size_t> changes_;
    std::size_t pct_length_ = 0;
    bool sleeping_ = true;
    bool commuting_reads_ = true;

    int running_ = -1;
    bool in_execution_ = false;
    bool tracing_ = false;
    std::vector<traced> rows_;
    std::string failure_;
    fiber* booting_ = nullptr;
    ucontext_t boot_{};
    jmp_buf scheduler_;
};

inline engine engine::instance_{};

}  // namespace detail

inline std::ostream& operator<<(std::ostream& os, site const& s) {
    return os << s.file << ':' << s.line << ':' << s.column << (s.failure ? " on failure " : " ")
              << detail::name_of(s.order);
}
inline std::ostream& operator<<(std::ostream& os, weakening const& w) {
    return os << w.where << " -> " << detail::name_of(w.to);
}
inline std::ostream& operator<<(std::ostream& os, outcome const& o) {
    constexpr char const* names[] = {
        "complete", "preemption-bounded", "bounded by executions", "sampled", "replayed", "CUT OFF", "FAILED"};
    os << o.name << ": " << names[static_cast<unsigned>(o.seen)] << " (" << o.bounds << "), " << o.executions
       << " executions, " << o.pruned << " pruned, longest " << o.longest << " steps, an operation at most "
       << o.operation_steps;
    if (!o.failure.empty()) os << "\n" << o.failure;
    return os;
}

/// Runs `make`'s scenarios as `o` says, until all has been seen or one fails.
inline outcome explore(options const& o, std::function<scenario()> const& make) {
    return detail::engine::get().explore(o, make);
}

/// The same with `count` of the threads stopped forever, whichever they are and after however many steps each.
/// What a frozen thread had begun has not ended: the final check must allow for it. The outcome is that of all of them
/// together.
inline outcome explore_frozen(options o, unsigned threads, unsigned count, std::function<scenario()> const& make) {
    outcome all;
    bool first = true;
    auto const add = [&](outcome const& one) {
        if (first) {
            all = one;
        } else {
            all.executions += one.executions;
            all.pruned += one.pruned;
            all.longest = std::max(all.longest, one.longest);
            all.operation_steps = std::max(all.operation_steps, one.operation_steps);
            if (one.seen != all.seen || !one.failure.empty()) {
                all.seen = one.failure.empty() ? coverage::cut_off : one.seen;
                all.failure = one.failure;
                all.token = one.token;
            }
        }
        all.bounds = one.bounds;
        first = false;
        return one.failure.empty();
    };
    std::string const name = o.name;
    // Freezes one more thread, from `from` on, after as many steps as it can take with those that are frozen already.
    std::function<bool(unsigned, unsigned)> const freeze_more = [&](unsigned from, unsigned left) {
        for (unsigned t = from; t < threads; ++t) {
            for (unsigned after = 0;; ++after) {
                o.frozen.push_back({t, after});
                o.name = name + ", frozen";
                for (auto const& z : o.frozen) o.name += " " + std::to_string(z.thread) + "@" + std::to_string(z.after);
                bool went_on = true;
                bool reached = false;
                if (left == 1) {
                    outcome const one = explore(o, make);
                    went_on = add(one);
                    reached = one.thread_steps[t] >= after;
                } else {
                    options probe = o;
                    probe.name += ", probe";
                    outcome const one = explore(probe, make);
                    went_on = one.failure.empty() || add(one);
                    reached = one.thread_steps[t] >= after;
                    if (went_on && reached) went_on = freeze_more(t + 1, left - 1);
                }
                o.frozen.pop_back();
                if (!went_on) return false;
                if (!reached) break;
            }
        }
        return true;
    };
    freeze_more(0, count);
    return all;
}

[[noreturn]] inline void fail(std::string const& what) { detail::engine::get().fail(what); }
inline void check(bool holds, char const* what) {
    if (!holds) fail(what);
}

inline span begin() { return detail::engine::get().begin(); }
inline span end(span const& s) { return detail::engine::get().end(s); }

/// The number of the thread that runs; -1 before and after them.
inline int this_thread() { return detail::engine::get().running(); }

/// Whether the run is the one whose table is printed, and a line for that table.
inline bool tracing() { return detail::engine::get().tracing(); }
inline void note(std::string text) { detail::engine::get().note(std::move(text)); }

}  // namespace model
