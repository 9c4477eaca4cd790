// SPDX-License-Identifier: MIT
#include "admission_control.hpp"

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cmath>
#include <string_view>

#include "http_server.hpp"

namespace qwen::simulated {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t queue_turn_ns = 20'000'000;  // real time between two looks at the queue, at most

// The injected failure, if it is one of these.
template <class... Failures>
std::optional<problem> injected_of(std::optional<failure> injected, Failures... these) {
    if (((injected == these) || ...)) return problem{*injected};
    return std::nullopt;
}

}  // namespace

std::optional<std::string> account_of(httplib::Request const& q, server_state const& state) {
    auto const value = q.get_header_value("Authorization");
    constexpr std::string_view scheme = "Bearer ";
    if (value.compare(0, scheme.size(), scheme) != 0) return std::nullopt;
    return state.account_of(std::string_view{value}.substr(scheme.size()));
}

std::optional<problem> admission_control::admit(httplib::Request const& q, completion_call& c) {
    auto const account = account_of(q, state_);
    if (!account) return problem{failure::invalid_api_key};
    c.record.account = *account;

    auto const body = nlohmann::json::parse(q.body, nullptr, false);
    if (!body.is_object()) return problem{failure::invalid_body};

    auto const name = model_in(body);
    if (name.empty()) return problem{failure::invalid_parameter, "you must provide a model parameter"};
    auto const model = state_.model(name);
    if (model == nullptr) {
        return problem{failure::model_not_found,
                       c.speaks == dialect::native
                           ? std::string{}
                           : "The model `" + name + "` does not exist or you do not have access to it."};
    }
    c.record.model = name;

    c.wants = read_request(body, c.speaks, *model);
    c.stream = c.wants.stream || (c.speaks == dialect::native && q.get_header_value("X-DashScope-SSE") == "enable");
    auto const injected = draw_fault(c.wants, c.rng);
    c.drawn = draw_mishap(c);
    if (c.drawn == mishap::dropped_before) return std::nullopt;

    using enum failure;
    if (auto p = injected_of(injected, body_too_large, invalid_api_key, invalid_body, model_not_found, invalid_url))
        return p;
    if (auto p = check_account(c, injected)) return p;
    if (auto p = check_parameters(c, *model, injected)) return p;
    if (auto const f = state_.outage(name, clock_.true_ns(c.arrival_real))) return problem{*f};
    if (auto p = injected_of(injected, serving_error, model_unavailable, route_throttling, concurrency, burst_rate,
                             rate_quota, allocation_quota, batch_throttling))
        return p;
    c.fails = injected == internal_error;

    if (!enter(c)) return problem{concurrency};
    c.inside = true;
    if (auto p = pass_burst(q, c)) return p;
    return pass_quota(q, c);
}

// The account: whether it may use the model, its plan, and its free tokens.
std::optional<problem> admission_control::check_account(completion_call const& c,
                                                        std::optional<failure> injected) const {
    using enum failure;
    auto const& record = c.record;
    if (auto const f = state_.account_trouble(record.account)) return problem{*f};
    if (auto p =
            injected_of(injected, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue, postpaid_overdue))
        return p;
    if (auto const e = state_.plan_trouble(record.account, record.arrival_ns)) return plan_problem(*e, record);
    if (auto const f = state_.free_quota_trouble(record.account, record.model)) return problem{*f};
    return injected_of(injected, free_tier_only, free_quota_exceeded, plan_quota, plan_usage);
}

// The parameters, the length of the input, and its content.
std::optional<problem> admission_control::check_parameters(completion_call& c, model_settings const& model,
                                                           std::optional<failure> injected) const {
    using enum failure;
    auto const& wants = c.wants;
    if (!wants.fault.empty()) return problem{invalid_parameter, wants.fault};
    if (injected == invalid_parameter) return problem{invalid_parameter};
    c.planned = plan(settings_, model, wants);
    if (c.planned.input > model.max_input) {
        return problem{invalid_parameter,
                       "Range of input length should be [1, " + std::to_string(model.max_input) + "]"};
    }
    c.record.input = c.planned.input;
    c.record.max_tokens = c.planned.max_tokens;
    bool const inspected =
        !settings_.inspected_word.empty() && wants.prompt.find(settings_.inspected_word) != std::string::npos;
    if (inspected || injected == data_inspection) return problem{data_inspection};
    return std::nullopt;
}

problem admission_control::plan_problem(qwen::plan_quota::exhausted const& e, request_record const& record) const {
    auto const seconds = (e.reset_ns - record.arrival_ns + second_ns - 1) / second_ns;
    auto const reset_ms = clock_.epoch_ms(record.arrival_ns) + (e.reset_ns - record.arrival_ns) / 1'000'000;
    return {failure::plan_quota, plan_message(e.period, (reset_ms + 999) / 1'000), seconds};
}

// Burst protection, and its queue.
std::optional<problem> admission_control::pass_burst(httplib::Request const& q, completion_call& c) {
    if (!settings_.burst.on) return std::nullopt;
    auto& record = c.record;
    auto const wait = wait_timeout_s(q.get_header_value("X-DashScope-Wait-Timeout")) * second_ns;
    auto o = burst_.arrive(record.account, record.model, record.arrival_ns, wait);
    while (o.is == burst_guard::answer::waits) {
        // The queue moves when those ahead go, without a notice: hence not too long at once.
        auto const real = monotonic_ns();
        auto const due = burst_.look_again_at(o.ticket, clock_.shown_ns(real)) - clock_.stepped_ns();
        auto const soon = clock_.true_ns(real) + queue_turn_ns * settings_.speed;
        if (auto const why = clock_.wait_until(std::min(due, soon), wait_reason::queue); why != mishap::none) {
            burst_.leave(o.ticket);
            record.befell = why;
            return problem{failure::burst_rate};
        }
        auto const now = clock_.shown_ns();
        o.is = burst_.look(o.ticket, now);
        record.queued_ns = std::max<std::int64_t>(0, now - record.arrival_ns);
    }
    return o.is == burst_guard::answer::refused ? std::optional{problem{failure::burst_rate}} : std::nullopt;
}

std::optional<problem> admission_control::pass_quota(httplib::Request const& q, completion_call& c) {
    auto& record = c.record;
    auto const asked_at = record.arrival_ns + record.queued_ns;
    auto const v = judge_.arrive(record.account, record.model, asked_at, record.input, record.max_tokens);
    record.rule = v.rule;
    record.sums = v.sums;
    note_stamp(q, c, (v.time_ns - asked_at) / settings_.speed);
    record.arrival_ns = v.time_ns - record.queued_ns;
    if (!v.admitted) {
        bool const requests = v.rule == server_rule::rps || v.rule == server_rule::rpm;
        problem p{requests ? failure::rate_quota : failure::allocation_quota};
        if (settings_.retry_after && v.retry_at_ns != never_ns)
            p.retry_after_s = (v.retry_at_ns - v.time_ns + second_ns - 1) / second_ns;
        return p;
    }
    c.ticket = v.ticket;
    plan_times(c);
    return std::nullopt;
}

// When the call begins, and when its tokens come: later near capacity.
void admission_control::plan_times(completion_call& c) {
    c.began_ns = c.record.queued_ns == 0 ? clock_.true_ns(c.arrival_real) : clock_.true_ns();
    auto const in_flight = ++in_flight_;
    auto slower = 1.0;
    if (settings_.latency.capacity && *settings_.latency.capacity != 0) {
        auto const load =
            std::min(0.9, static_cast<double>(in_flight) / static_cast<double>(*settings_.latency.capacity));
        slower = 1 / (1 - load);
    }
    c.first_ns = std::llround(static_cast<double>(c.planned.first_token_ns) * slower);
    c.last_ns = std::llround(static_cast<double>(c.planned.latency_ns) * slower);
}

// What failed before a token was made costs no free tokens and no credits.
void admission_control::complete(completion_call& c, std::uint64_t output) {
    if (c.ticket == 0) return;
    auto const now = clock_.shown_ns();
    c.record.output = output;
    judge_.complete(std::exchange(c.ticket, 0), now, output);
    --in_flight_;
    bool const fails = c.fails || c.record.befell == mishap::soft_failure ||
                       (output == 0 && c.record.befell == mishap::server_stopped);
    if (!fails) state_.spent(c.record.account, c.record.model, c.planned.input + output, now);
}

std::optional<failure> admission_control::draw_fault(asked const& a, chance& rng) const {
    if (auto const told = failure_named(a.simulate_error)) return told;
    for (auto const& f : settings_.faults)
        if (rng.unit() < f.rate) return f.what;
    return std::nullopt;
}

mishap admission_control::draw_mishap(completion_call& c) {
    if (auto const told = mishap_named(c.wants.simulate_mishap)) return *told;
    mishap_rates rates;
    {
        std::lock_guard const lock{mutex_};
        rates = mishaps_;
    }
    return draw(rates, c.stream, c.rng);
}

void admission_control::set_mishaps(mishap_rates m) {
    check(m);
    std::lock_guard const lock{mutex_};
    mishaps_ = m;
}

bool admission_control::enter(completion_call const& c) {
    if (!settings_.max_in_flight) return true;
    std::lock_guard const lock{mutex_};
    auto& n = inside_[{c.record.account, c.record.model}];
    return n < *settings_.max_in_flight && ++n != 0;
}

void admission_control::leave(completion_call& c) {
    if (!std::exchange(c.inside, false) || !settings_.max_in_flight) return;
    std::lock_guard const lock{mutex_};
    --inside_[{c.record.account, c.record.model}];
}

// The delay between the client's stamp and the time at which the judge counts the request.
void admission_control::note_stamp(httplib::Request const& q, completion_call& c, std::int64_t counted_later_ns) {
    constexpr std::int64_t hour = 3'600 * second_ns;
    auto const text = q.get_header_value("X-Weir-Stamp");
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) return;
    auto const delay = c.arrival_real - std::stoll(text) + counted_later_ns;
    if (delay > hour || delay < -hour) return;  // of some other clock
    c.record.delay_ns = delay;
    judge_.note_delay(delay);
}

}  // namespace qwen::simulated
