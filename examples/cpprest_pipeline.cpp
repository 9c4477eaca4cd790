// SPDX-License-Identifier: MIT
// weir in a client that knows nothing of it: a stage in the pipeline of cpprestsdk's http_client. The program calls
// client.request(…) as before; each request waits in the session's queue, is sent, judged and sent again, and holds
// no thread while it waits.
#define _TURN_OFF_PLATFORM_STRING
#include <weir/llm/account_pool.hpp>
#include <weir/llm/async_run.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/header_map.hpp>
#include <weir/llm/session.hpp>
#include <weir/wait/task.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cpprest/http_client.h>
#include <cpprest/json.h>
#include <pplx/threadpool.h>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "simulator/simulator.hpp"

using namespace std::chrono_literals;
using web::http::http_request;
using web::http::http_response;
using steady_time = std::chrono::steady_clock::time_point;

// A timer of cpprestsdk's pool of threads, as weir wants one. Its threads take turns, hence the mutex.
class pool_timer {
    struct state {
        boost::asio::steady_timer timer{crossplat::threadpool::shared_instance().service()};
        std::mutex mutex;
        std::optional<weir::timer_callback> callback;
        std::uint64_t round = 0;  // of waits, so that the end of one that is over is known
        bool woken = false;

        void fire(std::uint64_t of) {
            std::unique_lock lock{mutex};
            if (!callback || of != round) return;
            weir::timer_callback const f = *std::exchange(callback, std::nullopt);
            woken = false;
            lock.unlock();
            f();
        }
    };

public:
    void wait_until(steady_time t, weir::timer_callback f) {
        auto const s = state_;  // f may destroy this timer before the call returns
        std::lock_guard const lock{s->mutex};
        s->callback = f;
        s->timer.expires_at(s->woken ? steady_time::min() : t);
        s->timer.async_wait([s, round = ++s->round](boost::system::error_code error) {
            if (!error) s->fire(round);
        });
    }
    void wake() {
        auto const s = state_;
        std::lock_guard const lock{s->mutex};
        s->woken = true;
        if (s->callback) boost::asio::post(s->timer.get_executor(), [s, round = s->round] { s->fire(round); });
    }
    void cancel() {
        std::lock_guard const lock{state_->mutex};
        state_->callback.reset();
        state_->timer.cancel();
    }

private:
    std::shared_ptr<state> state_ = std::make_shared<state>();
};

// pplx's task, awaited.
template <class T>
struct awaited {
    pplx::task<T> task;
    bool await_ready() const { return task.is_done(); }
    void await_suspend(std::coroutine_handle<> h) {
        auto const copy = task;  // h may be resumed, and this be gone, before then() returns
        copy.then([h](pplx::task<T> const&) { h.resume(); });
    }
    T await_resume() { return task.get(); }
};

template <class Session>
class weir_stage final : public web::http::http_pipeline_stage {
public:
    explicit weir_stage(Session& s) : session_{s} {}

    pplx::task<http_response> propagate(http_request request) override {
        auto own = std::make_unique<flight>(flight{answer(std::move(request)), {}});
        auto const result = pplx::create_task(own->done);
        weir::timer_callback const end{[](void* p) {
                                           std::unique_ptr<flight> const f{static_cast<flight*>(p)};
                                           try {
                                               f->done.set(f->task.result());
                                           } catch (...) {
                                               f->done.set_exception(std::current_exception());
                                           }
                                       },
                                       own.get()};
        if (!own.release()->task.start(end)) end();
        return result;
    }

private:
    struct flight {
        weir::task<http_response> task;
        pplx::task_completion_event<http_response> done;
    };

    weir::task<http_response> answer(http_request request) {
        auto const alive = shared_from_this();
        awaited<std::string> reading{request.extract_string(true)};
        std::string const body = co_await reading;
        std::string const type = request.headers().content_type();
        std::optional<http_response> last;
        pool_timer timer;
        auto const send = [&](typename Session::call& call) -> weir::task<weir::llm::ended_attempt> {
            request.headers()["Authorization"] = "Bearer " + std::string{call.key()};
            request.set_body(body, type);
            last.reset();
            try {
                awaited<http_response> sending{next_stage()->propagate(request)};
                http_response response = co_await sending;
                call.on_response();
                awaited<std::string> text{response.extract_string(true)};
                std::string const said = co_await text;
                weir::llm::header_map const fields{response.headers()};
                weir::llm::reply reply;
                reply.answer.dialect = weir::llm::dialect::dashscope;
                reply.answer.status = response.status_code();
                reply.answer.headers = fields;
                reply.answer.body = said;
                if (response.status_code() == 200) reply.used = usage_in(said);
                response.set_body(said, response.headers().content_type());  // for the program to read
                last = response;
                co_return call.ended(reply);
            } catch (web::http::http_exception const&) {
                co_return call.transport_failed();
            }
        };
        auto run = weir::llm::async_run(session_, {.size = weir::llm::measure(body), .max_tokens = 20}, send, timer);
        auto const end = co_await run;
        if (!last) throw web::http::http_exception{std::string{to_string(end.status)} + ": " + std::string{end.reason}};
        co_return *last;
    }

    static std::optional<weir::llm::tokens> usage_in(std::string const& body) {
        std::error_code error;
        auto const json = web::json::value::parse(body, error);
        if (error || !json.has_object_field("usage")) return std::nullopt;
        auto const& usage = json.at("usage");
        return weir::llm::tokens{.input = usage.at("prompt_tokens").as_number().to_uint64(),
                                 .output = usage.at("completion_tokens").as_number().to_uint64()};
    }

    Session& session_;
};

int main() {
    constexpr int requests = 25;
    qwen::simulator_settings settings;
    settings.latency = {.first_token_s = 0.05, .tokens_per_s = 1000};
    settings.faults = {{qwen::failure::internal_error, 0.1}};
    qwen::dashscope_simulator server{settings};
    server.start();

    weir::llm::account_pool accounts;
    accounts.add({server.base_url(), "main", "intl", "qwen3-max"}, "sk-simulator",
                 {.rpm = 600, .rps = 10, .tpm = 1'000'000}, {.jitter = 100ms});
    weir::llm::fallback_chain models;
    models.add("qwen3-max", accounts);
    weir::llm::session session{models, {.retry = {.base = 200ms}}};

    // The program's own: nothing but the stage is new in it.
    web::http::client::http_client client{server.base_url()};
    client.add_handler(std::make_shared<weir_stage<decltype(session)>>(session));
    std::vector<pplx::task<bool>> answers;
    for (int i = 0; i < requests; ++i) {
        web::json::value body;
        body["model"] = web::json::value::string("qwen3-max");
        body["max_tokens"] = 20;
        body["messages"][0]["role"] = web::json::value::string("user");
        body["messages"][0]["content"] = web::json::value::string("Question " + std::to_string(i));
        answers.push_back(client.request(web::http::methods::POST, "/chat/completions", body)
                              .then([](http_response r) {
                                  return r.status_code() == 200 ? r.extract_json()
                                                                : pplx::task_from_result(web::json::value{});
                              })
                              .then([](web::json::value const& json) { return json.has_array_field("choices"); }));
    }
    int answered = 0;
    for (auto& a : answers) {
        try {
            answered += a.get() ? 1 : 0;
        } catch (std::exception const& e) {
            std::printf("%s\n", e.what());
        }
    }
    auto const report = server.report();
    auto const& n = session.counters();
    std::printf("%d of %d answered; %llu sent again after a failure, %llu waited for a limit, %llu times 429\n",
                answered, requests, static_cast<unsigned long long>(n[weir::llm::counted_event::retries]),
                static_cast<unsigned long long>(n[weir::llm::counted_event::waits]),
                static_cast<unsigned long long>(report.answered(429)));
    return answered == requests && report.answered(200) == requests && n[weir::llm::counted_event::waits] != 0 ? 0 : 1;
}
