// SPDX-License-Identifier: MIT
//
// What clients do without weir: a rule by which calls go, and backoff after a failure.
#pragma once

#include <weir/backoff.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "qwen_client.hpp"

namespace qwen {

/// Repeats by `retry` what a 429, a 5xx, the transport or a garbled body failed; Retry-After is obeyed. Final at
/// once: 400 and other 4xx. Fatal: 401, 403, 404 (the key, the account, the model, the URL), an account in arrears,
/// and an endpoint that stayed unreachable for all attempts of a call.
class plain_driver : public call_driver {
public:
    explicit plain_driver(weir::backoff retry, std::uint64_t seed = 1,
                          std::chrono::nanoseconds server_second = std::chrono::seconds{1})
        : retry_{retry}, random_{seed}, server_second_{server_second} {}

    next_step ended(attempt& a) override {
        if (a.answered()) {
            first_.erase(a.id);
            return next_step::done();
        }
        if (a.cancelled) return next_step::again_at(a.done);
        auto const first = first_.try_emplace(a.id, a.stamp).first->second;
        if (a.status == 0 || a.status == 200 || a.status == 408 || a.status == 429 || a.status >= 500) {
            if (auto const pause = retry_.next(a.number, random_, hint(a), a.done - first))
                return next_step::again_at(a.done + *pause);
        }
        first_.erase(a.id);
        return next_step::fail(
            {}, a.status == 401 || a.status == 403 || a.status == 404 || a.code == "Arrearage" || !a.connected);
    }

private:
    std::optional<std::chrono::nanoseconds> hint(attempt const& a) const {
        auto const text = a.header("retry-after");
        if (!text) return std::nullopt;
        std::uint32_t count = 0;
        auto const [end, error] = std::from_chars(text->data(), text->data() + text->size(), count);
        if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
        return server_second_ * count;
    }

    weir::backoff retry_;
    std::mt19937_64 random_;
    std::chrono::nanoseconds server_second_;
    std::unordered_map<call_id, steady_time> first_;  // the stamp of a call's first attempt
};

}  // namespace qwen
