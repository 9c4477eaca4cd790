// SPDX-License-Identifier: MIT
//
// A plan that is paid for ahead: so many credits in five hours, a week, a month. When they are spent nothing helps
// before the date at which they come again. Time is passed in.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

namespace qwen {

/// Absent = not limited. Periods follow one another from the plan's beginning; a month is 30 days.
struct plan_settings {
    std::optional<std::uint64_t> five_hours{}, week{}, month{};  ///< credits
    std::uint64_t tokens_per_credit = 1'000;
    double age_s = 0;  ///< the plan began so long before time 0
    [[nodiscard]] bool limits_anything() const noexcept { return five_hours || week || month; }
};

/// Thread-safe.
class plan_quota {
public:
    /// Throws std::invalid_argument: a credit of no tokens, an age below 0.
    explicit plan_quota(plan_settings);

    struct exhausted {
        char const* period;  ///< "5-hour", "1-week", "1-month"
        std::int64_t reset_ns;
    };
    /// The period without credits that ends last. A request is let through while something is left, whatever it will
    /// cost.
    [[nodiscard]] std::optional<exhausted> trouble(std::int64_t now) const;
    void spend(std::uint64_t tokens, std::int64_t now);

private:
    struct period {
        char const* name;
        std::int64_t length_ns;
        std::optional<std::uint64_t> credits;
        std::int64_t number = 0;
        std::uint64_t tokens = 0;  // spent in the period of that number
    };
    [[nodiscard]] std::int64_t number_at(period const&, std::int64_t now) const;

    std::uint64_t tokens_per_credit_;
    std::int64_t age_ns_;
    mutable std::mutex mutex_;
    std::array<period, 3> periods_;
};

/// "Your token-plan 1-month quota has been exhausted. The quota will reset at 10-15 16:00:00 UTC."
[[nodiscard]] std::string plan_message(char const* period, std::int64_t reset_epoch_s);

}  // namespace qwen
