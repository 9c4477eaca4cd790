// SPDX-License-Identifier: MIT
//
// Stop tokens: what can end a wait. std::stop_token, or a type of the program's own.
#pragma once

#include <concepts>
#include <utility>
#include <version>

#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

#include "../clock/clock.hpp"
#include "../detail/blocking.hpp"
#include "../detail/parker.hpp"

namespace weir::inline v0 {

/// Something that can ask for a wait to end: std::stop_token, or any type with stop_requested() for which
/// stop_callback_for names a callback type. That type is constructed from (token, f). It calls f once when the stop
/// is requested, on any thread, or in its constructor where the stop was requested before; its destructor waits for
/// a call that runs on another thread.
template <class T>
concept stoppable_token = requires(T const& t) {
    { t.stop_requested() } -> std::convertible_to<bool>;
};

/// The callback type of a token: Token::callback_type<F>, unless specialised.
template <class Token, class F>
struct stop_callback_for {
    using type = typename Token::template callback_type<F>;
};

#if defined(__cpp_lib_jthread)
template <class F>
struct stop_callback_for<std::stop_token, F> {
    using type = std::stop_callback<F>;
};
#endif

/// The token of a wait that nothing stops.
struct never_stop {
    static constexpr bool stop_requested() noexcept { return false; }
    template <class F>
    struct callback_type {
        constexpr callback_type(never_stop, F) noexcept {}
    };
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// What a stop, or a waiter's turn, does to a thread that sleeps.
struct notify_parker {
    parker* to;
    void operator()() const { to->notify(); }
};

template <class Clock, class Token>
class stoppable_sleeper {
public:
    stoppable_sleeper(Clock const& c, Token stop)
        : clock_{c}, stop_{std::move(stop)}, on_stop_{stop_, notify_parker{&parker_}} {}
    stoppable_sleeper(stoppable_sleeper const&) = delete;
    stoppable_sleeper& operator=(stoppable_sleeper const&) = delete;

    bool sleep_until(typename Clock::time_point t) {
        // The parker is notified by the stop alone, and keeps a notification that comes before the sleep.
        return stop_.stop_requested() || weir::wait_until(clock_, parker_, t);
    }

private:
    Clock const& clock_;
    Token stop_;
    parker parker_;
    typename stop_callback_for<Token, notify_parker>::type on_stop_;
};

}  // namespace weir::inline v0::detail
