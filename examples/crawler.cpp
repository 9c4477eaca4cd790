// SPDX-License-Identifier: MIT
// A crawler: each host has a pace of its own, all hosts together have another, and no host holds up the others. No
// network here: a page takes a moment.
#include <weir/all_of.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/queue_group.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

struct host {
    host(weir::queue_group<>& group, weir::token_bucket<>& everyone, weir::rate pace)
        : own{pace, 2}, both{own, everyone}, queue{group, both} {}
    weir::token_bucket<> own;
    weir::all_of<weir::token_bucket<>&, weir::token_bucket<>&> both;
    weir::grouped_queue<decltype(both)> queue;
    std::atomic<int> pages{0};
};

int main() {
    weir::token_bucket everyone{weir::rate{400, 1s}, 1};  // pages a second from all hosts together
    weir::queue_group group{everyone};
    std::deque<host> hosts;
    hosts.emplace_back(group, everyone, weir::rate{10, 1s});  // a slow one
    for (int i = 0; i < 4; ++i) hosts.emplace_back(group, everyone, weir::rate{1000, 1s});

    auto const start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (std::size_t i = 0; i < 10; ++i) {
        workers.emplace_back([&mine = hosts[i % hosts.size()]] {
            while (auto turn = mine.queue.acquire(1)) {
                std::this_thread::sleep_for(100us);  // fetch it
                ++mine.pages;
            }
        });
    }
    std::this_thread::sleep_for(500ms);
    group.close();  // every worker's acquire returns "closed"
    for (auto& w : workers) w.join();
    double const took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

    int total = 0;
    for (host const& h : hosts) total += h.pages;
    std::printf("%d pages in %.2f s:", total, took);
    for (host const& h : hosts) std::printf(" %d", h.pages.load());
    std::printf("\n");
    // The slow host keeps its pace; the limit of all hosts together holds.
    return total > 0 && total <= 400 * took + 1 && hosts.front().pages <= 10 * took + 2 ? 0 : 1;
}
