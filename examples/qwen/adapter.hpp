// SPDX-License-Identifier: MIT
//
// weir in a client: a session::call for each call, asked before each send and told after each answer. These lines are
// meant to be copied; the rest of this folder only shows that they keep their promise. A session serves all threads,
// an adapter like this one the thread of its client.
#pragma once

#include <weir/llm/session.hpp>
#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "qwen_client.hpp"

namespace qwen {

template <class Session>
class session_driver final : public call_driver {
public:
    explicit session_driver(Session& session, weir::llm::dialect dialect = weir::llm::dialect::dashscope)
        : session_{session}, dialect_{dialect} {}

    admission admit(chat_call const& c) override {
        auto& mine = calls_.try_emplace(c.id, session_, c).first->second;
        auto& call = mine.call;
        auto const step = call.next();
        switch (step.kind) {
            case weir::llm::step_kind::send:  // its stamp is this instant: nothing slow may come before the send
                mine.to = {call.account().endpoint, std::string(call.key()), std::string(call.model()),
                           call.queue().wait};
                return admission::go(&mine.to);
            case weir::llm::step_kind::wait:
            case weir::llm::step_kind::pause: return admission::not_before(steady(step.until), step.reason);
            case weir::llm::step_kind::over: break;
        }
        auto refusal = admission::impossible(code_of(call.result().status), explain(call.result()),
                                             all_would_fail(call.result(), true));
        refusal.last = std::move(mine.last);
        calls_.erase(c.id);
        return refusal;
    }

    next_step ended(attempt& a) override {
        auto const found = calls_.find(a.id);
        if (found == calls_.end()) return next_step::fail("unknown call");
        auto& call = found->second.call;
        auto const find = [&a](std::string_view name) { return a.header(name); };
        bool const garbled = a.status == 200 && !a.answered();  // it was made, and is lost
        weir::llm::reply reply;
        reply.answer.dialect = dialect_;
        reply.answer.headers = find;
        if (!garbled) reply.answer.body = a.body;
        if (a.status != 0 && !garbled) reply.answer.status = a.status;
        reply.answer.transport_failed = a.status == 0 || garbled;
        if (a.charge == charge::used) reply.used = a.usage;
        if (garbled) reply.used = call.asked();
        reply.sent = a.charge != charge::nothing;
        reply.cancelled = a.cancelled;
        a.bound = call.asked();
        call.ended(reply);
        a.charge = charge_of(call.charged());
        if (!call.over()) {
            if (!a.cancelled) found->second.last = a;
            return next_step::again_at(std::max(a.done, steady(call.pause_until())));
        }
        auto const end = call.result();
        calls_.erase(found);
        if (end.answered()) return next_step::done();
        return next_step::fail(explain(end), all_would_fail(end, a.connected));
    }

private:
    struct flight {
        flight(Session& s, chat_call const& c) : call{s, facts_of(c)} {}
        static typename Session::request facts_of(chat_call const& c) {
            typename Session::request r{.size = c.size};
            if (c.bound.total() != 0) r.bound = c.bound;
            return r;
        }
        typename Session::call call;
        target to;
        std::optional<attempt> last{};  // that failed
    };

    static std::string explain(typename Session::outcome const& o) {
        std::string text(to_string(o.status));
        if (!o.reason.empty()) text += ": " + std::string(o.reason);
        if (o.attempts > 1) text += ", after " + std::to_string(o.attempts) + " attempts";
        return text;
    }
    static std::string code_of(weir::llm::call_end how) {
        return how == weir::llm::call_end::never      ? "exceeds_quota"
               : how == weir::llm::call_end::deadline ? "deadline"
                                                      : "refused";
    }
    static charge charge_of(weir::llm::charged_as c) {
        switch (c) {
            case weir::llm::charged_as::nothing: return charge::nothing;
            case weir::llm::charged_as::request: return charge::request;
            case weir::llm::charged_as::used: return charge::used;
            case weir::llm::charged_as::max_estimate: return charge::bound;
            case weir::llm::charged_as::reserved: break;
        }
        return charge::unknown;
    }
    // Neither the key nor the account nor the model will do, for none of those that there are: no other call need be
    // sent.
    static bool all_would_fail(typename Session::outcome const& o, bool connected) {
        using weir::llm::cause;
        if (o.status == weir::llm::call_end::exhausted && o.last.cause == cause::transport) return !connected;
        return o.status == weir::llm::call_end::refused &&
               (o.last.cause == cause::authentication || o.last.cause == cause::billing ||
                o.last.cause == cause::no_model || o.last.cause == cause::free_quota ||
                o.last.cause == cause::plan_quota);
    }
    // A clock that runs faster than the world tells when its time comes; any other is std::chrono::steady_clock.
    steady_time steady(typename Session::time_point t) const {
        if (t == Session::time_point::min()) return steady_time::min();
        if constexpr (requires { session_.clock().base_time(t); }) {
            return session_.clock().base_time(t);
        } else {
            return t;
        }
    }

    Session& session_;
    weir::llm::dialect dialect_;
    std::unordered_map<call_id, flight> calls_;
};

template <class Session>
session_driver(Session&) -> session_driver<Session>;
template <class Session>
session_driver(Session&, weir::llm::dialect) -> session_driver<Session>;

}  // namespace qwen
