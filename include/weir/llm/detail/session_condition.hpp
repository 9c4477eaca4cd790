// SPDX-License-Identifier: MIT
//
// session::call::condition: what an account must grant to a call in addition to its limits; and what the end of an
// attempt changes for other calls. Part of session.hpp.
#pragma once

#include <chrono>
#include <cstddef>

#include "../../clock/clock.hpp"
#include "../limit_kind.hpp"
#include "../session.hpp"
#include "../verdict.hpp"
#include "account_throttle.hpp"
#include "probation.hpp"
#include "session_call.hpp"

namespace weir::inline v0::llm {

// What each member must grant in addition to its limits, for this call.
template <class Pool, std::size_t Classes>
struct session<Pool, Classes>::call::condition {
    call& c;
    limit_kind by = limit_kind::none;

    time_point ready(std::size_t link, std::size_t member, time_point t) {
        if (c.ruled_out_.contains(link)) {
            by = limit_kind::model_limit;
            return (time_point::max)();
        }
        c.any_available_ = true;
        if (t < c.avoid_until_ && c.avoided_.contains(c.session_.account(link, member))) {
            by = limit_kind::backoff;
            return c.avoid_until_;
        }
        by = limit_kind::model_cooldown;
        if (auto const at = c.session_.model_probation(link).ready(t); at > t) return at;
        by = limit_kind::cooldown;
        if (auto const at = c.session_.probation(link, member).ready(t); at > t) return at;
        return c.session_.throttle(link, member).ready(c.asked_, t, by);
    }
    bool take(std::size_t link, std::size_t member, time_point t) {
        auto& throttle = c.session_.throttle(link, member);
        if (!throttle.take(c.ticket_, c.asked_, t, by)) return false;
        if (enter(link, member, t)) return true;
        throttle.give_back(c.ticket_);
        return false;
    }
    // After a cooldown: is the probe, or passes where there is no need for one.
    bool enter(std::size_t link, std::size_t member, time_point t) {
        time_point const give_up = after(t, c.session_.options_.timeout);
        by = limit_kind::model_cooldown;
        if (!c.session_.model_probation(link).enter(c.model_probe_, t, give_up)) return false;
        by = limit_kind::cooldown;
        if (c.session_.probation(link, member).enter(c.account_probe_, t, give_up)) return true;
        c.session_.model_probation(link).leave(c.model_probe_);
        return false;
    }
    limit_kind denied_by() const noexcept { return by; }
};

// Tells the chain, and begins what follows a cooldown. What the server asks to wait for holds for all calls.
template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::report(verdict const& v, time_point now, std::chrono::sys_seconds wall) {
    session_.chain_.report(choice_, v, now, wall);
    if (v.action == action::retry && v.wait && *v.wait > v.wait->zero()) {
        pool().begin_cooldown(member(), after(now, *v.wait));
    }
    if (shows_it_is_up(v)) return;
    if (session_.chain_.cooldown_until(link()) > now) session_.model_probation(link()).begin();
    if (pool().cooldown_until(member()) > now) session_.probation(link(), member()).begin();
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::end_probe(verdict const& v, bool sent) noexcept {
    auto& model = session_.model_probation(link());
    auto& account = session_.probation(link(), member());
    if (sent && shows_it_is_up(v)) {
        model.pass(model_probe_);
        account.pass(account_probe_);
    } else {
        model.leave(model_probe_);
        account.leave(account_probe_);
    }
}

}  // namespace weir::inline v0::llm
