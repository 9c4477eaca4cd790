// SPDX-License-Identifier: MIT
#include "../../examples/qwen/qwen_client.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../examples/qwen/plain_driver.hpp"

namespace client_test {

using namespace std::chrono_literals;
using qwen::charge;
using std::chrono::steady_clock;

// A server that does what a test says, byte by byte: an answer, or none and the end of the connection.
class scripted_server {
public:
    struct request {
        std::string head, body;
        std::size_t connection = 0;
        [[nodiscard]] bool is_call() const { return head.starts_with("POST"); }
    };
    // Returns the whole answer; nothing: close without one.
    using script = std::function<std::optional<std::string>(request const&)>;

    explicit scripted_server(script s) : script_{std::move(s)} {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_, 256) != 0)
            throw std::runtime_error("no port");
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread{[this] { accept_all(); }};
    }
    ~scripted_server() {
        ::shutdown(listener_, SHUT_RDWR);
        acceptor_.join();
        {
            std::lock_guard const lock{mutex_};
            for (int const s : open_) ::shutdown(s, SHUT_RDWR);
        }
        for (auto& t : threads_) t.join();
        ::close(listener_);
    }
    scripted_server(scripted_server const&) = delete;
    scripted_server& operator=(scripted_server const&) = delete;

    [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
    [[nodiscard]] std::size_t connections() const { return connections_; }
    // Calls, in the order of arrival.
    [[nodiscard]] std::vector<request> calls() {
        std::lock_guard const lock{mutex_};
        return calls_;
    }

private:
    void accept_all() {
        for (;;) {
            int const s = ::accept(listener_, nullptr, nullptr);
            if (s < 0) return;
            int const on = 1;
            ::setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            auto const number = ++connections_;
            std::lock_guard const lock{mutex_};
            open_.insert(s);
            threads_.emplace_back([this, s, number] { serve(s, number); });
        }
    }

    void serve(int s, std::size_t number) {
        std::string buffer;
        auto const more = [&] {
            char part[4096];
            auto const n = ::recv(s, part, sizeof part, 0);
            if (n > 0) buffer.append(part, static_cast<std::size_t>(n));
            return n > 0;
        };
        for (bool alive = true; alive;) {
            std::size_t end = 0;
            while (alive && (end = buffer.find("\r\n\r\n")) == std::string::npos) alive = more();
            if (!alive) break;
            request r{buffer.substr(0, end + 2), {}, number};
            buffer.erase(0, end + 4);
            if (auto const at = r.head.find("Content-Length: "); at != std::string::npos) {
                auto const length = std::stoul(r.head.substr(at + 16));
                while (alive && buffer.size() < length) alive = more();
                if (!alive) break;
                r.body = buffer.substr(0, length);
                buffer.erase(0, length);
            }
            if (r.is_call()) {
                std::lock_guard const lock{mutex_};
                calls_.push_back(r);
            }
            auto const answer = script_(r);
            if (!answer) break;
            for (std::size_t done = 0; done < answer->size();) {
                auto const n = ::send(s, answer->data() + done, answer->size() - done, MSG_NOSIGNAL);
                if (n <= 0) break;
                done += static_cast<std::size_t>(n);
            }
            if (answer->find("Connection: close") != std::string::npos) break;
        }
        std::lock_guard const lock{mutex_};
        open_.erase(s);
        ::close(s);
    }

    script script_;
    int listener_ = -1;
    int port_ = 0;
    std::atomic<std::size_t> connections_{0};
    std::mutex mutex_;
    std::set<int> open_;
    std::vector<request> calls_;
    std::list<std::thread> threads_;
    std::thread acceptor_;
};

std::string answer(int status, std::string const& body, std::string const& headers = "") {
    return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: application/json\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string models() { return answer(200, R"({"data":[]})"); }
std::string completion(int input, int output) {
    return answer(200,
                  R"({"choices":[],"usage":{"prompt_tokens":)" + std::to_string(input) + R"(,"completion_tokens":)" +
                      std::to_string(output) + "}}",
                  "X-Request-Id: r-9\r\n");
}
std::string rate_limited() {
    return answer(
        429, R"({"error":{"message":"Requests rate limit exceeded, please try again later.","type":"limit_requests",)"
             R"("code":"limit_requests"}})");
}

// Grants what its rule grants; keeps what it was told.
class recording_driver final : public qwen::plain_driver {
public:
    using plain_driver::plain_driver;
    qwen::admission admit(qwen::chat_call const& c) override {
        asked.push_back(c.id);
        return rule ? rule(c.id) : qwen::admission::go();
    }
    qwen::next_step ended(qwen::attempt& a) override {
        over.push_back(a);
        return plain_driver::ended(a);
    }

    std::function<qwen::admission(qwen::call_id)> rule;
    std::vector<qwen::call_id> asked;
    std::vector<qwen::attempt> over;
};

class recording_observer final : public qwen::call_observer {
public:
    void about_to_send(qwen::chat_call const& c, std::uint32_t) override { announced.push_back(c.id); }
    void sent(qwen::chat_call const& c, std::uint32_t, qwen::steady_time) override {
        stamped.push_back(c.id);
        if (on_sent) on_sent();
    }
    void answered(qwen::attempt const& a) override {
        good.push_back(a);
        if (on_answer) on_answer(a);
    }
    void failed(qwen::attempt const& a) override { bad.push_back(a); }

    std::vector<qwen::call_id> announced, stamped;
    std::vector<qwen::attempt> good, bad;
    std::function<void()> on_sent;
    std::function<void(qwen::attempt const&)> on_answer;
};

struct fixture {
    explicit fixture(std::string const& url) { options.base_url = url; }
    qwen::qwen_client& client() {
        if (!made) made.emplace(options, driver, observer);
        return *made;
    }
    void submit(qwen::call_id id, std::string body = "{}") {
        client().submit({id, std::move(body), {.input = 10, .output = 20}});
    }

    qwen::client_options options = [] {
        qwen::client_options o;
        o.key = "sk-test";
        o.spare_connections = 2;
        return o;
    }();
    recording_driver driver{weir::backoff{.base = 1ms, .cap = 2ms, .attempts = 3, .jitter = weir::jitter::none}, 1,
                            1ms};
    recording_observer observer;
    std::optional<qwen::qwen_client> made;
};

TEST(qwen_client, sends_what_it_is_given_and_reads_the_usage) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(7, 3) : models(); });
    fixture f(server.url());
    f.submit(1, "{\"model\":\"m\"}");
    f.client().run();
    ASSERT_EQ(f.observer.good.size(), 1U);
    auto const& a = f.observer.good[0];
    EXPECT_EQ(a.status, 200);
    EXPECT_EQ(a.charge, charge::used);
    EXPECT_EQ(a.usage.input, 7U);
    EXPECT_EQ(a.usage.output, 3U);
    EXPECT_EQ(a.request_id, "r-9");
    EXPECT_LE(a.stamp, a.done);
    auto const calls = server.calls();
    ASSERT_EQ(calls.size(), 1U);
    EXPECT_TRUE(calls[0].head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    EXPECT_NE(calls[0].head.find("Authorization: Bearer sk-test\r\n"), std::string::npos);
    EXPECT_NE(calls[0].head.find("Content-Type: application/json\r\n"), std::string::npos);
    EXPECT_EQ(calls[0].head.find("X-Weir-Stamp"), std::string::npos) << "only a server on this machine can use it";
    EXPECT_EQ(calls[0].head.find("Expect:"), std::string::npos);
    EXPECT_EQ(calls[0].body, "{\"model\":\"m\"}");
}

TEST(qwen_client, sends_large_bodies_whole) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    std::string const body(3'000'000, 'x');
    f.submit(1, body);
    f.submit(2, body);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 2U);
    for (auto const& c : server.calls()) EXPECT_TRUE(c.body == body);
}

TEST(qwen_client, states_the_stamp_when_told_to) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    f.options.send_stamps = true;
    f.submit(1);
    f.client().run();
    ASSERT_EQ(f.observer.good.size(), 1U);
    auto const stated = "X-Weir-Stamp: " + std::to_string(f.observer.good[0].stamp.time_since_epoch() / 1ns) + "\r\n";
    EXPECT_NE(server.calls().at(0).head.find(stated), std::string::npos);
}

TEST(qwen_client, asks_in_the_order_of_submission_and_keeps_the_line_behind_the_first) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    for (qwen::call_id id = 1; id <= 20; ++id) f.submit(id);
    std::map<qwen::call_id, int> times;
    f.driver.rule = [&](qwen::call_id id) {
        // Every third call is denied twice.
        return id % 3 == 0 && times[id]++ < 2 ? qwen::admission::not_before(steady_clock::now() + 1ms, "requests")
                                              : qwen::admission::go();
    };
    f.client().run();
    EXPECT_TRUE(std::is_sorted(f.driver.asked.begin(), f.driver.asked.end()));
    EXPECT_TRUE(std::is_sorted(f.observer.stamped.begin(), f.observer.stamped.end()));
    EXPECT_EQ(f.observer.stamped.size(), 20U);
    EXPECT_EQ(f.observer.announced.size(), 20U) << "once for each attempt, not for each time it asks";
    EXPECT_EQ(f.driver.asked.size(), 20U + 12U);
}

TEST(qwen_client, does_not_send_before_the_time_that_the_limiter_named) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    auto const opens = steady_clock::now() + 30ms;
    f.driver.rule = [&](qwen::call_id) {
        return steady_clock::now() < opens ? qwen::admission::not_before(opens, "x") : qwen::admission::go();
    };
    f.submit(1);
    f.client().run();
    ASSERT_EQ(f.observer.good.size(), 1U);
    EXPECT_GE(f.observer.good[0].stamp, opens);
}

TEST(qwen_client, asks_again_when_something_in_flight_has_ended) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    f.driver.rule = [&](qwen::call_id id) {
        return id == 2 && f.driver.over.empty() ? qwen::admission::not_before(qwen::steady_time::max(), "tokens")
                                                : qwen::admission::go();
    };
    f.submit(1);
    f.submit(2);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 2U);
}

TEST(qwen_client, retries_a_429_through_the_limiter) {
    std::atomic<int> left{2};
    scripted_server server([&](auto const& r) {
        return !r.is_call() ? models() : left-- > 0 ? rate_limited() : completion(1, 1);
    });
    fixture f(server.url());
    f.submit(1);
    f.client().run();
    ASSERT_EQ(f.observer.good.size(), 1U);
    EXPECT_EQ(f.observer.good[0].number, 2U);
    EXPECT_EQ(f.driver.asked.size(), 3U);
    ASSERT_EQ(f.driver.over.size(), 3U);
    EXPECT_EQ(f.driver.over[0].charge, charge::request);
    EXPECT_EQ(f.driver.over[0].code, "limit_requests");
    EXPECT_EQ(f.driver.over[0].message, "Requests rate limit exceeded, please try again later.");
    EXPECT_EQ(f.observer.announced.size(), 3U);
}

TEST(qwen_client, gives_up_after_the_attempts_of_its_policy_and_goes_on_with_the_others) {
    scripted_server server([&](auto const& r) {
        return !r.is_call() ? models() : r.body == "bad" ? answer(500, "oops") : completion(1, 1);
    });
    fixture f(server.url());
    f.submit(1, "bad");
    f.submit(2, "good");
    f.client().run();
    ASSERT_EQ(f.observer.bad.size(), 1U);
    EXPECT_EQ(f.observer.bad[0].status, 500);
    EXPECT_EQ(f.observer.bad[0].body, "oops");
    EXPECT_EQ(f.observer.bad[0].charge, charge::bound);
    EXPECT_EQ(f.observer.bad[0].number, 2U);
    EXPECT_EQ(f.observer.good.size(), 1U);
}

TEST(qwen_client, does_not_retry_what_will_fail_again) {
    scripted_server server([&](auto const& r) {
        return r.is_call() ? answer(400, R"({"code":"InvalidParameter","message":"no","request_id":"q"})") : models();
    });
    fixture f(server.url());
    f.submit(1);
    f.client().run();
    ASSERT_EQ(f.observer.bad.size(), 1U);
    EXPECT_EQ(f.observer.bad[0].code, "InvalidParameter");
    EXPECT_EQ(f.observer.bad[0].request_id, "q");
    EXPECT_EQ(server.calls().size(), 1U);
}

TEST(qwen_client, ends_the_run_when_every_call_would_be_refused) {
    for (int const status : {401, 403, 404}) {
        scripted_server server([&](auto const& r) {
            return r.is_call() ? answer(status, R"({"error":{"code":"no_such","message":"because"}})") : models();
        });
        fixture f(server.url());
        f.options.in_flight = 1;
        for (qwen::call_id id = 0; id < 50; ++id) f.submit(id);
        try {
            f.client().run();
            FAIL() << status;
        } catch (qwen::client_error const& e) {
            EXPECT_EQ(e.what(), "the endpoint refuses every call: " + std::to_string(status) + " no_such: because");
        }
        EXPECT_EQ(server.calls().size(), 1U);
    }
}

TEST(qwen_client, finds_out_about_the_key_before_the_first_call) {
    scripted_server server([&](auto const&) {
        return answer(401, R"({"error":{"code":"invalid_api_key","message":"Incorrect API key provided."}})");
    });
    fixture f(server.url());
    try {
        f.client().check_endpoint();
        FAIL();
    } catch (qwen::client_error const& e) {
        EXPECT_EQ(e.what(), server.url() + " refuses the key: 401 invalid_api_key: Incorrect API key provided.");
    }
}

TEST(qwen_client, does_not_need_a_list_of_models) {
    scripted_server server([&](auto const& r) { return r.is_call() ? completion(1, 1) : answer(404, "nothing here"); });
    fixture f(server.url());
    f.client().check_endpoint();
    f.submit(1);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 1U);
}

std::string closed_port() {
    scripted_server const server([](auto const&) { return std::nullopt; });
    return server.url();
}

TEST(qwen_client, names_an_endpoint_that_cannot_be_reached) {
    auto const url = closed_port();
    fixture f(url);
    try {
        f.client().check_endpoint();
        FAIL();
    } catch (qwen::client_error const& e) {
        EXPECT_TRUE(std::string(e.what()).starts_with("cannot reach " + url + ": ")) << e.what();
    }
}

TEST(qwen_client, knows_that_nothing_left_when_there_was_no_connection) {
    fixture f(closed_port());
    f.submit(1);
    EXPECT_THROW(f.client().run(), qwen::client_error);
    ASSERT_EQ(f.driver.over.size(), 3U) << "all attempts of the policy";
    for (auto const& a : f.driver.over) EXPECT_EQ(a.charge, charge::nothing);
}

TEST(qwen_client, never_sends_twice_behind_the_limiters_back) {
    // Each connection answers a list of models and then dies on a call without an answer, as one that was idle for too
    // long would.
    std::atomic<int> deaths{0};
    scripted_server server([&](auto const& r) -> std::optional<std::string> {
        if (!r.is_call()) return models();
        if (deaths++ < 2) return std::nullopt;
        return completion(1, 1);
    });
    fixture f(server.url());
    f.submit(1, std::string(100, 'x'));
    f.client().run();
    ASSERT_EQ(f.observer.good.size(), 1U);
    EXPECT_EQ(f.driver.over.size(), 3U);
    EXPECT_EQ(f.driver.over[0].charge, charge::unknown);
    EXPECT_EQ(server.calls().size(), 3U) << "one request for each grant";
}

TEST(qwen_client, takes_back_a_request_that_would_leave_too_late) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    f.options.stall = 20ms;
    int stalls = 3;
    f.driver.rule = [&](qwen::call_id) {
        // The thread gets no time between the stamp and the send.
        for (auto const until = steady_clock::now() + 21ms; stalls > 0 && steady_clock::now() < until;) {
        }
        --stalls;
        return qwen::admission::go();
    };
    f.submit(1);
    f.client().run();
    ASSERT_GE(f.driver.over.size(), 4U);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(f.driver.over[i].charge, charge::nothing);
    ASSERT_EQ(f.observer.good.size(), 1U) << "it is no failed attempt";
    EXPECT_EQ(f.observer.good[0].number, 0U);
    EXPECT_EQ(server.calls().size(), 1U);
}

TEST(qwen_client, opens_connections_before_the_first_call_and_uses_them) {
    std::atomic<std::size_t> greeted{0}, late{0};
    scripted_server server([&](auto const& r) {
        if (!r.is_call()) {
            ++greeted;
            return models();
        }
        if (greeted < 8) ++late;
        return completion(1, 1);
    });
    fixture f(server.url());
    f.options.spare_connections = 8;
    for (qwen::call_id id = 0; id < 8; ++id) f.submit(id);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 8U);
    EXPECT_EQ(late, 0U);
    EXPECT_EQ(greeted, server.connections()) << "no call opened one itself";
}

TEST(qwen_client, does_without_spare_connections_where_the_server_closes_each) {
    scripted_server server([](auto const& r) {
        return r.is_call() ? answer(200, "{}", "Connection: close\r\n") : answer(200, "{}", "Connection: close\r\n");
    });
    fixture f(server.url());
    for (qwen::call_id id = 0; id < 10; ++id) f.submit(id);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 10U);
    EXPECT_EQ(f.observer.good[0].charge, charge::bound) << "it did not say what it used";
    EXPECT_LT(server.connections(), 30U);
}

TEST(qwen_client, keeps_to_the_most_in_flight) {
    std::atomic<int> now{0}, most{0};
    scripted_server server([&](auto const& r) {
        if (!r.is_call()) return models();
        int const n = ++now;
        for (int m = most; m < n && !most.compare_exchange_weak(m, n);) {
        }
        std::this_thread::yield();
        --now;
        return completion(1, 1);
    });
    fixture f(server.url());
    f.options.in_flight = 3;
    for (qwen::call_id id = 0; id < 40; ++id) f.submit(id);
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 40U);
    EXPECT_LE(most, 3);
}

TEST(qwen_client, fails_a_call_that_no_limit_can_ever_admit) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    f.driver.rule = [](qwen::call_id id) {
        return id == 1 ? qwen::admission::impossible("exceeds_quota", "tokens per minute") : qwen::admission::go();
    };
    f.submit(1);
    f.submit(2);
    f.client().run();
    ASSERT_EQ(f.observer.bad.size(), 1U);
    EXPECT_EQ(f.observer.bad[0].code, "exceeds_quota");
    EXPECT_NE(f.observer.bad[0].message.find("tokens per minute"), std::string::npos);
    EXPECT_EQ(f.observer.good.size(), 1U);
    EXPECT_EQ(server.calls().size(), 1U);
}

TEST(qwen_client, takes_calls_from_other_threads_and_from_its_observer) {
    scripted_server server([](auto const& r) { return r.is_call() ? completion(1, 1) : models(); });
    fixture f(server.url());
    f.observer.on_answer = [&](qwen::attempt const& a) {
        if (a.id < 5) f.submit(a.id + 1);
    };
    std::thread{[&] { f.submit(1); }}.join();
    f.client().run();
    EXPECT_EQ(f.observer.good.size(), 5U);
}

TEST(qwen_client, ends_at_once_when_stopped_with_calls_in_flight) {
    std::mutex mutex;
    std::condition_variable released;
    bool release = false;
    scripted_server server([&](auto const& r) -> std::optional<std::string> {
        if (!r.is_call()) return models();
        std::unique_lock lock{mutex};
        released.wait(lock, [&] { return release; });
        return std::nullopt;
    });
    fixture f(server.url());
    f.options.spare_connections = 4;
    for (qwen::call_id id = 0; id < 3; ++id) f.submit(id);
    std::thread stopper;
    f.observer.on_sent = [&] {
        if (f.observer.stamped.size() == 3) stopper = std::thread{[&] { f.client().stop(); }};
    };
    f.client().run();
    stopper.join();
    EXPECT_EQ(f.client().in_flight(), 3U);
    EXPECT_TRUE(f.observer.good.empty());
    f.made.reset();
    {
        std::lock_guard const lock{mutex};
        release = true;
    }
    released.notify_all();
}

TEST(qwen_client, refuses_a_url_or_key_that_would_break_a_header) {
    fixture f("http://127.0.0.1:1/v1");
    f.options.key = "sk\r\nX-Evil: 1";
    EXPECT_THROW(f.client(), qwen::client_error);
    fixture g("");
    EXPECT_THROW(g.client(), qwen::client_error);
}

TEST(qwen_client, waits_as_long_as_the_server_asks) {
    std::atomic<int> left{1};
    scripted_server server([&](auto const& r) {
        return !r.is_call() ? models() : left-- > 0 ? answer(429, "{}", "Retry-After: 30\r\n") : completion(1, 1);
    });
    fixture f(server.url());
    f.submit(1);
    f.client().run();
    ASSERT_EQ(f.driver.over.size(), 2U);
    EXPECT_GE(f.driver.over[1].stamp - f.driver.over[0].done, 30ms);
}

}  // namespace client_test
