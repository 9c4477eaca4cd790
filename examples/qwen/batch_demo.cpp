// SPDX-License-Identifier: MIT
#include "batch_demo.hpp"

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "batch_advice.hpp"
#include "batch_job.hpp"
#include "batch_sender.hpp"
#include "demo_text.hpp"
#include "report.hpp"

namespace qwen::demo {

namespace {

void print_job(batch_job const& job) {
    auto const& o = job.options;
    auto const all = job.batch.items.size(), todo = job.todo.size();
    std::printf("%zu requests of %s, %s at %s\n", todo, o.batch.c_str(), job.batch.model.c_str(),
                job.simulated ? "a simulator in this process" : o.base_url.c_str());
    if (todo < all) std::printf("%zu of %zu are already in %s\n", all - todo, all, o.out.c_str());
    std::printf("limits %s; J = %g ms; speed %lld\n", to_text(job.quota).c_str(), o.jitter.count(),
                static_cast<long long>(o.speed));
    std::fflush(stdout);
}

void print_results(batch_job const& job, std::vector<run_result> const& results) {
    auto const& last = results.back();
    report const shown{job.options, job.batch, job.quota, job.todo.size()};
    if (job.options.compare) shown.print_comparison(results);
    shown.print_table(last);
    if (!last.attempts.empty()) shown.write_picture(last);
    if (job.options.advice == advice_when::after) advise_after(job, last);
    std::fflush(stdout);
}

}  // namespace

int run_batch(settings s, interruption& interrupted) {
    batch_job job{std::move(s)};
    auto const& o = job.options;
    if (o.advice == advice_when::only) {
        if (job.todo.empty()) throw usage_error(o.batch + " has no requests");
        advise_before(job);
        return 0;
    }
    auto files = open_files(job);
    print_job(job);
    if (job.todo.empty()) return 0;
    if (o.advice == advice_when::before) advise_before(job);

    using enum strategy;
    std::vector<run_result> results;
    for (auto const kind : o.compare ? std::vector{backoff_only, fixed_interval, weir} : std::vector{weir}) {
        results.push_back(send_batch(job, kind, files, interrupted));
        if (interrupted.happened()) break;
    }
    files.close();

    print_results(job, results);
    if (interrupted.happened()) {
        std::printf("Interrupted%s.\n", o.out.empty() ? "" : ": --resume continues from here");
        std::fflush(stdout);
        return exit_interrupted;
    }
    auto const& last = results.back();
    if (!last.failure.empty())
        std::fprintf(stderr, "qwen_demo: %s%s\n", last.ended_early ? "" : "first failure: ", last.failure.c_str());
    return last.failed != 0 || last.ended_early ? exit_failed : 0;
}

}  // namespace qwen::demo
