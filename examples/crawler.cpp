// SPDX-License-Identifier: MIT
// A crawler: four workers take turns at one host, at its pace, until the day's budget of pages is spent. No network
// here: a page takes a moment and links to others.
#include <weir/all_of.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/wait_queue.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

int main() {
    constexpr int budget = 60;
    weir::token_bucket politeness{weir::rate{200, 1s}, 4};  // 200 pages a second, four at once
    weir::sliding_window_log per_day{budget, 24h};          // and no more than this in any day
    weir::all_of both{politeness, per_day};
    // Workers are served in turn. One who would have to wait for tomorrow is told so at once.
    weir::wait_queue line{both, {.refuse_too_late = true}};

    std::atomic<int> pages{0};
    std::atomic<int> out_of_budget{0};
    std::vector<int> fetched(4);
    auto const start = both.clock().now();
    std::vector<std::thread> workers;
    for (auto& mine : fetched) {
        workers.emplace_back([&] {
            for (;;) {
                auto const turn = line.try_acquire_for(1, 10s);
                if (!turn) {
                    if (turn.status() == weir::wait_status::too_late) ++out_of_budget;
                    return;
                }
                std::this_thread::sleep_for(1ms);  // fetch it
                ++mine;
                ++pages;
            }
        });
    }
    for (auto& w : workers) w.join();
    auto const took = both.clock().now() - start;

    std::printf("%d pages in %.0f ms:", pages.load(), std::chrono::duration<double, std::milli>(took).count());
    for (int const mine : fetched) std::printf(" %d", mine);
    std::printf("\n");
    // Four at once and then one every 5 ms; none is lost, none too many.
    return pages == budget && out_of_budget == 4 && took >= (budget - 4) * 5ms ? 0 : 1;
}
