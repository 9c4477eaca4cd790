// SPDX-License-Identifier: MIT
#include "simulator_settings.hpp"

#include <stdexcept>

namespace qwen {

std::map<std::string, account_state> const& account_states() {
    using enum account_state;
    static std::map<std::string, account_state> const all{{"good", good},
                                                          {"arrearage", arrearage},
                                                          {"unpurchased", unpurchased},
                                                          {"commodity_not_purchased", commodity_not_purchased},
                                                          {"prepaid_overdue", prepaid_overdue},
                                                          {"postpaid_overdue", postpaid_overdue}};
    return all;
}

std::vector<model_settings> international_models() {
    auto const m = [](char const* name, std::uint64_t rpm, std::uint64_t tpm) {
        return model_settings{.name = name, .limits = {.rpm = rpm, .tpm = tpm}};
    };
    return {m("qwen3-max", 600, 1'000'000),      m("qwen3-max-2025-09-23", 60, 100'000), m("qwen-max", 120, 100'000),
            m("qwen-plus", 600, 1'000'000),      m("qwen-flash", 600, 5'000'000),        m("qwen-turbo", 240, 100'000),
            m("qwen3.5-plus", 15'000, 5'000'000)};
}

namespace simulated {

void require(bool fine, std::string const& what) {
    if (!fine) throw std::invalid_argument("simulator: " + what);
}

void check(simulator_settings const& s) {
    require(s.speed >= 1 && s.speed <= 1'000'000, "speed must be within 1 ... 1,000,000");
    require(s.latency.spread >= 0 && s.latency.spread <= 1, "the latency's spread must be within 0 ... 1");
    require(s.latency.first_token_s >= 0 && s.latency.tokens_per_s > 0, "a latency must not be negative");
    require(s.output.least >= 0 && s.output.least <= s.output.most && s.output.most <= 1,
            "shares of output must be within 0 ... 1");
    for (auto const& f : s.faults) require(f.rate >= 0 && f.rate <= 1, "a fault's rate must be within 0 ... 1");
    check(s.mishaps);
    require(s.slow_body_s >= 0 && s.slow_body_s <= 1e6, "a slow body must take a time");
    require(s.chunk_tokens >= 1, "a chunk must have a token");
}

}  // namespace simulated
}  // namespace qwen
