// SPDX-License-Identifier: MIT
#include "batch_job.hpp"

#include <sys/stat.h>

#include <weir/clock/scaled_clock.hpp>

#include <filesystem>
#include <numeric>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "qwen_client.hpp"

#ifndef QWEN_SAMPLES
#define QWEN_SAMPLES "samples"
#endif

namespace qwen::demo {

using namespace std::chrono_literals;

namespace {

std::string without_suffix(std::string const& path) {
    return path.ends_with(".jsonl") ? path.substr(0, path.size() - 6) : path;
}

// A device or a pipe has no files next to it.
bool regular(std::string const& path) {
    struct stat status{};
    return ::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
}

}  // namespace

batch_job::batch_job(settings s) : options{std::move(s)} {
    auto& o = options;
    if (o.base_url.empty()) o.base_url = options_from_environment().base_url;
    if (o.key.empty()) o.key = options_from_environment().key;
    simulated = o.base_url.empty();
    if (o.speed == 0) o.speed = simulated ? 3 : 1;
    if (o.compare && !simulated) throw usage_error("--compare needs the simulator: it provokes refusals");
    o.sample = o.batch.empty();
    if (o.sample) o.batch = QWEN_SAMPLES "/requests_600.jsonl";
    batch = read_batch(o.batch, {o.max_tokens, o.model, o.first});
    quota = quota_of(o, batch.model);
    if (auto const e = weir::scaled_clock<>::validate(o.speed)) throw usage_error(e.message());
    jitter = std::chrono::duration_cast<std::chrono::nanoseconds>(o.jitter) * o.speed;
    todo.resize(batch.items.size());
    std::iota(todo.begin(), todo.end(), std::size_t{0});
}

batch_files open_files(batch_job& job) {
    batch_files files;
    auto& o = job.options;
    if (o.out.empty() && !o.sample && !o.compare) o.out = without_suffix(o.batch) + ".out.jsonl";
    if (o.errors.empty() && !o.out.empty()) {
        auto const stem = without_suffix(o.out);
        o.errors = (stem.ends_with(".out") ? stem.substr(0, stem.size() - 4) : stem) + ".errors.jsonl";
        if (!regular(o.out)) o.errors.clear();
    }
    if (o.resume && o.out.empty()) throw usage_error("--resume needs --out");
    std::unordered_set<std::string> done;
    if (!o.out.empty()) {
        if (o.resume) {
            done = finished_ids(o.out);
        } else if (std::error_code ignored; regular(o.out) && std::filesystem::exists(o.out, ignored) &&
                                            std::filesystem::file_size(o.out, ignored) != 0) {
            throw usage_error(o.out + " already has answers: --resume continues it");
        }
        files.out = line_file(o.out, false);
        if (regular(o.out)) {
            auto const horizon = (server_timeout + 61s) / o.speed + 1s;
            files.journal = journal(o.out + ".journal", horizon);
        }
    }
    // Failed requests are tried again, so the file is about this run alone.
    if (!o.errors.empty()) files.errors = line_file(o.errors, true);
    std::erase_if(job.todo, [&](std::size_t i) { return done.contains(job.batch.items[i].custom_id); });
    return files;
}

void batch_files::close() {
    out.close();
    auto const path = errors.path();
    errors.close();
    std::error_code ignored;
    if (!path.empty() && regular(path) && std::filesystem::is_empty(path, ignored))
        std::filesystem::remove(path, ignored);
    journal.close();
}

}  // namespace qwen::demo
