// SPDX-License-Identifier: MIT
//
// The demo from outside: the program as a process, over real HTTP, in fast time. J is far above what arrivals are
// spread over even on a busy machine, since what is tested here is what the program does, not how fast it is.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../../examples/simulator/simulator.hpp"

namespace demo_test {

using namespace std::chrono_literals;

std::string content(std::string const& path) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::vector<nlohmann::json> lines(std::string const& path) {
    std::vector<nlohmann::json> all;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
    return all;
}

struct outcome {
    int status = -1;
    std::string text;
    [[nodiscard]] bool says(std::string_view what) const { return text.find(what) != std::string::npos; }
};

class qwen_demo : public testing::Test {
protected:
    qwen_demo() {
        std::string name = (std::filesystem::temp_directory_path() / "weir-demo-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        folder_ = name;
    }
    ~qwen_demo() override {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

    [[nodiscard]] std::string file(std::string const& name) const { return (folder_ / name).string(); }

    // `count` requests of some 40 tokens each.
    std::string batch(std::size_t count, std::string const& name = "b.jsonl") const {
        std::ofstream out(file(name), std::ios::binary);
        for (std::size_t i = 1; i <= count; ++i) {
            out << R"({"custom_id":"c)" << i
                << R"(","method":"POST","url":"/v1/chat/completions","body":{"model":"qwen3-max",)"
                   R"("messages":[{"role":"user",)"
                << R"("content":"question )" << i << R"("}],"max_tokens":40}})" << '\n';
        }
        return file(name);
    }

    pid_t start(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), QWEN_DEMO);
        std::vector<char*> argv;
        for (auto& a : arguments) argv.push_back(a.data());
        argv.push_back(nullptr);
        std::vector<std::string> environment{"PATH=/usr/bin:/bin", "LC_ALL=C"};
        // What a sanitizer was told.
        for (char const* name : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"}) {
            if (char const* value = ::getenv(name)) environment.push_back(std::string(name) + "=" + value);
        }
        std::vector<char*> envp;
        for (auto& e : environment) envp.push_back(e.data());
        envp.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 1, file("log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
                                         0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        pid_t pid = -1;
        int const error = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), envp.data());
        posix_spawn_file_actions_destroy(&actions);
        EXPECT_EQ(error, 0);
        return pid;
    }

    static bool is_running(pid_t pid) {
        siginfo_t ended{};
        return ::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0;
    }

    outcome finish(pid_t pid) const {
        int status = 0;
        ::waitpid(pid, &status, 0);
        return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status), content(file("log"))};
    }

    outcome run(std::vector<std::string> arguments) const { return finish(start(std::move(arguments))); }

    // Sends the signal when the output file has so many lines.
    outcome run_until(std::size_t answers, int signal, std::string const& out,
                      std::vector<std::string> arguments) const {
        pid_t const pid = start(std::move(arguments));
        for (;;) {
            int status = 0;
            if (::waitpid(pid, &status, WNOHANG) == pid) {
                ADD_FAILURE() << "it ended by itself: " << content(file("log"));
                return {status, {}};
            }
            auto const text = content(out);
            if (static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) >= answers) break;
            std::this_thread::sleep_for(2ms);
        }
        ::kill(pid, signal);
        return finish(pid);
    }

    std::filesystem::path folder_;
};

// 60 a minute, 20 times as fast as the world.
qwen::simulator_settings sixty_a_minute(qwen::token_mode mode = qwen::token_mode::actual) {
    qwen::simulator_settings s;
    s.models = {{.name = "qwen3-max", .limits = {60, {}, 100'000, {}}}};
    s.judge.derive_rps = false;
    s.judge.tokens = mode;
    s.speed = 20;
    return s;
}

std::vector<std::string> against(qwen::dashscope_simulator const& server, std::vector<std::string> more) {
    std::vector<std::string> all{
        "--base-url", server.base_url(), "--key", "sk-simulator", "--speed", "20",    "--jitter",
        "200",        "--rpm",           "60",    "--rps",        "0",       "--tpm", "100000"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

TEST_F(qwen_demo, sends_every_request_once_without_a_429) {
    auto const b = batch(80), out = file("out.jsonl"), svg = file("p.svg");
    for (char const* mode : {"actual", "input-strict", "reserve"}) {
        std::filesystem::remove(out);
        auto const r = run({"--batch", b, "--out", out, "--svg", svg, "--speed", "20", "--jitter", "200",
                            "--token-mode", mode, "--tpm", "2000", "--price-in", "1", "--price-out", "2"});
        ASSERT_EQ(r.status, 0) << r.text;
        EXPECT_TRUE(r.says("80 answered, 0 failed")) << r.text;
        if (r.says("VOID")) GTEST_SKIP() << "the machine stalled for more than 200 ms";
        EXPECT_TRUE(r.says("429s                   0\n")) << r.text;
        EXPECT_TRUE(r.says("% of the ideal")) << r.text;
        EXPECT_TRUE(r.says("cost                   0.00")) << r.text;
        std::set<std::string> ids;
        for (auto const& line : lines(out)) {
            EXPECT_EQ(line["response"]["status_code"], 200);
            EXPECT_TRUE(line["error"].is_null());
            EXPECT_TRUE(line["response"]["body"]["choices"].is_array());
            ids.insert(line["custom_id"]);
        }
        EXPECT_EQ(ids.size(), 80U);
        EXPECT_EQ(content(file("errors.jsonl")), "") << "none next to an output called out.jsonl";
        EXPECT_TRUE(content(svg).starts_with("<svg"));
    }
}

TEST_F(qwen_demo, resumes_at_once_without_a_429_after_an_interruption) {
    for (int const signal : {SIGINT, SIGTERM, SIGKILL}) {
        for (auto const mode : {qwen::token_mode::actual, qwen::token_mode::reserve}) {
            if (signal == SIGTERM && mode == qwen::token_mode::reserve) continue;
            auto const b = batch(100), out = file("out.jsonl");
            std::filesystem::remove(out);
            std::filesystem::remove(out + ".journal");
            qwen::dashscope_simulator server(sixty_a_minute(mode));
            server.start();
            auto const arguments = against(server, {"--batch", b, "--out", out});
            auto const cut = run_until(20, signal, out, arguments);
            if (signal == SIGKILL) {
                EXPECT_EQ(cut.status, 1000 + SIGKILL);
            } else {
                EXPECT_EQ(cut.status, 130) << cut.text;
                EXPECT_TRUE(cut.says("Interrupted")) << cut.text;
                EXPECT_TRUE(cut.says("not finished")) << cut.text;
                EXPECT_TRUE(cut.says("tokens")) << cut.text;
            }
            auto const kept = lines(out);
            EXPECT_GE(kept.size(), 20U);
            EXPECT_LT(kept.size(), 100U);

            auto again = arguments;
            again.push_back("--resume");
            auto const resumed = run(again);
            EXPECT_EQ(resumed.status, 0) << resumed.text;
            EXPECT_TRUE(resumed.says(" of 100 are already in " + out)) << resumed.text;
            std::multiset<std::string> ids;
            auto const all = lines(out);
            for (auto const& line : all) ids.insert(line["custom_id"]);
            EXPECT_EQ(ids.size(), 100U);
            EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 100U);
            for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i], all[i]) << "what was finished is kept";
            auto const report = server.report();
            if (report.judge.delay.spread_ns() > 200'000'000)
                GTEST_SKIP() << "the machine stalled for more than 200 ms";
            EXPECT_EQ(report.answered(429), 0U);
            EXPECT_GT(report.judge.total().peak.requests_minute, 50U) << "or nothing was tested";
        }
    }
}

TEST_F(qwen_demo, would_be_refused_without_its_journal) {
    // The server's minute begins to pass when it has refused something, however long the program takes to start again.
    auto const b = batch(100), out = file("out.jsonl");
    auto settings = sixty_a_minute();
    std::atomic<std::int64_t> since{0};  // by this machine's clock; 0: it stands
    auto const now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
    settings.time = [&since, now, speed = settings.speed] { return since == 0 ? 0 : (now() - since) * speed; };
    qwen::dashscope_simulator server(settings);
    server.start();
    auto arguments = against(server, {"--batch", b, "--out", out});
    EXPECT_EQ(run_until(50, SIGINT, out, arguments).status, 130);
    auto const before = server.report().answered(429);
    std::filesystem::remove(out + ".journal");
    arguments.push_back("--resume");
    pid_t const again = start(arguments);
    while (server.report().answered(429) == before && is_running(again)) std::this_thread::sleep_for(2ms);
    EXPECT_GT(server.report().answered(429), before);
    since = now();
    EXPECT_EQ(finish(again).status, 0);
    EXPECT_EQ(lines(out).size(), 100U) << "and yet it gets through, by its retries";
}

TEST_F(qwen_demo, has_nothing_to_do_when_all_is_done) {
    auto const b = batch(5), out = file("out.jsonl");
    qwen::dashscope_simulator server(sixty_a_minute());
    server.start();
    EXPECT_EQ(run(against(server, {"--batch", b, "--out", out})).status, 0);
    auto const before = server.report().requests;
    auto const r = run(against(server, {"--batch", b, "--out", out, "--resume"}));
    EXPECT_EQ(r.status, 0) << r.text;
    EXPECT_EQ(server.report().requests, before);
    EXPECT_EQ(lines(out).size(), 5U);
}

TEST_F(qwen_demo, does_not_write_over_answers) {
    auto const b = batch(5), out = file("out.jsonl");
    std::ofstream(out) << "precious\n";
    auto const r = run({"--batch", b, "--out", out, "--speed", "20"});
    EXPECT_EQ(r.status, 2);
    EXPECT_TRUE(r.says("already has answers: --resume")) << r.text;
    EXPECT_EQ(content(out), "precious\n");
}

TEST_F(qwen_demo, puts_answers_next_to_the_batch_and_failures_in_a_file_of_their_own) {
    auto const path = batch(3);
    std::ofstream(path, std::ios::app)
        << R"({"custom_id":"odd","method":"POST","url":"/v1/chat/completions","body":{"model":"qwen3-max",)"
        << R"("messages":[{"role":"user","content":"x"}],"max_tokens":9,)"
           R"("metadata":{"simulate_error":"invalid_parameter"}}})"
        << '\n';
    auto const r = run({"--batch", path, "--speed", "20", "--jitter", "200"});
    EXPECT_EQ(r.status, 1);
    EXPECT_TRUE(r.says("3 answered, 1 failed")) << r.text;
    EXPECT_TRUE(r.says("first failure: line 4 (odd): 400")) << r.text;
    EXPECT_EQ(lines(file("b.out.jsonl")).size(), 3U);
    auto const failed = lines(file("b.errors.jsonl"));
    ASSERT_EQ(failed.size(), 1U);
    EXPECT_EQ(failed[0]["custom_id"], "odd");
    EXPECT_EQ(failed[0]["response"]["status_code"], 400);
    EXPECT_TRUE(failed[0]["error"]["code"].is_string());
}

TEST_F(qwen_demo, names_the_line_of_a_bad_batch) {
    auto const path = batch(2);
    std::ofstream(path, std::ios::app) << "{\"custom_id\":\n";
    auto r = run({"--batch", path});
    EXPECT_EQ(r.status, 2);
    EXPECT_TRUE(r.says(path + ":3: malformed JSON")) << r.text;
    EXPECT_FALSE(std::filesystem::exists(file("b.out.jsonl")));
    r = run({"--batch", file("absent.jsonl")});
    EXPECT_EQ(r.status, 2);
    EXPECT_TRUE(r.says("absent.jsonl: No such file")) << r.text;
}

TEST_F(qwen_demo, stops_at_once_at_a_wrong_key) {
    auto const b = batch(50);
    qwen::dashscope_simulator server(sixty_a_minute());
    server.start();
    auto const r = run({"--batch", b, "--base-url", server.base_url(), "--key", "sk-wrong"});
    EXPECT_EQ(r.status, 1);
    EXPECT_TRUE(r.says("refuses the key: 401")) << r.text;
    EXPECT_EQ(server.report().requests, 0U);
}

TEST_F(qwen_demo, stops_at_once_at_a_model_that_is_not_there) {
    auto const b = batch(50);
    qwen::dashscope_simulator server(sixty_a_minute());
    server.start();
    auto const r = run(against(server, {"--batch", b, "--model", "qwen9", "--in-flight", "1"}));
    EXPECT_EQ(r.status, 1);
    EXPECT_TRUE(r.says("refuses every call: 404")) << r.text;
    EXPECT_EQ(server.report().requests, 1U);
}

TEST_F(qwen_demo, names_an_endpoint_that_cannot_be_reached) {
    // A port that is taken, and not listened on.
    int const taken = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&address), length), 0);
    ::getsockname(taken, reinterpret_cast<sockaddr*>(&address), &length);
    auto const url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/v1";
    auto const r = run({"--batch", batch(50), "--base-url", url, "--key", "k"});
    ::close(taken);
    EXPECT_EQ(r.status, 1);
    EXPECT_TRUE(r.says("cannot reach " + url + ": ")) << r.text;
    EXPECT_TRUE(r.says("50 not finished")) << r.text;
}

TEST_F(qwen_demo, ends_at_a_full_disk) {
    auto const r = run({"--batch", batch(50), "--out", "/dev/full", "--speed", "20"});
    EXPECT_EQ(r.status, 1);
    EXPECT_TRUE(r.says("/dev/full: cannot write: No space left on device")) << r.text;
    EXPECT_FALSE(std::filesystem::exists("/dev/full.journal"));
}

TEST_F(qwen_demo, compares_with_what_others_do) {
    auto const r = run({"--batch", batch(30), "--compare", "--speed", "50", "--jitter", "50", "--tpm", "900"});
    EXPECT_EQ(r.status, 0) << r.text;
    EXPECT_TRUE(r.says("backoff only   fixed interval             weir")) << r.text;
    EXPECT_TRUE(r.says("share of the ideal")) << r.text;
    EXPECT_FALSE(std::filesystem::exists(file("b.out.jsonl")));
}

TEST_F(qwen_demo, advises_from_the_batch_alone_and_sends_nothing) {
    auto const r = run({"--batch", batch(600), "--advice", "only", "--rpm", "60", "--rps", "0", "--base-url",
                        "http://127.0.0.1:1/v1"});
    EXPECT_EQ(r.status, 0) << r.text;
    // 600 at 60 a minute: nine windows of 60.06 s and the last answers.
    EXPECT_TRUE(r.says("\nas it is")) << r.text;
    EXPECT_TRUE(r.says("9 min 1 s")) << r.text;
    for (char const* row : {"\nquota x 2 ", "\n2 accounts ", "\nfalls back to qwen-plus ",
                            "\nthrough a proxy at 0.88 of the price ", "\nalso a proxy at 0.88 of the price ",
                            "\n2 accounts, falls back to qwen-plus ", "\nrequested quota ", "\nno limits "}) {
        EXPECT_TRUE(r.says(row)) << row << " in " << r.text;
    }
    EXPECT_TRUE(r.says("RPM 99.")) << r.text;
    EXPECT_TRUE(r.says("Subject: request for a higher rate limit for qwen3-max")) << r.text;
    EXPECT_TRUE(r.says("requests per minute   ")) << r.text;
    EXPECT_TRUE(r.says("(now 60)")) << r.text;
    EXPECT_TRUE(r.says("tokens per minute     unchanged at 1,000,000")) << r.text;
    EXPECT_FALSE(std::filesystem::exists(file("b.out.jsonl")));
    auto const met = run({"--batch", batch(600), "--advice", "only", "--advice-within", "3600", "--price-in", "0"});
    EXPECT_EQ(met.status, 0) << met.text;
    EXPECT_TRUE(met.says("With the present quota all calls are done within 1 h.")) << met.text;
    EXPECT_FALSE(met.says("Subject:")) << met.text;
}

TEST_F(qwen_demo, advises_before_a_run_or_after_it_from_what_it_recorded) {
    auto const before = run(
        {"--batch", batch(80), "--speed", "50", "--jitter", "200", "--rpm", "60", "--rps", "0", "--advice", "before"});
    EXPECT_EQ(before.status, 0) << before.text;
    EXPECT_LT(before.text.find("Subject: request"), before.text.find("80 answered, 0 failed")) << before.text;
    std::filesystem::remove(file("b.out.jsonl"));
    auto const after = run(
        {"--batch", batch(80), "--speed", "50", "--jitter", "200", "--rpm", "60", "--rps", "0", "--advice", "after"});
    EXPECT_EQ(after.status, 0) << after.text;
    EXPECT_GT(after.text.find("Subject: request"), after.text.find("80 answered, 0 failed")) << after.text;
    EXPECT_TRUE(after.says("from the run's 80 answers")) << after.text;
    EXPECT_TRUE(after.says("80 calls, ")) << after.text;
    EXPECT_TRUE(after.says("as your answers reported")) << after.text;
}

TEST_F(qwen_demo, explains_itself_and_refuses_nonsense) {
    EXPECT_EQ(run({"--help"}).status, 0);
    for (auto const& arguments :
         std::vector<std::vector<std::string>>{{"--no-such-option"},
                                               {"--rpm"},
                                               {"--rpm", "many"},
                                               {"--rpm", "-1"},
                                               {"--speed", "0"},
                                               {"--token-mode", "guess"},
                                               {"--resume=yes"},
                                               {"--jitter", "nan"},
                                               {"batch.jsonl"},
                                               {"--compare", "--base-url", "http://127.0.0.1:1/v1"},
                                               {"--advice", "sometimes"},
                                               {"--advice", "only", "--scenario", "plan"},
                                               {"--expect", "101"},
                                               {"--resume"}}) {
        auto const r = run(arguments);
        EXPECT_EQ(r.status, 2) << arguments[0] << ": " << r.text;
        EXPECT_TRUE(r.text.starts_with("qwen_demo: ")) << r.text;
    }
    auto const r = run({"--batch", batch(1), "--model", "unheard-of"});
    EXPECT_EQ(r.status, 2);
    EXPECT_TRUE(r.says("state --rpm and --tpm")) << r.text;
}

// Those whose claims do not depend on how punctual the machine is; the others are run by hand.
TEST_F(qwen_demo, keeps_what_it_promises_when_things_go_wrong) {
    for (char const* name : {"free-quota", "plan", "outage", "mishaps"}) {
        auto const r = run({"--scenario", name, "--speed", "20", "--jitter", "40"});
        EXPECT_EQ(r.status, 0) << r.text;
        EXPECT_TRUE(r.says("held        nothing is lost")) << r.text;
        EXPECT_FALSE(r.says("NOT HELD")) << r.text;
    }
}

TEST_F(qwen_demo, lists_its_scenarios_and_refuses_another) {
    auto const all = run({"--scenario", "list"});
    EXPECT_EQ(all.status, 0);
    for (char const* name : {"steady", "two-keys", "too-large", "misjudged", "burst", "queued", "plan", "dialects",
                             "jitter", "mishaps", "free-quota", "cut-off", "halved", "outage", "strangers"}) {
        EXPECT_TRUE(all.says(std::string("\n") + name) || all.text.starts_with(name)) << name;
    }
    auto const none = run({"--scenario", "earthquake"});
    EXPECT_EQ(none.status, 2);
    EXPECT_TRUE(none.says("earthquake")) << none.text;
}

}  // namespace demo_test
