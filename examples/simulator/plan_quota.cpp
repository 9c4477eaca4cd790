// SPDX-License-Identifier: MIT
#include "plan_quota.hpp"

#include <cmath>
#include <ctime>
#include <stdexcept>

namespace qwen {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t hour_ns = 3'600 * second_ns;
constexpr std::int64_t day_ns = 24 * hour_ns;

}  // namespace

plan_quota::plan_quota(plan_settings s)
    : tokens_per_credit_{s.tokens_per_credit},
      age_ns_{0},
      periods_{
          {{"5-hour", 5 * hour_ns, s.five_hours}, {"1-week", 7 * day_ns, s.week}, {"1-month", 30 * day_ns, s.month}}} {
    if (s.tokens_per_credit == 0) throw std::invalid_argument("plan: a credit must be worth a token");
    if (!(s.age_s >= 0 && s.age_s <= 1e9)) throw std::invalid_argument("plan: an age must not be negative");
    age_ns_ = std::llround(s.age_s * 1e9);
}

std::int64_t plan_quota::number_at(period const& p, std::int64_t now) const {
    auto const since = now + age_ns_;
    return since / p.length_ns - (since % p.length_ns < 0 ? 1 : 0);
}

std::optional<plan_quota::exhausted> plan_quota::trouble(std::int64_t now) const {
    std::lock_guard const lock{mutex_};
    std::optional<exhausted> last;
    for (auto const& p : periods_) {
        if (!p.credits) continue;
        auto const number = number_at(p, now);
        auto const spent = number == p.number ? p.tokens : 0;
        if (spent / tokens_per_credit_ < *p.credits) continue;
        auto const reset = (number + 1) * p.length_ns - age_ns_;
        if (!last || reset > last->reset_ns) last = exhausted{p.name, reset};
    }
    return last;
}

void plan_quota::spend(std::uint64_t tokens, std::int64_t now) {
    std::lock_guard const lock{mutex_};
    for (auto& p : periods_) {
        auto const number = number_at(p, now);
        if (number != p.number) p.tokens = 0;
        p.number = number;
        p.tokens += tokens;
    }
}

std::string plan_message(char const* period, std::int64_t reset_epoch_s) {
    auto const t = static_cast<std::time_t>(reset_epoch_s);
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    char when[32];
    std::strftime(when, sizeof when, "%m-%d %H:%M:%S UTC", &parts);
    return std::string{"Your token-plan "} + period + " quota has been exhausted. The quota will reset at " + when +
           ".";
}

}  // namespace qwen
