// SPDX-License-Identifier: MIT
// Every header and limiter, with warnings that weir's own programs are not compiled with. The test passes when this
// file compiles.
#include "every_header.hpp"

#include <chrono>

namespace warnings {

using namespace std::chrono_literals;

struct host {
    host(weir::queue_group<>& group, weir::token_bucket<>& everyone)
        : own{weir::rate{1, 1s}, 2}, both{own, everyone}, queue{group, both} {}
    weir::token_bucket<> own;
    weir::all_of<weir::token_bucket<>&, weir::token_bucket<>&> both;
    weir::grouped_queue<decltype(both)> queue;
};

template <class L>
void verbs(L& l) {
    auto d = l.try_acquire(1);
    (void)l.check(1);
    (void)l.refund(d);
    (void)l.settle(d, 1);
    (void)l.available();
    (void)l.change(l.limits());
    (void)d.retry_after();
    (void)d.full_at();
}

void limiters();
void limiters() {
    weir::token_bucket bucket{weir::rate{1, 1s}, 5};
    weir::fixed_token_bucket fixed{weir::rate{1, 1s}, 5};
    weir::leaky_bucket leaky{weir::rate{1, 1s}, 5};
    weir::leaky_bucket_queue departures{weir::rate{1, 1s}, 5};
    weir::sliding_window_log log{5, 1s};
    weir::sliding_window_counter counter{5, 1s};
    weir::all_of all{bucket, log, counter};
    weir::lease mine{bucket};
    weir::ramp ramp{};
    verbs(bucket);
    verbs(fixed);
    verbs(leaky);
    verbs(departures);
    verbs(log);
    verbs(counter);
    verbs(all);
    verbs(mine);
    verbs(ramp);
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 60}};
    auto d = quota.try_acquire({.input = 1, .output = 1});
    (void)quota.refund(d);
    weir::keyed_buckets keyed{{.capacity = 100}, weir::plan{weir::rate{10, 1s}, 20}};
    auto of_key = keyed.try_acquire(7U);
    (void)keyed.refund(of_key);
    weir::wait_queue queue{bucket};
    (void)queue.try_acquire_for(1, 1s);
    weir::fair_queue fair{bucket, {weir::fair_class{.weight = 9}, weir::fair_class{.weight = 1}}};
    (void)fair[0].try_acquire_for(1, 1s);
    weir::queue_group group{bucket};
    host h{group, bucket};
    (void)h.queue.try_acquire_for(1, 1s);
}

void results();
void results() {
    (void)weir::rate::make(1, 1s);
    (void)weir::token_bucket<>::make(weir::rate{1, 1s}, 5);
    (void)weir::leaky_bucket<>::make(weir::rate{1, 1s}, 5);
    (void)weir::leaky_bucket_queue<>::make(weir::rate{1, 1s}, 5);
    (void)weir::sliding_window_log<>::make(5, 1s);
    (void)weir::sliding_window_counter<>::make(5, 1s);
    (void)weir::keyed_buckets<>::make({.capacity = 100}, weir::plan{weir::rate{10, 1s}, 20});
}

void sessions();
void sessions() {
    weir::llm::account_pool accounts{};
    accounts.add({"e", "a", "r", "m"}, "k", {.rpm = 60},
                 {.jitter = 0.01s, .server_timeout = std::chrono::hours::max()});
    weir::llm::fallback_chain models{};
    models.add("m", accounts);
    weir::llm::session session{models, {.timeout = 0.5s}};
    (void)session.run({.max_tokens = 1}, [](auto& call) { return call.ended({}); });
}

}  // namespace warnings
