// SPDX-License-Identifier: MIT
//
// Answers that begin with 200 and fail later: a session takes none of them for answered.
#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "../support/session_fixture.hpp"

namespace session_streams_test {

using namespace session_fixture;

constexpr char const* whole_stream =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n"
    "data: [DONE]\n\n";

// What a stream looks like that failed after its head.
constexpr char const* broken_streams[] = {
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel",
    ": keep-alive\n\n: keep-alive\n\n",
    "\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n"
    "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"code\":null}}\n\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"stop_reason\":null}}\n\n"
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    "{\"id\":\"1\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hel",
};

reply stream(char const* body, bool transport_failed = false) {
    reply r = says(200);
    r.answer.code = {};
    r.answer.message = {};
    r.answer.body = body;
    r.answer.transport_failed = transport_failed;
    return r;
}

// 40 calls, of which every second one and the last find a stream that breaks off at their first attempt.
struct llm_session_streams : llm_session {
    static bool breaks(int call) { return call % 2 == 0 || call == 39; }
    static reply first_attempt(int call, bool delivered) {
        if (!breaks(call)) return stream(whole_stream);
        // Each form; every eighth is a whole body whose transport failed after it.
        reply r = call % 8 == 0 ? stream(whole_stream, true)
                                : stream(broken_streams[static_cast<std::size_t>(call) % std::size(broken_streams)]);
        if (call % 8 == 0) r.answer.body = broken_streams[0];
        return delivered ? broken_off(r) : r;
    }
};

TEST_F(llm_session_streams, of_40_of_which_21_break_off_21_are_sent_again) {
    model("m", 1, wide);
    open();
    int answered = 0;
    for (int i = 0; i < 40; ++i) {
        int attempts = 0;
        auto const end = drive(request{.bound = tokens{.input = 1, .output = 1}},
                               [&](call&) { return ++attempts == 1 ? first_attempt(i, false) : stream(whole_stream); });
        EXPECT_EQ(attempts, breaks(i) ? 2 : 1) << i << ": " << end.reason;
        answered += end.answered() ? 1 : 0;
    }
    EXPECT_EQ(answered, 40);
    EXPECT_EQ(count(counted_event::attempts), 61U);
    EXPECT_EQ(count(counted_event::retries), 21U);
}

TEST_F(llm_session_streams, what_was_handed_on_in_part_ends_as_partial) {
    model("m", 1, wide);
    open();
    int answered = 0;
    int partial = 0;
    for (int i = 0; i < 40; ++i) {
        auto const end =
            drive(request{.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return first_attempt(i, true); });
        answered += end.answered() ? 1 : 0;
        partial += end.status == call_end::partial ? 1 : 0;
    }
    EXPECT_EQ(answered, 19);
    EXPECT_EQ(partial, 21);
    EXPECT_EQ(count(counted_event::attempts), 40U) << "sent again, and paid again";
}

TEST_F(llm_session_streams, one_that_must_not_be_repeated_is_lost) {
    model("m", 1, wide);
    open();
    auto const end = drive(request{.bound = tokens{.input = 1, .output = 1}, .repeatable = false},
                           [&](call&) { return stream(broken_streams[0]); });
    EXPECT_EQ(end.status, call_end::lost);
    EXPECT_EQ(count(counted_event::attempts), 1U);
}

TEST_F(llm_session_streams, one_that_always_breaks_off_ends_as_failed) {
    model("m", 1, wide);
    open();
    for (auto const* body : broken_streams) {
        auto const end = drive(request{.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return stream(body); });
        EXPECT_EQ(end.status, call_end::exhausted) << body << end.reason;
    }
    EXPECT_EQ(count(counted_event::answered), 0U);
}

}  // namespace session_streams_test
