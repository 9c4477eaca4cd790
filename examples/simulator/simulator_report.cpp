// SPDX-License-Identifier: MIT
#include <nlohmann/json.hpp>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "simulator.hpp"

namespace qwen {

namespace {

using ordered_json = nlohmann::ordered_json;

std::string fixed(double x, int digits) {
    char out[64];
    std::snprintf(out, sizeof out, "%.*f", digits, x);
    return out;
}

}  // namespace

std::string to_text(simulator_report const& r) {
    std::string out = "simulator: " + std::to_string(r.requests) + " requests in " +
                      fixed(static_cast<double>(r.elapsed_ns) * 1e-9, 1) + " s";
    if (r.speed != 1) out += " of simulated time (" + std::to_string(r.speed) + " times as fast)";
    out += "; tokens counted: " + std::string{to_string(r.rules.tokens)} +
           "; RPM window: " + std::string{to_string(r.rules.requests)} +
           (r.rules.count_rejected ? "; refused requests count" : "") + "\n  status";
    for (auto const& [status, n] : r.by_status)
        out += "  " + (status == 0 ? "no answer" : std::to_string(status)) + ": " + std::to_string(n);
    for (auto const& [code, n] : r.by_code) out += "  " + code + ": " + std::to_string(n);
    out += "\n";
    if (!r.by_mishap.empty()) {
        out += "  mishaps";
        for (auto const& [name, n] : r.by_mishap) out += "  " + name + ": " + std::to_string(n);
        out += "\n";
    }
    for (auto const& why : r.failed_changes) out += "  not changed: " + why + "\n";
    for (auto const& q : r.judge.quotas) {
        out +=
            "  " + q.account + ", " + q.model + ": admitted " + std::to_string(q.admitted) +
            (q.admitted_above_tpm != 0 ? " (" + std::to_string(q.admitted_above_tpm) + " above TPM)" : std::string{}) +
            ", refused " + std::to_string(q.refused.total());
        if (q.refused.total() != 0) {
            out += " (RPS " + std::to_string(q.refused.rps) + ", RPM " + std::to_string(q.refused.rpm) + ", TPS " +
                   std::to_string(q.refused.tps) + ", TPM " + std::to_string(q.refused.tpm) + ")";
        }
        out += ", in flight at most " + std::to_string(q.peak_in_flight) + ", tokens " +
               std::to_string(q.input_tokens) + " in, " + std::to_string(q.output_tokens) + " out\n    peaks:";
        auto const peak = [&out](char const* what, std::uint64_t n, std::optional<std::uint64_t> limit) {
            out += std::string{"  "} + what + " " + std::to_string(n) +
                   (limit ? " of " + std::to_string(*limit) : " (no limit)");
        };
        peak("requests/min", q.peak.requests_minute, q.limits.rpm);
        peak("requests/s", q.peak.requests_second, q.limits.rps);
        peak("tokens/min", q.peak.tokens_minute, q.limits.tpm);
        peak("tokens/s", q.peak.tokens_second, q.limits.tps);
        if (q.refused.total() != 0) {
            out += "\n    with the refused ones:  requests/min " + std::to_string(q.peak_arrivals_minute) +
                   "  requests/s " + std::to_string(q.peak_arrivals_second);
        }
        out += "\n";
    }
    if (auto const& d = r.judge.delay; d.count != 0) {
        auto const ms = [](std::int64_t ns) { return fixed(static_cast<double>(ns) * 1e-6, 3); };
        out += "  arrival - stamp, real ms: least " + ms(d.min_ns) + ", median " + ms(d.p50_ns) + ", 99% " +
               ms(d.p99_ns) + ", most " + ms(d.max_ns) + "; spread " + ms(d.spread_ns()) + "\n";
    }
    return out;
}

std::string to_json(simulator_report const& r) {
    auto const limit = [](std::optional<std::uint64_t> l) { return l ? ordered_json(*l) : ordered_json(nullptr); };
    ordered_json out{{"requests", r.requests},
                     {"elapsed_ns", r.elapsed_ns},
                     {"speed", r.speed},
                     {"token_mode", to_string(r.rules.tokens)},
                     {"rpm_window", to_string(r.rules.requests)},
                     {"count_rejected", r.rules.count_rejected}};
    out["by_status"] = ordered_json::object();
    for (auto const& [status, n] : r.by_status) out["by_status"][std::to_string(status)] = n;
    out["by_code"] = ordered_json::object();
    for (auto const& [code, n] : r.by_code) out["by_code"][code] = n;
    out["by_mishap"] = ordered_json::object();
    for (auto const& [name, n] : r.by_mishap) out["by_mishap"][name] = n;
    out["failed_changes"] = r.failed_changes;
    out["quotas"] = ordered_json::array();
    for (auto const& q : r.judge.quotas) {
        out["quotas"].push_back(
            {{"account", q.account},
             {"model", q.model},
             {"limits",
              {{"rpm", limit(q.limits.rpm)},
               {"rps", limit(q.limits.rps)},
               {"tpm", limit(q.limits.tpm)},
               {"tps", limit(q.limits.tps)}}},
             {"arrived", q.arrived},
             {"admitted", q.admitted},
             {"admitted_above_tpm", q.admitted_above_tpm},
             {"completed", q.completed},
             {"in_flight", q.in_flight},
             {"peak_in_flight", q.peak_in_flight},
             {"input_tokens", q.input_tokens},
             {"output_tokens", q.output_tokens},
             {"refused",
              {{"rps", q.refused.rps}, {"rpm", q.refused.rpm}, {"tps", q.refused.tps}, {"tpm", q.refused.tpm}}},
             {"peak",
              {{"requests_minute", q.peak.requests_minute},
               {"requests_second", q.peak.requests_second},
               {"tokens_minute", q.peak.tokens_minute},
               {"tokens_second", q.peak.tokens_second},
               {"arrivals_minute", q.peak_arrivals_minute},
               {"arrivals_second", q.peak_arrivals_second}}},
             {"first_arrival_ns", q.first_arrival_ns},
             {"last_arrival_ns", q.last_arrival_ns},
             {"last_event_ns", q.last_event_ns}});
    }
    auto const& d = r.judge.delay;
    out["delay"] = {
        {"count", d.count}, {"min_ns", d.min_ns}, {"p50_ns", d.p50_ns}, {"p99_ns", d.p99_ns}, {"max_ns", d.max_ns}};
    return out.dump();
}

std::string to_text(request_record const& r) {
    auto const s = [](std::int64_t ns) { return fixed(static_cast<double>(ns) * 1e-9, 4); };
    std::string out = s(r.arrival_ns) + " #" + std::to_string(r.number) + " " + (r.account.empty() ? "-" : r.account) +
                      " " + (r.model.empty() ? "-" : r.model) + " " +
                      (r.status == 0 ? "no answer" : std::to_string(r.status));
    if (!r.code.empty()) out += " " + r.code;
    if (r.rule != server_rule::none) out += " by " + std::string{to_string(r.rule)};
    out += " in " + std::to_string(r.input) + " out " + std::to_string(r.output) + " max " +
           std::to_string(r.max_tokens) + " took " + s(r.done_ns - r.arrival_ns) +
           " s; windows: " + std::to_string(r.sums.requests_minute) + "/min " + std::to_string(r.sums.requests_second) +
           "/s " + std::to_string(r.sums.tokens_minute) + " tokens/min " + std::to_string(r.sums.tokens_second) +
           " tokens/s";
    if (r.queued_ns != 0) out += "; in the queue " + s(r.queued_ns) + " s";
    if (r.streamed) out += "; streamed";
    if (r.befell != mishap::none) out += "; " + std::string{to_string(r.befell)};
    if (r.delay_ns) out += "; delay " + fixed(static_cast<double>(*r.delay_ns) * 1e-6, 3) + " ms";
    return out;
}

}  // namespace qwen
