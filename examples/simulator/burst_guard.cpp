// SPDX-License-Identifier: MIT
#include "burst_guard.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "chance.hpp"

namespace qwen {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t memory_ns = 10 * second_ns;

}  // namespace

burst_guard::burst_guard(burst_settings s, std::uint64_t seed) : settings_{s}, seed_{seed} {
    auto const require = [](bool fine, char const* why) {
        if (!fine) throw std::invalid_argument(std::string{"burst protection: "} + why);
    };
    require(s.least_floor >= 1 && s.least_floor <= s.most_floor, "a floor must be at least 1, the lesser first");
    require(s.least_growth >= 1 && s.least_growth <= s.most_growth, "a growth must be at least 1, the lesser first");
    require(s.drift_s >= 0.001 && s.drift_s <= 1e6, "the drift must be a time");
}

burst_guard::threshold burst_guard::threshold_at(std::int64_t now) const {
    auto const steps = static_cast<double>(now) * 1e-9 / settings_.drift_s;
    auto const knot = std::floor(steps);
    auto const aim = [this](double k, std::uint64_t which) {
        simulated::chance c{simulated::mix(seed_ ^ which) ^ static_cast<std::uint64_t>(static_cast<std::int64_t>(k))};
        return c.unit();
    };
    auto const at = [&](std::uint64_t which, double least, double most) {
        auto const a = aim(knot, which), b = aim(knot + 1, which);
        return least + (most - least) * (a + (b - a) * (steps - knot));
    };
    return {at(0x666c6f6f72, settings_.least_floor, settings_.most_floor),
            at(0x67726f777468, settings_.least_growth, settings_.most_growth)};
}

std::size_t burst_guard::within_second(passed_log const& log, std::int64_t now) {
    return static_cast<std::size_t>(log.times.end() -
                                    std::upper_bound(log.times.begin(), log.times.end(), now - second_ns));
}

double burst_guard::allowed(passed_log const& log, std::int64_t now) const {
    auto const recent = log.times.end() - std::upper_bound(log.times.begin(), log.times.end(), now - memory_ns);
    auto const t = threshold_at(now);
    return std::max(t.floor, t.growth * static_cast<double>(recent) / 10);
}

bool burst_guard::pass(passed_log& log, std::int64_t now) {
    while (!log.times.empty() && now - log.times.front() >= memory_ns) log.times.pop_front();
    if (static_cast<double>(within_second(log, now) + 1) > allowed(log, now)) return false;
    log.times.push_back(now);
    return true;
}

double burst_guard::allowed(std::string_view account, std::string_view model, std::int64_t now) const {
    std::lock_guard const lock{mutex_};
    auto const at = logs_.find(key{account, model});
    return at == logs_.end() ? threshold_at(now).floor : allowed(at->second, std::max(now, at->second.latest));
}

burst_guard::outcome burst_guard::arrive(std::string_view account, std::string_view model, std::int64_t time,
                                         std::int64_t wait_ns) {
    std::lock_guard const lock{mutex_};
    auto& log = logs_[key{account, model}];
    auto const now = log.latest = std::max(time, log.latest);
    if (log.line.empty() && pass(log, now)) return {};
    if (wait_ns <= 0) {
        ++refused_;
        return {answer::refused, 0};
    }
    auto const ticket = next_ticket_++;
    log.line.push_back(ticket);
    waiters_.emplace(ticket, waiter{&log, now + wait_ns});
    return {answer::waits, ticket};
}

burst_guard::answer burst_guard::look(std::uint64_t ticket, std::int64_t time) {
    std::lock_guard const lock{mutex_};
    auto const at = waiters_.find(ticket);
    if (at == waiters_.end()) return answer::refused;
    auto& log = *at->second.log;
    auto const now = log.latest = std::max(time, log.latest);
    if (log.line.front() == ticket && pass(log, now)) {
        log.line.pop_front();
        waiters_.erase(at);
        return answer::passes;
    }
    if (now < at->second.deadline) return answer::waits;
    std::erase(log.line, ticket);
    waiters_.erase(at);
    ++refused_;
    return answer::refused;
}

std::int64_t burst_guard::look_again_at(std::uint64_t ticket, std::int64_t time) const {
    std::lock_guard const lock{mutex_};
    auto const at = waiters_.find(ticket);
    if (at == waiters_.end()) return time;
    auto const& log = *at->second.log;
    auto const now = std::max(time, log.latest);
    auto const ahead = std::find(log.line.begin(), log.line.end(), ticket) - log.line.begin();
    auto const room = allowed(log, now);
    auto const in_second = within_second(log, now);
    // So many of the last second must first be older than that.
    auto const excess =
        static_cast<std::int64_t>(std::ceil(static_cast<double>(in_second) + static_cast<double>(ahead) + 1 - room));
    auto when = now + second_ns;
    if (excess <= 0) {
        when = now;
    } else if (static_cast<std::size_t>(excess) <= in_second) {
        when = log.times[log.times.size() - in_second + static_cast<std::size_t>(excess) - 1] + second_ns;
    }
    return std::min(when, at->second.deadline);
}

void burst_guard::leave(std::uint64_t ticket) {
    std::lock_guard const lock{mutex_};
    auto const at = waiters_.find(ticket);
    if (at == waiters_.end()) return;
    std::erase(at->second.log->line, ticket);
    waiters_.erase(at);
}

std::size_t burst_guard::waiting(std::string_view account, std::string_view model) const {
    std::lock_guard const lock{mutex_};
    auto const at = logs_.find(key{account, model});
    return at == logs_.end() ? 0 : at->second.line.size();
}

std::uint64_t burst_guard::refused() const {
    std::lock_guard const lock{mutex_};
    return refused_;
}

std::int64_t wait_timeout_s(std::string_view header) noexcept {
    constexpr std::int64_t most = 120;
    auto const begin = header.find_first_not_of(' ');
    if (begin == std::string_view::npos) return 0;
    header = header.substr(begin, header.find_last_not_of(' ') + 1 - begin);
    std::int64_t n = 0;
    for (char const c : header) {
        if (c < '0' || c > '9') return 0;
        n = std::min(most, n * 10 + (c - '0'));
    }
    return n;
}

}  // namespace qwen
