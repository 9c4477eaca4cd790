// SPDX-License-Identifier: MIT
//
// Sends a batch of chat requests as fast as the quota allows, and no faster. See --help.
#include <signal.h>
#include <sys/resource.h>

#include <weir/clock/scaled_clock.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <utility>

#include "batch.hpp"
#include "batch_demo.hpp"
#include "demo_options.hpp"
#include "display.hpp"
#include "scenarios.hpp"

namespace {

using namespace qwen::demo;
using std::chrono::nanoseconds;

int run_scenarios(settings const& s) {
    if (s.scenario == "list") {
        for (auto const& one : qwen::scenarios())
            std::printf("%-14.*s %.*s\n", static_cast<int>(one.name.size()), one.name.data(),
                        static_cast<int>(one.summary.size()), one.summary.data());
        return 0;
    }
    qwen::scenario_options o;
    if (s.speed != 0) o.speed = s.speed;
    if (auto const e = weir::scaled_clock<>::validate(o.speed)) throw usage_error(e.message());
    o.jitter = std::chrono::duration_cast<nanoseconds>(s.jitter);
    o.seed = s.seed;
    o.verbose = s.verbose;
    bool held = true, found = false;
    for (auto const& one : qwen::scenarios()) {
        if (s.scenario != "all" && s.scenario != one.name) continue;
        found = true;
        auto const r = one.run(o);
        std::printf("%s", to_text(one, r).c_str());
        if (r.spread_ms > s.jitter.count()) {
            std::printf("  VOID        arrivals were spread over %.1f ms, more than J = %g ms: the machine stalled\n",
                        r.spread_ms, s.jitter.count());
        }
        std::fflush(stdout);
        held = held && r.held();
    }
    if (!found) throw usage_error("no scenario " + s.scenario + ": see --scenario list");
    return held ? 0 : exit_failed;
}

// So that other programs delay no arrival; mostly allowed to root alone. All threads inherit it.
void raise_priority() { ::setpriority(PRIO_PROCESS, 0, -15); }

// Each call in flight has a socket here, and one in the simulator.
void raise_file_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 16384);
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int count, char** arguments) {
    try {
        auto s = read_arguments(count, arguments);
        ::signal(SIGPIPE, SIG_IGN);  // NOLINT: no handler, so nothing unsafe
        raise_file_limit();
        raise_priority();
        if (!s.scenario.empty()) return run_scenarios(s);
        interruption interrupted;
        return run_batch(std::move(s), interrupted);
    } catch (usage_error const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_usage;
    } catch (qwen::batch_error const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_usage;
    } catch (std::exception const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_failed;
    }
}
