// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

#include "demo_text.hpp"
#include "svg.hpp"

namespace qwen::demo {

using std::chrono::nanoseconds;

namespace {

void row(char const* name, std::string const& value) { std::printf("  %-22s %s\n", name, value.c_str()); }

}  // namespace

std::string report::cost(run_result const& r) const {
    if (!s_.price_in && !s_.price_out) return {};
    return format("%.4f", (static_cast<double>(r.input) * s_.price_in.value_or(0) +
                           static_cast<double>(r.output) * s_.price_out.value_or(0)) /
                              1e6);
}

void report::print_table(run_result const& r) const {
    std::printf("\n");
    if (s_.compare) std::printf("weir\n");
    row("requests", format("%zu answered, %zu failed", r.answered, r.failed) +
                        (r.unsent != 0 ? format(", %zu not finished", r.unsent) : std::string{}));
    row("time", format("%.1f s", r.time) +
                    (s_.speed != 1 ? format(", %.1f s of the server's", r.quota_time) : std::string{}) +
                    ", first send to last arrival");
    if (r.ideal > 0) {
        row("goodput", percent(r.share()) + format(" of the ideal (%.1f s)", r.ideal) +
                           (sent_ < batch_.items.size() ? ", which begins with empty windows" : ""));
    }
    row("429s", grouped(r.refused));
    row("retries", grouped(r.retries));
    row("tokens", grouped(r.input) + " in, " + grouped(r.output) + " out");
    if (auto const c = cost(r); !c.empty()) row("cost", c);
    if (!r.server) {
        if (!r.attempts.empty()) row("peaks", "unknown: the server does not say");
        return;
    }
    auto const total = r.server->judge.total();
    auto const peak = [&](char const* name, std::uint64_t value, std::optional<std::uint64_t> limit) {
        if (limit) row(name, grouped(value) + " of " + grouped(*limit));
    };
    peak("peak RPM at the server", total.peak.requests_minute, quota_.rpm);
    peak("peak RPS", total.peak.requests_second, quota_.rps);
    peak("peak TPM", total.peak.tokens_minute, quota_.tpm);
    peak("peak TPS", total.peak.tokens_second, quota_.tps);
    auto const& delay = r.server->judge.delay;
    if (delay.count == 0) return;
    auto const ms = [](std::int64_t ns) { return static_cast<double>(ns) / 1e6; };
    row("arrival - stamp",
        format("%.2f ... %.2f ms (median %.2f, 99th %.2f), so spread over %.2f ms; J = %g ms", ms(delay.min_ns),
               ms(delay.max_ns), ms(delay.p50_ns), ms(delay.p99_ns), ms(delay.spread_ns()), s_.jitter.count()));
    if (ms(delay.spread_ns()) > s_.jitter.count()) {
        std::printf(
            "\n  VOID: arrivals were spread over more than J, so nothing was promised for this run. The machine "
            "stalled;\n"
            "  run it again when it is quieter, or with --jitter %.0f.\n",
            std::ceil(ms(delay.spread_ns()) * 1.5));
    }
}

void report::print_comparison(std::vector<run_result> const& results) const {
    std::printf("\n  %-22s", "");
    for (auto const& r : results) std::printf(" %16s", r.name.c_str());
    auto const line = [&](char const* name, auto value) {
        std::printf("\n  %-22s", name);
        for (auto const& r : results) std::printf(" %16s", value(r).c_str());
    };
    line("answered", [](run_result const& r) { return grouped(r.answered); });
    line("failed", [](run_result const& r) { return grouped(r.failed + r.unsent); });
    line("time", [](run_result const& r) { return format("%.1f s", r.time); });
    line("share of the ideal", [](run_result const& r) { return percent(r.share()); });
    line("429s", [](run_result const& r) { return grouped(r.refused); });
    line("retries", [](run_result const& r) { return grouped(r.retries); });
    line("requests sent", [](run_result const& r) { return grouped(r.attempts.size()); });
    line("tokens", [](run_result const& r) { return grouped(r.input + r.output); });
    if (s_.price_in || s_.price_out) line("cost", [&](run_result const& r) { return cost(r); });
    std::printf("\n");
}

void report::write_picture(run_result const& r) const {
    std::string path = s_.svg;
    if (path == "none") return;
    if (path.empty()) {
        if (!s_.sample) return;
        std::error_code error;
        auto const program = std::filesystem::read_symlink("/proc/self/exe", error);
        if (error) return;
        path = (program.parent_path() / "qwen_demo.svg").string();
    }
    std::vector<qwen::sent_call> calls;
    auto const first = r.attempts.front().stamp;
    auto const real = [&](nanoseconds d) { return in_seconds(d) * static_cast<double>(s_.speed); };
    for (auto const& a : r.attempts) {
        if (!a.left) continue;
        calls.push_back({real(a.stamp - first), a.over ? real(a.done - first) : real(a.stamp - first), a.input,
                         a.output, a.status == 429});
    }
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << qwen::draw_windows(batch_.model + ": " + to_text(quota_), calls,
                               {quota_.rpm, quota_.rps, quota_.tpm, quota_.tps});
    file.close();
    if (!file) {
        std::fprintf(stderr, "qwen_demo: cannot write %s\n", path.c_str());
    } else {
        row("picture", path);
    }
}

}  // namespace qwen::demo
