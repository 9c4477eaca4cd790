// SPDX-License-Identifier: MIT
//
// The driver that connects qwen_client to llm::session.
#include "../../examples/qwen/adapter.hpp"

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/session.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "../../examples/qwen/qwen_client.hpp"

namespace adapter_test {

using namespace std::chrono_literals;
using qwen::charge;

struct weir_fixture {
    using pool = weir::llm::account_pool<weir::manual_clock&>;
    using session = weir::llm::session<pool>;

    weir_fixture() {
        first.add({"http://one/v1", "a", {}, "qwen3-max"}, "sk-1", {.rpm = 10, .tpm = 1000}, {}, 0, clock);
        second.add({"http://two/v1", "a", {}, "qwen-plus"}, "sk-2", {.rpm = 10, .tpm = 1000}, {}, 0, clock);
        models.add("qwen3-max", first);
        models.add("qwen-plus", second);
    }
    std::pair<std::uint64_t, std::uint64_t> left() {
        return {*first.limits(0).available().rpm, *first.limits(0).available().tpm};
    }
    static qwen::chat_call call(qwen::call_id id) { return {id, "{}", {.input = 100, .output = 50}}; }
    static qwen::attempt with(qwen::call_id id, int status, std::string body, charge c, weir::llm::tokens used = {}) {
        qwen::attempt a;
        a.id = id;
        a.status = status;
        a.body = std::move(body);
        a.charge = c;
        a.bound = {.input = 100, .output = 50};
        a.usage = used;
        return a;
    }

    weir::manual_clock clock;
    pool first, second;
    weir::llm::fallback_chain<pool> models;
};

// This clock's time points are not std::chrono::steady_clock's; a driver asks a clock for those.
struct based_session : weir_fixture::session {
    struct facade {
        qwen::steady_time base_time(time_point t) const { return qwen::steady_time{t.time_since_epoch()}; }
    };
    using session::session;
    facade clock() const { return {}; }
};

struct qwen_adapter : testing::Test, weir_fixture {
    based_session based{models,
                        weir::llm::session_options{.retry = {.attempts = 2, .jitter = weir::jitter::none},
                                                   .server_queue = std::chrono::seconds{7}},
                        clock};
    qwen::session_driver<based_session> driver{based};
    using kind = qwen::admission::kind;
};

TEST_F(qwen_adapter, says_where_to_send_and_settles_holds_and_refunds) {
    auto go = driver.admit(call(1));
    ASSERT_EQ(go.what, kind::now);
    ASSERT_NE(go.to, nullptr);
    EXPECT_EQ(go.to->base_url, "http://one/v1");
    EXPECT_EQ(go.to->key, "sk-1");
    EXPECT_EQ(go.to->model, "qwen3-max");
    EXPECT_EQ(go.to->server_queue, 7s);
    EXPECT_EQ(left(), (std::pair<std::uint64_t, std::uint64_t>{9, 850}));
    auto a = with(1, 200, "{}", charge::used, {.input = 80, .output = 20});
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::answered);
    EXPECT_EQ(left(), (std::pair<std::uint64_t, std::uint64_t>{9, 900}));
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::failed) << "once";
    EXPECT_EQ(left(), (std::pair<std::uint64_t, std::uint64_t>{9, 900}));

    ASSERT_EQ(driver.admit(call(2)).what, kind::now);
    a = with(2, 0, {}, charge::nothing);
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::again);
    EXPECT_EQ(left(), (std::pair<std::uint64_t, std::uint64_t>{9, 900})) << "it never left";
}

TEST_F(qwen_adapter, a_request_that_was_taken_back_asks_again_at_once_and_costs_nothing) {
    for (int i = 0; i < 5; ++i) {
        ASSERT_EQ(driver.admit(call(1)).what, kind::now) << i;
        auto a = with(1, 0, {}, charge::nothing);
        a.cancelled = true;
        auto const next = driver.ended(a);
        EXPECT_EQ(next.what, qwen::next_step::kind::again);
        EXPECT_LE(next.due, qwen::steady_time{clock.now().time_since_epoch()});
    }
    EXPECT_EQ(left(), (std::pair<std::uint64_t, std::uint64_t>{10, 1000}));
}

TEST_F(qwen_adapter, turns_to_the_next_model_where_the_free_quota_is_gone) {
    ASSERT_EQ(driver.admit(call(1)).to->model, "qwen3-max");
    auto a = with(1, 429, R"({"error":{"message":"Free allocated quota exceeded.","code":"insufficient_quota"}})",
                  charge::request);
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::again);
    auto const again = driver.admit(call(1));
    ASSERT_EQ(again.what, kind::now);
    EXPECT_EQ(again.to->model, "qwen-plus");
    EXPECT_EQ(again.to->base_url, "http://two/v1");
}

TEST_F(qwen_adapter, ends_the_run_when_no_account_would_do) {
    auto const unpaid = [](qwen::call_id id) {
        return with(
            id, 400,
            R"({"code":"Arrearage","message":"Access denied, please make sure your account is in good standing."})",
            charge::bound);
    };
    ASSERT_EQ(driver.admit(call(1)).what, kind::now);
    auto a = unpaid(1);
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::again);
    ASSERT_EQ(driver.admit(call(1)).to->model, "qwen-plus");
    a = unpaid(1);
    EXPECT_EQ(driver.ended(a).what, qwen::next_step::kind::again);
    auto const end = driver.admit(call(1));
    ASSERT_EQ(end.what, kind::over);
    EXPECT_NE(end.message.find("billing"), std::string::npos) << end.message;
    EXPECT_TRUE(end.fatal);
}

TEST_F(qwen_adapter, names_what_a_call_waits_for_and_what_it_can_never_pass) {
    for (qwen::call_id id = 1; id <= 20; ++id) {
        auto const go = driver.admit({id, "{}", {.input = 1, .output = 1}});
        EXPECT_EQ(go.what, kind::now);
    }
    auto const later = driver.admit({21, "{}", {.input = 1, .output = 1}});
    ASSERT_EQ(later.what, kind::later);
    EXPECT_EQ(later.limit, "requests per minute");
    EXPECT_GT(later.ask_at, qwen::steady_time{clock.now().time_since_epoch()});
    auto const never = driver.admit({22, "{}", {.input = 1001, .output = 0}});
    ASSERT_EQ(never.what, kind::over);
    EXPECT_EQ(never.code, "exceeds_quota");
    EXPECT_NE(never.message.find("tokens per minute"), std::string::npos) << never.message;
}

}  // namespace adapter_test
