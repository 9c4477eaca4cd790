// SPDX-License-Identifier: MIT
//
// What it costs to judge an answer, as a ratio to a pass of memchr over the same body in the same run.
#include <weir/llm/verdict.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

using clock_type = std::chrono::steady_clock;

template <class F>
double fastest_us(F f) {
    double best = 1e9;
    for (int round = 0; round < 20; ++round) {
        auto const begin = clock_type::now();
        f();
        best = (std::min)(best, std::chrono::duration<double, std::micro>(clock_type::now() - begin).count());
    }
    return best;
}

void show(char const* name, std::string const& body, int status) {
    weir::llm::answer a;
    a.dialect = weir::llm::dialect::openai;
    a.status = status;
    a.body = body;
    a.now = std::chrono::sys_seconds{std::chrono::seconds{1'774'555'200}};
    unsigned volatile sink = 0;
    double const judged = fastest_us([&] { sink = sink + static_cast<unsigned>(classify(a).cause); });
    double const floor =
        fastest_us([&] { sink = sink + (std::memchr(body.data(), 1, body.size()) != nullptr ? 1U : 0U); });
    std::printf("%-28s %9zu bytes  %9.1f us  %7.1f x memchr\n", name, body.size(), judged, judged / floor);
}

}  // namespace

int main() {
    std::string const refusal =
        R"("error":{"message":"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, )"
        R"(Requested 4000. Please try again in 6s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}})";
    std::string const filler(1U << 20U, 'x');
    show("a refusal", "{" + refusal, 429);
    show("1 MB message", R"({"error":{"message":")" + filler + R"( try again in 6s"}})", 429);
    show("1 MB before the error", R"({"debug":")" + filler + "\"," + refusal, 429);
    std::string stream;
    while (stream.size() < filler.size())
        stream += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"},\"finish_reason\":null}]}\n\n";
    show("1 MB stream, answered", stream + "data: [DONE]\n\n", 200);
    show("1 MB page", "<html><title>429 Too Many Requests</title>" + filler, 429);
}
