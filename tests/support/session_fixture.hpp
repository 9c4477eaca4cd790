// SPDX-License-Identifier: MIT
//
// What the tests of llm::session have in common: replies of servers, and a session by a manual_clock.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manual_session.hpp"

// Each test program of sessions is made of several files, in which these names mean the same.
namespace session_fixture {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::manual_clock;
using weir::llm::tokens;
using time_point = manual_clock::time_point;
using pool = account_pool<manual_clock&>;
using chain = fallback_chain<pool>;
using session_type = session<pool>;
using call = session_type::call;
using request = session_type::request;
using outcome = session_type::outcome;

// ---- what servers say ----

struct fields {
    std::string retry_after{};
    std::optional<std::string_view> operator()(std::string_view name) const {
        if (name == "retry-after" && !retry_after.empty()) return retry_after;
        return std::nullopt;
    }
};
inline fields const no_fields{};

inline constexpr std::chrono::sys_seconds today{std::chrono::sys_days{std::chrono::year{2026} / 3 / 1}};

inline constexpr auto not_sent = [](auto& c) {
    ADD_FAILURE() << "sent";
    return c.lost();
};

inline reply says(int status, std::string_view code = {}, std::string_view message = {}, fields const& f = no_fields) {
    reply r;
    r.answer.dialect = dialect::dashscope;
    r.answer.status = status;
    r.answer.code = code;
    r.answer.message = message;
    r.answer.headers = f;
    r.answer.now = today;
    return r;
}
inline reply answered(std::optional<tokens> used = std::nullopt) {
    reply r = says(200);
    r.used = used;
    return r;
}
inline reply throttled() { return says(429, "Throttling.RateQuota"); }
inline reply overloaded() { return says(503, "ModelUnavailable"); }
inline reply failed() { return says(500, "InternalError"); }
inline reply bad_key() { return says(401, "InvalidApiKey"); }
inline reply in_arrears() { return says(400, "Arrearage"); }
inline reply no_answer() {
    reply r;
    r.answer.transport_failed = true;
    r.answer.now = today;
    return r;
}
inline reply unsent() {
    reply r = no_answer();
    r.sent = false;
    return r;
}
inline reply of_another(dialect d, reply r) {
    r.answer.dialect = d;
    return r;
}
// After a part of the answer was handed on.
inline reply broken_off(reply r) {
    r.delivered = true;
    return r;
}
inline reply cancelled() {
    reply r;
    r.cancelled = true;
    return r;
}

// Waits of exactly 1, 2, 4, 8 s, five attempts.
inline constexpr weir::backoff plain{
    .base = 1s, .cap = 60s, .attempts = 5, .budget = 10min, .jitter = weir::jitter::none};

struct llm_session : testing::Test {
    // A model with accounts that have a quota each.
    pool& model(std::string const& name, std::size_t accounts, weir::llm::quota q, weir::llm::quota_options o = {}) {
        pools.emplace_back();
        for (std::size_t i = 0; i < accounts; ++i) {
            pools.back().add({"e", std::string(1, static_cast<char>('a' + i)), "r", name},
                             "key " + std::string(1, static_cast<char>('a' + i)), q, o, 0, clock);
        }
        models.add(name, pools.back());
        return pools.back();
    }
    session_type& open(session_options o = {.retry = plain}) { return s.emplace(models, o, clock); }

    // Lets the call go, or fails.
    bool sends(call& c) {
        auto const step = c.next();
        EXPECT_EQ(step.kind, step_kind::send) << step.reason << " until " << step.until.time_since_epoch().count();
        return step.kind == step_kind::send;
    }
    // Drives a call to its end against `server`, in time, and counts the sends.
    outcome drive(call& c, std::function<reply(call&)> const& server, int most = 1000) {
        while (most-- > 0) {
            auto const step = c.next();
            switch (step.kind) {
                case step_kind::send:
                    sent.emplace_back(clock.now(), std::string{c.model()} + "/" + c.account().account);
                    c.ended(server(c));
                    break;
                case step_kind::wait:
                case step_kind::pause:
                    EXPECT_GT(step.until, clock.now());
                    if (step.until == time_point::max()) {
                        ADD_FAILURE() << "waits without end because of " << step.reason;
                        return c.result();
                    }
                    clock.advance_to(step.until);
                    break;
                case step_kind::over: return c.result();
            }
        }
        ADD_FAILURE() << "never ends";
        return c.result();
    }
    outcome drive(request const& r, std::function<reply(call&)> const& server) {
        call c{*s, r};
        return drive(c, server);
    }
    std::uint64_t count(counted_event e) const { return s->counters()[e]; }
    weir::llm::quota_limiter<manual_clock&>::remaining left(std::size_t link = 0, std::size_t member = 0) {
        return pools_at(link).limits(member).available(clock.now());
    }
    pool& pools_at(std::size_t link) { return models.pool(link); }
    std::vector<std::string> sent_to() const {
        std::vector<std::string> names;
        for (auto const& [t, account] : sent) names.push_back(account);
        return names;
    }

    manual_clock clock{time_point{1000s}};
    std::list<pool> pools;
    chain models;
    std::optional<session_type> s;
    std::vector<std::pair<time_point, std::string>> sent;
};

inline constexpr weir::llm::quota wide{.rpm = 100'000, .tpm = 10'000'000};

}  // namespace session_fixture
