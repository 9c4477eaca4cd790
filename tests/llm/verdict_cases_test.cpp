// SPDX-License-Identifier: MIT
//
// Error answers as vendors and gateways send them, a file for each vendor in tests/llm/cases. To add a case, add a
// line.
#include <gtest/gtest.h>

#include <cctype>
#include <chrono>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../support/verdict_case.hpp"

namespace verdict_cases_test {

using namespace verdict_cases;
using weir::llm::action;
using weir::llm::cause;

std::vector<std::filesystem::path> files() {
    std::vector<std::filesystem::path> all;
    for (auto const& entry : std::filesystem::directory_iterator{WEIR_TESTS "/llm/cases"}) {
        if (entry.path().extension() == ".tsv") all.push_back(entry.path());
    }
    return all;
}

template <class Visit>
void for_each_case(Visit visit) {
    for (auto const& file : files()) {
        for (auto const& line : lines_of(file.string())) visit(verdict_case{line}, file.stem().string());
    }
}

TEST(llm_verdict_cases, each_answer_has_the_verdict_of_its_line) {
    std::map<std::string, int> ids;
    std::size_t cases = 0;
    for_each_case([&](verdict_case const& c, std::string const& file) {
        ++cases;
        ASSERT_TRUE(c.complete()) << file << ": " << c.fields.front();
        EXPECT_EQ(judged(c), "") << file << ": " << c.id() << '\n'
                                 << c.body.substr(0, 300) << "\nright: " << c.fields[8] << '/' << c.fields[9]
                                 << " wait " << c.fields[10] << " until " << c.fields[11] << '\n'
                                 << c.fields[14];
        EXPECT_EQ(++ids[c.id()], 1) << c.id() << " is there twice";
        EXPECT_FALSE(c.fields[14].empty() && c.fields[15].empty()) << c.id() << " names no source";
    });
    EXPECT_GE(cases, 600U);
}

// ---- the same answers, written in other ways ----

void expect_same(weir::llm::verdict const& v, weir::llm::verdict const& w, verdict_case const& c,
                 std::string const& body) {
    EXPECT_EQ(v.action, w.action) << c.id() << '\n' << body.substr(0, 400);
    EXPECT_EQ(v.cause, w.cause) << c.id() << '\n' << body.substr(0, 400);
    EXPECT_EQ(v.wait, w.wait) << c.id() << '\n' << body.substr(0, 400);
    EXPECT_EQ(v.until, w.until) << c.id() << '\n' << body.substr(0, 400);
}

bool is_json_error(verdict_case const& c) {
    return c.complete() && c.fields[3] != "-" && c.as_answer().status.value_or(0) >= 400 && !c.body.empty() &&
           c.body.front() == '{' && c.body.size() < 4096;
}

// Words in other cases of letters, where they are not codes: members "message" are.
TEST(llm_verdict_cases, letters_of_a_message_may_have_any_case) {
    for_each_case([](verdict_case const& c, std::string const&) {
        if (!c.complete() || c.message.empty()) return;
        auto a = c.as_answer();
        auto const v = classify(a);
        for (auto const change : {::toupper, ::tolower}) {
            std::string other = c.message;
            for (auto& x : other) x = static_cast<char>(change(static_cast<unsigned char>(x)));
            a.message = other;
            expect_same(v, classify(a), c, other);
        }
    });
}

TEST(llm_verdict_cases, white_space_between_members_changes_nothing) {
    for_each_case([](verdict_case const& c, std::string const&) {
        if (!is_json_error(c)) return;
        auto a = c.as_answer();
        auto const v = classify(a);
        std::string spaced;
        bool quoted = false;
        for (std::size_t i = 0; i < c.body.size(); ++i) {
            char const x = c.body[i];
            if (x == '"' && (i == 0 || c.body[i - 1] != '\\')) quoted = !quoted;
            spaced += x;
            if (!quoted && (x == ',' || x == ':' || x == '{' || x == '[')) spaced += "\r\n\t ";
        }
        a.body = spaced;
        expect_same(v, classify(a), c, spaced);
    });
}

// A proxy hands the answer on as a string inside its own error.
TEST(llm_verdict_cases, an_answer_inside_a_proxy_s_error_keeps_its_next_step) {
    std::size_t seen = 0;
    std::size_t same = 0;
    for_each_case([&](verdict_case const& c, std::string const&) {
        if (!is_json_error(c) || c.as_answer().status != 429) return;
        auto a = c.as_answer();
        auto const v = classify(a);
        if (v.cause == cause::rate) return;  // told by the status alone
        std::string escaped;
        for (char const x : c.body) {
            if (x == '"' || x == '\\') escaped += '\\';
            escaped += x;
        }
        std::string const wrapped = R"({"error":{"message":")" + escaped + R"(","type":"upstream_error","code":null}})";
        a.body = wrapped;
        ++seen;
        auto const w = classify(a);
        bool const spends = v.action != action::retry && v.action != action::retry_slower && w.retries();
        same += spends ? 0 : 1;
    });
    EXPECT_GT(seen, 100U);
    // Codes in digits mean nothing in a stranger's text.
    EXPECT_GE(same * 100, seen * 97) << same << " of " << seen;
}

TEST(llm_verdict_cases, an_answer_cut_off_anywhere_is_never_called_answered) {
    for_each_case([](verdict_case const& c, std::string const&) {
        if (!c.complete() || c.body.size() < 8 || c.body.size() > 2000 || c.body.front() != '{') return;
        auto a = c.as_answer();
        if (a.status != 200 || classify(a).action != action::proceed || c.body.find('\n') != std::string::npos) return;
        for (std::size_t n = 1; n < c.body.size(); ++n) {
            std::string const cut = c.body.substr(0, n);
            a.body = cut;
            ASSERT_NE(classify(a).action, action::proceed) << c.id() << '\n' << cut;
        }
    });
}

// The rules search a bounded text, however long a message is; bench/verdict_bench.cpp measures it.
TEST(llm_verdict_cases, of_a_message_of_1_mb_the_beginning_and_the_end_are_searched) {
    std::string const filler(1 << 20, 'x');
    std::string const words = " Rate limit reached on tokens per min (TPM). Please try again in 6s. ";
    for (auto const& message : {words + filler, filler + words}) {
        weir::llm::detail::error_text<> said;
        said.add(message);
        EXPECT_LE(said.plain().size(), 6144U);
        EXPECT_LE(said.words().size(), 6144U);
        std::string const body = R"({"error":{"message":")" + message + R"(","code":null}})";
        weir::llm::answer a;
        a.status = 429;
        a.body = body;
        auto const v = classify(a);
        EXPECT_EQ(v.cause, cause::token_rate);
        EXPECT_EQ(v.wait, std::chrono::nanoseconds{std::chrono::seconds{6}});
    }
}

TEST(llm_verdict_cases, a_body_s_first_and_last_member_may_be_anything) {
    for_each_case([](verdict_case const& c, std::string const&) {
        if (!is_json_error(c)) return;
        auto a = c.as_answer();
        auto const v = classify(a);
        std::string const more = R"({"request_id":"8f9e","trace":{"a":[1,{"b":null}]},)" + c.body.substr(1);
        a.body = more;
        expect_same(v, classify(a), c, more);
        auto const end = c.body.rfind('}');
        std::string const after = c.body.substr(0, end) + R"(,"usage":null,"extra":[[],{},"x"]})";
        a.body = after;
        expect_same(v, classify(a), c, after);
    });
}

}  // namespace verdict_cases_test
