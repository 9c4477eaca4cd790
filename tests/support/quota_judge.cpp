// SPDX-License-Identifier: MIT
#include "quota_judge.hpp"

#include <algorithm>

namespace qwen {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t minute_ns = 60 * second_ns;
constexpr std::size_t delays_kept = 1'000'000;

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

}  // namespace

std::string_view to_string(server_rule r) noexcept {
    switch (r) {
        case server_rule::rps: return "RPS";
        case server_rule::rpm: return "RPM";
        case server_rule::tps: return "TPS";
        case server_rule::tpm: return "TPM";
        case server_rule::none: break;
    }
    return "none";
}

std::string_view to_string(token_mode m) noexcept {
    switch (m) {
        case token_mode::input_strict: return "input_strict";
        case token_mode::reserve: return "reserve";
        case token_mode::actual: break;
    }
    return "actual";
}

std::string_view to_string(window_kind k) noexcept {
    switch (k) {
        case window_kind::fixed: return "fixed";
        case window_kind::gcra: return "gcra";
        case window_kind::sliding: break;
    }
    return "sliding";
}

quota_report judge_report::total() const {
    quota_report all;
    for (auto const& q : quotas) {
        all.arrived += q.arrived;
        all.admitted += q.admitted;
        all.completed += q.completed;
        all.in_flight += q.in_flight;
        all.admitted_above_tpm += q.admitted_above_tpm;
        all.input_tokens += q.input_tokens;
        all.output_tokens += q.output_tokens;
        all.refused.rps += q.refused.rps;
        all.refused.rpm += q.refused.rpm;
        all.refused.tps += q.refused.tps;
        all.refused.tpm += q.refused.tpm;
        auto const raise = [](auto& to, auto with) { to = std::max(to, with); };
        raise(all.peak_in_flight, q.peak_in_flight);
        raise(all.peak.requests_minute, q.peak.requests_minute);
        raise(all.peak.requests_second, q.peak.requests_second);
        raise(all.peak.tokens_minute, q.peak.tokens_minute);
        raise(all.peak.tokens_second, q.peak.tokens_second);
        raise(all.peak_arrivals_minute, q.peak_arrivals_minute);
        raise(all.peak_arrivals_second, q.peak_arrivals_second);
        all.first_arrival_ns =
            &q == quotas.data() ? q.first_arrival_ns : std::min(all.first_arrival_ns, q.first_arrival_ns);
        all.last_arrival_ns =
            &q == quotas.data() ? q.last_arrival_ns : std::max(all.last_arrival_ns, q.last_arrival_ns);
        all.last_event_ns = &q == quotas.data() ? q.last_event_ns : std::max(all.last_event_ns, q.last_event_ns);
    }
    return all;
}

// --- one window
// ----------------------------------------------------------------------------------------------------------------

void quota_judge::exact_log::expire(std::int64_t now) {
    while (!entries_.empty() && now - entries_.front().time >= length_) {
        sum_ -= entries_.front().amount;
        entries_.pop_front();
    }
}

void quota_judge::exact_log::add(std::int64_t now, std::uint64_t amount, std::uint64_t id) {
    expire(now);
    entries_.push_back({now, amount, id});
    sum_ += amount;
    peak_ = std::max(peak_, sum_);
}

void quota_judge::exact_log::lower(std::uint64_t id, std::uint64_t amount) {
    auto const at = std::lower_bound(entries_.begin(), entries_.end(), id,
                                     [](entry const& e, std::uint64_t i) { return e.id < i; });
    if (at == entries_.end() || at->id != id) return;  // older than the window
    sum_ = sum_ - at->amount + amount;
    at->amount = amount;
    peak_ = std::max(peak_, sum_);  // an output above its reservation raises it
}

std::uint64_t quota_judge::exact_log::sum_at(std::int64_t now) const {
    std::uint64_t sum = 0;
    for (auto const& e : entries_)
        if (now - e.time < length_) sum += e.amount;
    return sum;
}

std::int64_t quota_judge::exact_log::falls_to(std::uint64_t at_most) const {
    std::uint64_t sum = sum_;
    for (auto const& e : entries_) {
        sum -= e.amount;
        if (sum <= at_most) return e.time + length_;
    }
    return never_ns;
}

quota_judge::account_log::account_log()
    : requests_minute{minute_ns},
      requests_second{second_ns},
      tokens_minute{minute_ns},
      tokens_second{second_ns},
      arrivals_minute{minute_ns},
      arrivals_second{second_ns},
      latest{std::numeric_limits<std::int64_t>::min()} {}

// --- the judge
// -----------------------------------------------------------------------------------------------------------------

quota_judge::quota_judge(judge_settings s) : settings_{s}, random_{s.seed} {}

double quota_judge::unit() {
    random_ += 0x9e3779b97f4a7c15u;  // splitmix64
    auto x = random_;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

server_limits quota_judge::as_set(std::string const& account, std::string const& model) const {
    if (auto const own = by_account_.find(key{account, model}); own != by_account_.end()) return own->second;
    if (auto const of = by_model_.find(model); of != by_model_.end()) return of->second;
    return {};
}

server_limits quota_judge::effective(std::string const& account, std::string const& model) const {
    auto l = as_set(account, model);
    if (settings_.derive_rps && l.rpm && !l.rps)
        l.rps = std::max<std::uint64_t>(1, *l.rpm / 60 + (*l.rpm % 60 != 0 ? 1 : 0));
    if (settings_.derive_tps && l.tpm && !l.tps) l.tps = *l.tpm / 60 + (*l.tpm % 60 != 0 ? 1 : 0);
    return l;
}

void quota_judge::set_limits(std::string const& model, server_limits l) {
    change_limits(model, [l](server_limits& to) { to = l; });
}

void quota_judge::set_limits(std::string const& account, std::string const& model, server_limits l) {
    change_limits(account, model, [l](server_limits& to) { to = l; });
}

void quota_judge::change_limits(std::string const& model, std::function<void(server_limits&)> const& how) {
    std::lock_guard const lock{mutex_};
    how(by_model_[model]);
    for (auto& [k, log] : logs_)
        if (k.second == model) log.counts.limits = effective(k.first, k.second);
}

void quota_judge::change_limits(std::string const& account, std::string const& model,
                                std::function<void(server_limits&)> const& how) {
    std::lock_guard const lock{mutex_};
    auto l = as_set(account, model);
    how(l);
    by_account_[key{account, model}] = l;
    if (auto const at = logs_.find(key{account, model}); at != logs_.end())
        at->second.counts.limits = effective(account, model);
}

quota_judge::account_log& quota_judge::log_of(std::string_view account, std::string_view model) {
    auto const [at, fresh] = logs_.try_emplace(key{account, model});
    if (fresh) {
        at->second.counts.account = at->first.first;
        at->second.counts.model = at->first.second;
        at->second.counts.limits = effective(at->first.first, at->first.second);
    }
    return at->second;
}

quota_judge::account_log const* quota_judge::find(std::string_view account, std::string_view model) const {
    auto const at = logs_.find(key{account, model});
    return at == logs_.end() ? nullptr : &at->second;
}

std::int64_t quota_judge::requests_free_at(account_log const& log, std::uint64_t rpm, std::int64_t now) const {
    if (rpm == 0) return never_ns;
    switch (settings_.requests) {
        case window_kind::fixed: return log.in_minute < rpm ? now : (log.minute + 1) * minute_ns;
        case window_kind::gcra: {
            auto const cost = static_cast<std::uint64_t>(minute_ns);
            if (log.credit >= cost) return now;
            return now + static_cast<std::int64_t>((cost - log.credit + rpm - 1) / rpm);
        }
        case window_kind::sliding: break;
    }
    return log.requests_minute.sum() < rpm ? now : log.requests_minute.falls_to(rpm - 1);
}

std::int64_t quota_judge::tokens_free_at(exact_log const& log, std::uint64_t limit, std::uint64_t charge,
                                         bool alone_passes, std::int64_t now) const {
    if (limit == 0) return never_ns;
    if (alone_passes && log.sum() == 0) return now;
    // The greatest sum with which this request is admitted.
    std::uint64_t room = 0;
    if (settings_.tokens == token_mode::actual) {
        room = limit - 1;
    } else if (charge > limit) {
        if (!alone_passes) return never_ns;
    } else {
        room = limit - charge;
    }
    return log.sum() <= room ? now : log.falls_to(room);
}

void quota_judge::count_request(account_log& log, std::int64_t now) {
    auto const id = next_id_++;
    log.requests_minute.add(now, 1, id);
    log.requests_second.add(now, 1, id);
    ++log.in_minute;
    log.credit -= std::min(log.credit, static_cast<std::uint64_t>(minute_ns));
}

verdict quota_judge::arrive(std::string_view account, std::string_view model, std::int64_t time_ns, std::uint64_t input,
                            std::uint64_t max_tokens) {
    std::lock_guard const lock{mutex_};
    auto& log = log_of(account, model);
    auto const& limits = log.counts.limits;
    // Threads that took their time before they got here may come out of order; a log counts in one order.
    auto const now = std::max(time_ns, log.latest);
    bool const first = log.counts.arrived++ == 0;
    if (first) log.counts.first_arrival_ns = now;
    log.counts.last_arrival_ns = log.latest = now;

    for (auto* w : {&log.requests_minute, &log.requests_second, &log.tokens_minute, &log.tokens_second}) w->expire(now);
    log.arrivals_minute.add(now, 1, next_id_);
    log.arrivals_second.add(now, 1, next_id_++);

    auto const minute = floor_div(now, minute_ns);
    if (first || minute != log.minute) {
        log.minute = minute;
        log.in_minute = 0;
    }
    if (limits.rpm) {
        auto const rpm = *limits.rpm;
        auto const full = rpm * static_cast<std::uint64_t>(minute_ns);
        if (first) {
            log.credit = full;
        } else if (log.credit_rpm != 0) {
            // Clamped first, so that the product fits: a minute refills everything.
            auto const elapsed = static_cast<std::uint64_t>(std::min(now - log.credit_time, minute_ns));
            log.credit += elapsed * log.credit_rpm;
        }
        log.credit = std::min(log.credit, full);
        log.credit_rpm = rpm;
        log.credit_time = now;
    }

    auto const charge = settings_.tokens == token_mode::reserve ? input + max_tokens : input;

    struct check {
        server_rule rule;
        std::int64_t free_at;
    };
    check const checks[] = {
        {server_rule::rps, !limits.rps                               ? now
                           : *limits.rps == 0                        ? never_ns
                           : log.requests_second.sum() < *limits.rps ? now
                                                                     : log.requests_second.falls_to(*limits.rps - 1)},
        {server_rule::rpm, limits.rpm ? requests_free_at(log, *limits.rpm, now) : now},
        {server_rule::tps, limits.tps ? tokens_free_at(log.tokens_second, *limits.tps, charge, true, now) : now},
        {server_rule::tpm, limits.tpm ? tokens_free_at(log.tokens_minute, *limits.tpm, charge, false, now) : now},
    };

    verdict v;
    v.time_ns = now;
    for (auto const& c : checks) {
        if (c.free_at <= now) continue;
        if (v.rule == server_rule::none) v.rule = c.rule;
        v.retry_at_ns = std::max(v.retry_at_ns, c.free_at);
    }
    // A soft limit: the one request in so many that only TPM is against.
    if (v.rule == server_rule::tpm && limits.tpm_soft > 0 && unit() < limits.tpm_soft) {
        v.rule = server_rule::none;
        v.retry_at_ns = 0;
        ++log.counts.admitted_above_tpm;
    }
    v.admitted = v.rule == server_rule::none;

    if (v.admitted) {
        count_request(log, now);
        auto const id = next_id_++;
        log.tokens_minute.add(now, charge, id);
        log.tokens_second.add(now, charge, id);
        open_.emplace(id, open_call{&log, input, id});
        v.ticket = id;
        ++log.counts.admitted;
        log.counts.input_tokens += input;
        log.counts.peak_in_flight = std::max(log.counts.peak_in_flight, ++log.counts.in_flight);
        v.sums = {log.requests_minute.sum(), log.requests_second.sum(), log.tokens_minute.sum(),
                  log.tokens_second.sum()};
    } else {
        v.sums = {log.requests_minute.sum(), log.requests_second.sum(), log.tokens_minute.sum(),
                  log.tokens_second.sum()};
        v.status = 429;
        bool const of_requests = v.rule == server_rule::rps || v.rule == server_rule::rpm;
        v.code = of_requests ? "Throttling.RateQuota" : "Throttling.AllocationQuota";
        auto& r = log.counts.refused;
        ++(v.rule == server_rule::rps   ? r.rps
           : v.rule == server_rule::rpm ? r.rpm
           : v.rule == server_rule::tps ? r.tps
                                        : r.tpm);
        if (settings_.count_rejected) count_request(log, now);
    }
    return v;
}

bool quota_judge::complete(std::uint64_t ticket, std::int64_t time_ns, std::uint64_t output) {
    std::lock_guard const lock{mutex_};
    auto const at = open_.find(ticket);
    if (at == open_.end()) return false;
    auto const call = at->second;
    open_.erase(at);
    auto& log = *call.log;
    auto const now = std::max(time_ns, log.latest);
    log.latest = now;
    --log.counts.in_flight;
    ++log.counts.completed;
    log.counts.output_tokens += output;
    if (settings_.tokens == token_mode::reserve) {
        log.tokens_minute.lower(call.charge, call.input + output);
        log.tokens_second.lower(call.charge, call.input + output);
    } else if (output != 0) {
        auto const id = next_id_++;
        log.tokens_minute.add(now, output, id);
        log.tokens_second.add(now, output, id);
    }
    return true;
}

void quota_judge::note_delay(std::int64_t ns) {
    std::lock_guard const lock{mutex_};
    delay_.min_ns = delay_.count == 0 ? ns : std::min(delay_.min_ns, ns);
    delay_.max_ns = delay_.count == 0 ? ns : std::max(delay_.max_ns, ns);
    ++delay_.count;
    if (delays_.size() < delays_kept) delays_.push_back(ns);
}

std::uint64_t quota_judge::in_flight(std::string_view account, std::string_view model) const {
    std::lock_guard const lock{mutex_};
    auto const* log = find(account, model);
    return log == nullptr ? 0 : log->counts.in_flight;
}

window_sums quota_judge::sums(std::string_view account, std::string_view model, std::int64_t time_ns) const {
    std::lock_guard const lock{mutex_};
    auto const* log = find(account, model);
    if (log == nullptr) return {};
    return {log->requests_minute.sum_at(time_ns), log->requests_second.sum_at(time_ns),
            log->tokens_minute.sum_at(time_ns), log->tokens_second.sum_at(time_ns)};
}

server_limits quota_judge::limits_of(std::string_view account, std::string_view model) const {
    std::lock_guard const lock{mutex_};
    return effective(std::string{account}, std::string{model});
}

judge_report quota_judge::report() const {
    judge_report out;
    std::vector<std::int64_t> delays;
    {
        std::lock_guard const lock{mutex_};
        out.quotas.reserve(logs_.size());
        for (auto const& [k, log] : logs_) {
            auto q = log.counts;
            q.peak = {log.requests_minute.peak(), log.requests_second.peak(), log.tokens_minute.peak(),
                      log.tokens_second.peak()};
            q.peak_arrivals_minute = log.arrivals_minute.peak();
            q.peak_arrivals_second = log.arrivals_second.peak();
            q.last_event_ns = log.latest;
            out.quotas.push_back(std::move(q));
        }
        out.delay = delay_;
        delays = delays_;
    }
    auto const percentile = [&delays](std::size_t percent) {
        auto const at = delays.begin() + static_cast<std::ptrdiff_t>((delays.size() - 1) * percent / 100);
        std::nth_element(delays.begin(), at, delays.end());
        return *at;
    };
    if (!delays.empty()) {
        out.delay.p50_ns = percentile(50);
        out.delay.p99_ns = percentile(99);
    }
    return out;
}

}  // namespace qwen
