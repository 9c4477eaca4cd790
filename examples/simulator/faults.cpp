// SPDX-License-Identifier: MIT
#include "faults.hpp"

#include <stdexcept>

namespace qwen {

namespace {

struct row {
    mishap what;
    char const* name;
    double mishap_rates::* rate;  // nullptr: not drawn
};

constexpr row rows[] = {
    {mishap::none, "none", nullptr},
    {mishap::dropped_before, "dropped_before", &mishap_rates::dropped_before},
    {mishap::dropped_after, "dropped_after", &mishap_rates::dropped_after},
    {mishap::truncated_body, "truncated_body", &mishap_rates::truncated_body},
    {mishap::garbage_body, "garbage_body", &mishap_rates::garbage_body},
    {mishap::slow_body, "slow_body", &mishap_rates::slow_body},
    {mishap::midstream_error, "midstream_error", &mishap_rates::midstream_429_rate},
    {mishap::soft_failure, "soft_failure", &mishap_rates::soft_failure_rate},
    {mishap::client_left, "client_left", nullptr},
    {mishap::server_stopped, "server_stopped", nullptr},
};

}  // namespace

std::string_view to_string(mishap m) noexcept {
    for (auto const& r : rows)
        if (r.what == m) return r.name;
    return "";
}

std::optional<mishap> mishap_named(std::string_view name) noexcept {
    for (auto const& r : rows)
        if (r.rate != nullptr && r.name == name) return r.what;
    return std::nullopt;
}

namespace simulated {

void check(mishap_rates const& rates) {
    for (auto const& r : rows) {
        if (r.rate == nullptr || (rates.*r.rate >= 0 && rates.*r.rate <= 1)) continue;
        throw std::invalid_argument(std::string{"simulator: a rate must be within 0 ... 1: "} + r.name);
    }
}

mishap draw(mishap_rates const& rates, bool stream, chance& rng) {
    for (auto const& r : rows) {
        if (r.rate == nullptr || rates.*r.rate <= 0 || (r.what == mishap::midstream_error && !stream)) continue;
        if (rng.unit() < rates.*r.rate) return r.what;
    }
    return mishap::none;
}

std::string garbage(std::size_t size, chance& rng) {
    std::string out = "\x1f\x8b<html>";
    while (out.size() < size) {
        auto const byte = static_cast<unsigned char>(rng.next());
        if (byte != '\n' && byte != '\r') out.push_back(static_cast<char>(byte));
    }
    return out;
}

}  // namespace simulated
}  // namespace qwen
