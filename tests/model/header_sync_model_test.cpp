// SPDX-License-Identifier: MIT
//
// header_sync with the limiter that it feeds, in every interleaving: the shipped feed, its mutex the checker's, on a
// quota_limiter of requests. Each execution must show: ours are never taken for strangers'; what is charged is what was
// reported, the greatest of it, once; nothing of it is lost or left behind; and a call to the limiter waits for no
// thread in the feed.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "quota_world.hpp"

#include <weir/llm/header_sync.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace header_sync_model_test {

using model::coverage;
using model::explore;
using model::options;
using model::scenario;
using quota_world::at;
using quota_world::coarse_clock;

/// The policy, and one whose mutex excludes no thread: what the first must not be mistaken for.
struct unlocked : model::atomics {
    struct mutex {
        void lock() {}
        void unlock() {}
    };
};

constexpr std::uint64_t limit = 8;

template <class Atomics = model::atomics>
struct world {
    using limiter = weir::llm::quota_limiter<coarse_clock&, Atomics>;
    using feed = weir::llm::header_sync<limiter>;

    coarse_clock clock;
    limiter l{weir::llm::quota{.rpm = limit}, clock};
    feed f{l};
    std::uint64_t strangers;                        // calls of others that the server counts
    model::atomics::atomic<std::uint64_t> counted;  // by the server
    int granted = 0;
    bool over[2]{};

    explicit world(std::uint64_t n) : strangers{n}, counted{n} {
        (void)l.check(weir::llm::tokens{.input = 1, .output = 0}, at(0));
    }

    static weir::llm::limit_reports left(std::uint64_t taken) {
        weir::llm::limit_reports r;
        r.add({.kind = weir::llm::counted::requests, .window = std::chrono::minutes{1}, .remaining = limit - taken});
        return r;
    }
    std::optional<typename feed::mark> send(std::int64_t t) {
        auto const d = l.try_acquire(weir::llm::tokens{.input = 1, .output = 0}, at(t));
        if (!d.granted()) return std::nullopt;
        ++granted;
        return f.sent(d);
    }
    /// Sent, counted by the server, and the answer read.
    void call(std::int64_t t) {
        auto const m = send(t);
        if (!m) return;
        std::uint64_t const taken = counted.fetch_add(1, std::memory_order_relaxed) + 1;
        f.on_response(*m, left(taken), at(t));
    }
    /// So many of strangers are charged, and the limiter holds them and ours, no more.
    void holds(std::uint64_t least, std::uint64_t most, std::int64_t t, std::uint64_t ours) {
        std::uint64_t const charged = *f.charged(at(t)).rpm;
        model::check(charged >= least, "what strangers took was lost");
        model::check(charged <= most, "ours were taken for strangers', or strangers' were charged twice");
        model::check(*l.used(at(t)).rpm == ours + charged,
                     "the limiter holds something else than ours and what is charged");
    }
    /// A window and a segment after the last report nothing is left.
    void ends_with_nothing(std::int64_t last) {
        f.expire(at(last + 60));
        model::check(*f.charged(at(last + 60)).rpm == 0, "a charge outlives its window");
        model::check(*l.used(at(last + 60 + 2 * coarse_clock::segment)).rpm == 0, "a charge was left behind");
    }
};

/// Two calls at once. One that was granted, and not noted yet when the other was, is counted twice in the other's own:
/// one stranger fewer.
template <class Atomics>
scenario two_calls() {
    auto w = std::make_shared<world<Atomics>>(3);
    return {{[w] { w->call(0); }, [w] { w->call(0); }}, [w] {
                w->holds(w->strangers - 1, w->strangers, 0, 2);
                w->ends_with_nothing(0);
            }};
}

/// Two answers, to calls of which everything was known: the greater difference is charged, not both.
template <class Atomics>
scenario two_answers() {
    struct answered : world<Atomics> {
        std::optional<typename world<Atomics>::feed::mark> first = this->send(0);
        std::optional<typename world<Atomics>::feed::mark> second = this->send(0);
        answered() : world<Atomics>{0} {}
    };
    auto w = std::make_shared<answered>();
    return {{[w] { w->f.on_response(*w->first, w->left(2 + 2), at(0)); },
             [w] { w->f.on_response(*w->second, w->left(2 + 4), at(0)); }},
            [w] {
                w->holds(4, 4, 0, 2);
                w->ends_with_nothing(0);
            }};
}

/// An answer while others ask: a call after it finds what it charged.
template <class Atomics>
scenario answer_beside_attempts() {
    auto w = std::make_shared<world<Atomics>>(limit - 2);
    return {{[w] { w->call(0); },
             [w] {
                 (void)w->send(0);
                 (void)w->send(0);
             }},
            [w] {
                model::check(w->granted == 2 || w->granted == 3,
                             "room for two, and for one more before it was heard of the others");
                // The server counts neither of the two; each counts in the other's own, and twice where it was granted,
                // and not noted, before.
                w->holds(w->strangers - 4, w->strangers, 0, static_cast<std::uint64_t>(w->granted));
                w->ends_with_nothing(0);
            }};
}

/// A charge ends at 60, while an answer of before says that fewer are there: it is booked again and lowered, or given
/// back and booked.
template <class Atomics>
scenario end_beside_an_answer() {
    struct charged : world<Atomics> {
        std::optional<typename world<Atomics>::feed::mark> later;
        charged() : world<Atomics>{0} {
            auto const m = this->send(0);
            this->f.on_response(*m, this->left(1 + 4), at(0));
            later = this->send(40);
        }
    };
    auto w = std::make_shared<charged>();
    // Counted at 40: the call at 0 and the one at 40, and two more.
    return {{[w] { w->f.expire(at(60)); }, [w] { w->f.on_response(*w->later, w->left(2 + 2), at(59)); }}, [w] {
                w->holds(2, 2, 72, 1);
                w->ends_with_nothing(59);
            }};
}

/// A thread in the feed that may stop with its mutex taken; another that asks the limiter alone.
scenario one_stands_in_the_feed() {
    auto w = std::make_shared<world<>>(3);
    return {{[w] {
                 w->call(0);
                 w->over[0] = true;
             },
             [w] {
                 for (int i = 0; i < 2; ++i)
                     w->granted +=
                         w->l.try_acquire(weir::llm::tokens{.input = 1, .output = 0}, at(0)).granted() ? 1 : 0;
                 w->over[1] = true;
             }},
            [w] {
                model::check(w->over[0] || w->over[1], "one waits for the other");
                model::check(w->granted <= 3, "there is room for all");
            }};
}

struct named {
    char const* name;
    scenario (*make)();
    scenario (*without_a_lock)();
};
constexpr named cases[] = {
    {"two answers", two_answers<model::atomics>, nullptr},
    {"end during an answer", end_beside_an_answer<model::atomics>, end_beside_an_answer<unlocked>},
    {"answer during attempts", answer_beside_attempts<model::atomics>, nullptr},
    {"two calls", two_calls<model::atomics>, two_calls<unlocked>}};

TEST(llm_limit_feed_model, strangers_are_charged_once_and_ours_never) {
    for (auto const& c : cases) model::sees_either_way(c.name, c.make);
}

TEST(llm_limit_feed_model, a_call_to_the_limiter_waits_for_no_thread_in_the_feed) {
    model::sees(model::explore_frozen(options::weak("call during attempts", 0), 2, 1, one_stands_in_the_feed),
                coverage::complete);
}

// That the cases see into the feed's own state: without its mutex they go wrong. (Two answers do not: the next verb
// sets right what they left.)
TEST(llm_limit_feed_model, without_the_mutex_it_would_not_hold) {
    for (auto const& c : cases) {
        if (c.without_a_lock == nullptr) continue;
        auto o = options::sc(std::string{c.name} + ", unlocked");
        o.reduce = false;  // what is not locked is plain, and the order of steps on different words matters
        auto const out = explore(o, c.without_a_lock);
        EXPECT_EQ(out.seen, coverage::failed) << out;
    }
}

}  // namespace header_sync_model_test
