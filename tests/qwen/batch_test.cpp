// SPDX-License-Identifier: MIT
#include "../../examples/qwen/batch.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "../../examples/qwen/journal.hpp"
#include "../../examples/qwen/line_file.hpp"

namespace batch_test {

using namespace std::chrono_literals;

class folder {
public:
    folder() {
        std::string name = (std::filesystem::temp_directory_path() / "weir-batch-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        path_ = name;
    }
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    folder(folder const&) = delete;
    folder& operator=(folder const&) = delete;
    [[nodiscard]] std::string file(std::string const& name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string with(std::string const& name, std::string const& text) const {
        std::ofstream(file(name), std::ios::binary) << text;
        return file(name);
    }

private:
    std::filesystem::path path_;
};

std::string content(std::string const& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::string request(std::string const& id, std::string const& rest = "\"max_tokens\":10",
                    std::string const& model = "m") {
    return "{\"custom_id\":\"" + id + "\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"" +
           model + "\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]," + rest + "}}\n";
}

std::string fault_of(std::string const& text) {
    folder const f;
    auto const path = f.with("b.jsonl", text);
    try {
        (void)qwen::read_batch(path);
    } catch (qwen::batch_error const& e) {
        std::string const what = e.what();
        EXPECT_TRUE(what.starts_with(path)) << what;
        return what.substr(path.size());
    }
    return "no error";
}

TEST(qwen_batch, reads_requests_in_file_order) {
    folder const f;
    auto const b = qwen::read_batch(f.with("b.jsonl", request("a") + "\n" + request("b", "\"max_tokens\":20")));
    EXPECT_EQ(b.model, "m");
    EXPECT_EQ(b.url, "/v1/chat/completions");
    ASSERT_EQ(b.items.size(), 2U);
    EXPECT_EQ(b.items[0].custom_id, "a");
    EXPECT_EQ(b.items[0].line, 1U);
    EXPECT_EQ(b.items[1].custom_id, "b");
    EXPECT_EQ(b.items[1].line, 3U);
    EXPECT_EQ(b.items[1].max_tokens, 20U);
}

TEST(qwen_batch, sends_max_tokens_always) {
    folder const f;
    auto const b = qwen::read_batch(f.with("b.jsonl", request("a", "\"n\":1")), {.default_max_tokens = 77});
    EXPECT_EQ(b.items[0].max_tokens, 77U);
    EXPECT_EQ(nlohmann::json::parse(b.items[0].body)["max_tokens"], 77);
}

TEST(qwen_batch, takes_the_larger_of_two_bounds) {
    folder const f;
    auto const b = qwen::read_batch(f.with("b.jsonl", request("a", "\"max_completion_tokens\":30,\"max_tokens\":20")));
    EXPECT_EQ(b.items[0].max_tokens, 30U);
}

TEST(qwen_batch, can_replace_the_model_and_stop_early) {
    folder const f;
    auto const b = qwen::read_batch(f.with("b.jsonl", request("a") + request("b", "\"n\":1", "other") + "broken"),
                                    {.model = "x", .first = 2});
    EXPECT_EQ(b.model, "x");
    EXPECT_EQ(b.items.size(), 2U);
    EXPECT_EQ(nlohmann::json::parse(b.items[1].body)["model"], "x");
}

TEST(qwen_batch, accepts_a_byte_order_mark_and_windows_line_ends) {
    folder const f;
    auto line = request("a");
    line.insert(line.size() - 1, "\r");
    EXPECT_EQ(qwen::read_batch(f.with("b.jsonl", "\xEF\xBB\xBF" + line)).items.size(), 1U);
}

TEST(qwen_batch, names_the_line_and_the_fault) {
    EXPECT_TRUE(fault_of(request("a") + "{\"custom_id\": \n").starts_with(":2: malformed JSON at column"));
    EXPECT_EQ(fault_of(request("a") + "[1]\n"), ":2: not a JSON object");
    EXPECT_EQ(fault_of(request("a") + request("b") + request("a")), ":3: duplicate custom_id \"a\", first on line 1");
    EXPECT_EQ(fault_of(request("a") + request("b", "\"n\":1", "other")),
              ":2: mismatched model \"other\", where line 1 has \"m\"");
    EXPECT_EQ(fault_of("{\"method\":\"POST\"}\n"), ":1: no \"custom_id\" (a non-empty string)");
    EXPECT_EQ(fault_of("{\"custom_id\":\"a\",\"method\":\"GET\"}"), ":1: \"method\" must be \"POST\"");
    EXPECT_EQ(fault_of("{\"custom_id\":\"a\",\"method\":\"POST\"}"), ":1: no \"url\" (\"/v1/chat/completions\")");
    EXPECT_EQ(fault_of("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",\"body\":{}}"),
              ":1: url \"/v1/embeddings\" is not a chat completion");
    EXPECT_EQ(fault_of("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\"}"),
              ":1: no \"body\" (an object)");
    EXPECT_EQ(
        fault_of(
            "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\"}}"),
        ":1: the body has no \"messages\" (an array that is not empty)");
    EXPECT_EQ(fault_of(request("a", "\"max_tokens\":0")), ":1: \"max_tokens\" must be a positive whole number");
    EXPECT_EQ(fault_of(request("a", "\"max_tokens\":-5")), ":1: \"max_tokens\" must be a positive whole number");
    EXPECT_EQ(fault_of(request("a", "\"stream\":true")), ":1: \"stream\": true has no place in a batch");
    EXPECT_EQ(fault_of("\n\n"), ": no requests in it");
    EXPECT_TRUE(fault_of("{\"custom_id\":\"\xFF\"}").starts_with(":1: malformed JSON"));
}

TEST(qwen_batch, names_a_file_that_cannot_be_read) {
    folder const f;
    try {
        (void)qwen::read_batch(f.file("absent.jsonl"));
        FAIL();
    } catch (qwen::batch_error const& e) {
        EXPECT_EQ(std::string(e.what()), f.file("absent.jsonl") + ": No such file or directory");
    }
}

TEST(qwen_batch, refuses_more_requests_than_the_vendor_takes) {
    std::string text;
    for (int i = 0; i <= 50'000; ++i) text += request(std::to_string(i));
    EXPECT_EQ(fault_of(text), ":50001: more than 50,000 requests in one file");
}

TEST(qwen_batch, estimates_by_script_and_by_what_a_body_says) {
    auto const of = [](std::string const& content, std::string const& more = "") {
        return qwen::estimate_input_tokens("{\"messages\":[{\"role\":\"user\",\"content\":\"" + content + "\"}]" +
                                           more + "}");
    };
    EXPECT_EQ(of("123456"), 7U + 2);
    EXPECT_EQ(of("1234567"), 7U + 3);
    EXPECT_EQ(of("你好"), 7U + 2);
    EXPECT_EQ(of("привет"), 7U + 6);
    EXPECT_EQ(of("hi", ",\"metadata\":{\"input_tokens\":\"5000\"}"), 5000U);
    EXPECT_EQ(of("hi", ",\"metadata\":{\"input_tokens\":\"many\"}"), 8U);
    EXPECT_GT(of("hi", ",\"tools\":[{\"type\":\"function\"}]"), 8U);
}

TEST(qwen_batch, writes_the_answer_as_the_server_sent_it) {
    auto const line = qwen::to_line({"a\"b", 7, 200, "r-1", "{\"z\": 1.50,\n \"a\":\"\\n\"}", "", ""});
    EXPECT_EQ(line,
              "{\"id\":\"batch_req_7\",\"custom_id\":\"a\\\"b\",\"response\":{\"status_code\":200,\"request_id\":\"r-"
              "1\",\"body\":{\"z\": 1.50,  "
              "\"a\":\"\\n\"}},\"error\":null}");
    EXPECT_TRUE(nlohmann::json::accept(line));
}

TEST(qwen_batch, writes_a_body_that_is_not_json_as_a_string) {
    auto const line = nlohmann::json::parse(qwen::to_line({"a", 1, 502, "", "<html>\xFF", "bad", "gateway"}));
    EXPECT_TRUE(line["response"]["body"].is_string());
    EXPECT_EQ(line["error"]["code"], "bad");
}

TEST(qwen_batch, writes_no_response_where_there_was_none) {
    auto const line = nlohmann::json::parse(qwen::to_line({"a", 1, 0, "", "", "transport", "reset"}));
    EXPECT_TRUE(line["response"].is_null());
    EXPECT_EQ(line["error"]["message"], "reset");
}

TEST(qwen_batch, resumes_after_what_is_finished_and_cuts_a_torn_line) {
    folder const f;
    auto const good = qwen::to_line({"a", 1, 200, "", "{}", "", ""}) + "\n";
    auto const bad = qwen::to_line({"b", 2, 500, "", "{}", "x", "y"}) + "\n";
    auto const path = f.with("out.jsonl", good + bad + "{\"id\":\"batch_req_3\",\"custom_id\":\"c\",\"respo");
    auto const ids = qwen::finished_ids(path);
    EXPECT_EQ(ids.size(), 1U);
    EXPECT_TRUE(ids.contains("a"));
    EXPECT_EQ(content(path), good + bad);
    EXPECT_TRUE(qwen::finished_ids(f.file("absent")).empty());
}

TEST(qwen_batch, does_not_resume_from_another_kind_of_file) {
    folder const f;
    auto const path = f.with("notes.txt", "dear diary\n");
    EXPECT_THROW((void)qwen::finished_ids(path), qwen::batch_error);
    EXPECT_EQ(content(path), "dear diary\n");
}

TEST(qwen_batch, reports_a_full_disk) {
    qwen::line_file full("/dev/full", false);
    try {
        full.append("x");
        FAIL();
    } catch (qwen::batch_error const& e) {
        EXPECT_STREQ(e.what(), "/dev/full: cannot write: No space left on device");
    }
}

TEST(qwen_journal, gives_back_what_was_sent_finished_and_left_in_flight) {
    folder const f;
    auto const path = f.file("j");
    auto const before = qwen::wall_now();
    {
        qwen::journal j(path, 1h);
        EXPECT_TRUE(j.past().empty());
        auto const a = j.about_to_send(100, 50);
        j.sent(a, before - 3);
        j.finished(a, 90, 20);
        auto const b = j.about_to_send(200, 60);
        j.sent(b, before - 2);
        auto const c = j.about_to_send(300, 70);
        j.sent(c, before - 1);
        j.never_left(c);
        j.about_to_send(400, 80);
    }
    qwen::journal const j(path, 1h);
    auto const& past = j.past();
    ASSERT_EQ(past.size(), 3U);
    EXPECT_EQ(past[0].sent, before - 3);
    EXPECT_EQ(past[0].input, 90U);
    EXPECT_EQ(past[0].output, 20U);
    ASSERT_TRUE(past[0].finished);
    EXPECT_GE(*past[0].finished, before);
    EXPECT_EQ(past[1].sent, before - 2);
    EXPECT_EQ(past[1].output, 60U);
    EXPECT_FALSE(past[1].finished);
    EXPECT_GE(past[2].sent, before) << "it may have gone at any time until now";
    EXPECT_EQ(past[2].input, 400U);
}

TEST(qwen_journal, survives_being_reopened_again_and_again) {
    folder const f;
    auto const path = f.file("j");
    auto const stamp = qwen::wall_now() - 1'000'000;
    {
        qwen::journal j(path, 1h);
        j.sent(j.about_to_send(1, 2), stamp);
    }
    for (int i = 0; i < 3; ++i) {
        qwen::journal j(path, 1h);
        ASSERT_EQ(j.past().size(), static_cast<std::size_t>(1 + i));
        EXPECT_EQ(j.past()[0].sent, stamp);
        j.sent(j.about_to_send(1, 2), stamp + 1 + i);
    }
}

TEST(qwen_journal, forgets_what_no_window_can_hold_any_more) {
    folder const f;
    auto const path = f.file("j");
    {
        qwen::journal j(path, 1h);
        j.sent(j.about_to_send(1, 2), qwen::wall_now() - std::chrono::nanoseconds(3h).count());
        auto const late = j.about_to_send(3, 4);
        j.sent(late, qwen::wall_now() - std::chrono::nanoseconds(3h).count());
        j.finished(late, 3, 4);
    }
    qwen::journal const j(path, 1h);
    ASSERT_EQ(j.past().size(), 1U) << "its output still counts";
    EXPECT_EQ(j.past()[0].input, 3U);
}

TEST(qwen_journal, takes_a_stamp_from_the_future_for_now) {
    folder const f;
    auto const path = f.file("j");
    {
        qwen::journal j(path, 1h);
        j.sent(j.about_to_send(1, 2), qwen::wall_now() + std::chrono::nanoseconds(10h).count());
    }
    qwen::journal const j(path, 1h);
    ASSERT_EQ(j.past().size(), 1U);
    EXPECT_LE(j.past()[0].sent, qwen::wall_now());
}

TEST(qwen_journal, is_nothing_where_none_was_opened) {
    qwen::journal j;
    j.sent(j.about_to_send(1, 2), 3);
    j.finished(1, 2, 3);
    EXPECT_FALSE(j.is_open());
}

}  // namespace batch_test
