// SPDX-License-Identifier: MIT
//
// What the samples of README.md and docs/ take as given: the functions and values of the reader's own program.
#pragma once

// A sample names what it does not go on to use, and may use a name that the prelude has. Pragmas, since with clang a
// later -Wall undoes an option.
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wreturn-type"

#include <weir/llm.hpp>
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/letter.hpp>
#include <weir/llm/advice/text.hpp>
#include <weir/weir.hpp>

#include <cassert>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace docs {

inline void log(auto&&...) {}
inline void work(auto&&...) {}

/// A server, and the clients of others.
namespace server {
inline std::vector<int> items;
inline weir::permits saved_permits = 3;
inline std::chrono::system_clock::time_point saved_at{};
inline int requested = 100;
inline std::uint64_t prompt_tokens = 100;
inline std::uint64_t max_tokens = 500;
inline void serve(auto&&...) {}
inline void answer_429(auto&&...) {}
inline void run_at(auto&&...) {}
inline void drop(auto&&...) {}
inline void set_header(auto&&...) {}
inline void on_shutdown(auto&&...) {}
inline bool send(auto&&...) { return true; }
inline bool next_request(auto&&...) { return false; }
inline bool half_was_used(auto&&...) { return false; }
inline std::string const path = "/search";
inline weir::llm::tokens call() { return {.input = 90, .output = 200}; }
}  // namespace server

/// The part of Asio that a coroutine needs to wait for a time.
namespace event_loop::asio {
template <class T>
using awaitable = weir::task<T>;
struct use_awaitable_t {};
inline constexpr use_awaitable_t use_awaitable{};
namespace this_coro {
struct executor_t : std::suspend_never {
    int await_resume() const noexcept { return 0; }
};
inline constexpr executor_t executor{};
}  // namespace this_coro
struct steady_timer {
    explicit steady_timer(int) {}
    void expires_at(std::chrono::steady_clock::time_point) {}
    std::suspend_never async_wait(use_awaitable_t) { return {}; }
};
}  // namespace event_loop::asio

/// A client of language models, by way of an HTTP library whose headers are a multimap.
namespace llm {
struct http_response {
    int status = 200;
    std::multimap<std::string, std::string> headers;
    std::string body;
};
struct http_client {
    http_response post(auto&&...) { return {}; }
};
inline http_client http;
inline std::string const base_url = "https://api.example";
inline std::string const key = "secret";
inline std::string const prompt = "Hello";
inline weir::llm::fallback_chain<> models;
inline std::vector<weir::llm::planned_call> const calls(3);
inline auto const send = [](auto& call) { return call.ended(weir::llm::reply{}); };
inline std::string body_for(auto&&...) { return "{}"; }
inline weir::llm::tokens usage_in(auto&&...) { return {.input = 90, .output = 200}; }
}  // namespace llm

}  // namespace docs
