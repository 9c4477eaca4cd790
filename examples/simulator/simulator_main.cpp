// SPDX-License-Identifier: MIT
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "simulator.hpp"
#include "simulator_options.hpp"

namespace {

qwen::simulator_options options(std::vector<std::string> const& arguments) {
    try {
        return qwen::parse_simulator_options(arguments);
    } catch (std::invalid_argument const& e) {
        std::fprintf(stderr, "dashscope_simulator: %s\n", e.what());
        std::exit(2);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    auto const o = options({argv + 1, argv + argc});
    if (o.help) {
        std::fputs(qwen::simulator_help().c_str(), stdout);
        return 0;
    }

    // Blocked before any thread is made, so that every thread inherits it and only sigtimedwait sees them.
    sigset_t ends;
    ::sigemptyset(&ends);
    ::sigaddset(&ends, SIGINT);
    ::sigaddset(&ends, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);

    qwen::dashscope_simulator simulator{o.settings};
    simulator.start();
    std::printf("listening on %s\n", simulator.base_url().c_str());
    std::fflush(stdout);

    // The log is written here, apart from the threads that answer, so that a slow terminal delays no request.
    auto const write_log = [&simulator] {
        for (auto const& r : simulator.take_records()) std::printf("%s\n", to_text(r).c_str());
        std::fflush(stdout);
    };
    timespec const patience{o.log ? 0 : 3'600, o.log ? 200'000'000 : 0};
    while (::sigtimedwait(&ends, nullptr, &patience) < 0) {
        if (o.log) write_log();
    }
    simulator.stop();
    if (o.log) write_log();
    std::fputs(to_text(simulator.report()).c_str(), stdout);
    return 0;
} catch (std::exception const& e) {
    std::fprintf(stderr, "dashscope_simulator: %s\n", e.what());
    return 1;
}
