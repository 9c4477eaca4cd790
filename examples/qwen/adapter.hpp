// SPDX-License-Identifier: MIT
//
// weir in a client: estimate, ask, send at once, settle at what was used. These lines are meant to be copied; the rest of this
// folder only shows that they keep their promise. A limiter serves all threads, an adapter like this one the thread of its client.
#pragma once

#include <weir/quota_limiter.hpp>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "qwen_client.hpp"

namespace qwen {

template <class Limiter>
class weir_adapter final : public limiter_adapter {
public:
    explicit weir_adapter(Limiter& limiter) : limiter_{limiter} {}

    admission admit(call_id call, weir::tokens bound) override {
        auto decision = limiter_.try_acquire(bound);  // one request, and the tokens that it may use at most
        if (decision.granted()) {
            receipts_.insert_or_assign(call, std::move(decision));
            return admission::go();  // the limiter's stamp is this instant: nothing slow may come before the send
        }
        if (decision.never()) return admission::impossible(to_string(decision.denied_by()));
        return admission::not_before(steady(decision.retry_at()), to_string(decision.denied_by()));
    }

    void ended(attempt const& a) override {
        auto const found = receipts_.find(a.id);
        if (found == receipts_.end()) return;
        auto& receipt = found->second;
        switch (a.charge) {
            case charge::nothing:
                limiter_.refund(receipt);
                break;
            case charge::request:
                limiter_.settle(receipt, weir::tokens{0, 0});
                break;
            case charge::used:
                limiter_.settle(receipt, a.usage);
                break;
            case charge::bound:
                limiter_.settle(receipt, a.bound);
                break;
            case charge::unknown:
                break;  // held until the server has certainly given up: the limiter knows when
        }
        receipts_.erase(found);
    }

private:
    // A clock that runs faster than the world tells when its time comes; any other is std::chrono::steady_clock.
    steady_time steady(typename Limiter::time_point t) const {
        if constexpr (requires { limiter_.clock().base_time(t); }) {
            return limiter_.clock().base_time(t);
        } else {
            return t;
        }
    }

    Limiter& limiter_;
    std::unordered_map<call_id, typename Limiter::decision> receipts_;
};

template <class Limiter>
weir_adapter(Limiter&) -> weir_adapter<Limiter>;

}  // namespace qwen
