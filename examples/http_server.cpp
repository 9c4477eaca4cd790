// SPDX-License-Identifier: MIT
// A limit per route in a cpp-httplib server: what exceeds it is answered 429 with Retry-After before any handler runs.
#include <httplib.h>

#include <weir/token_bucket.hpp>

#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <thread>

using namespace std::chrono_literals;

int main() {
    std::map<std::string, weir::token_bucket<>, std::less<>> limits;  // filled before the server starts, then only read
    limits.try_emplace("/search", weir::rate{5, 1min}, 5U);
    limits.try_emplace("/report", weir::rate{1, 1min}, 2U);

    httplib::Server server;
    server.set_pre_routing_handler([&](httplib::Request const& request, httplib::Response& response) {
        using result = httplib::Server::HandlerResponse;
        auto const limit = limits.find(request.path);
        if (limit == limits.end()) return result::Unhandled;
        auto const d = limit->second.try_acquire();
        if (d) return result::Unhandled;
        response.status = 429;
        // Whole seconds, rounded up: who waits that long is not refused again.
        response.set_header("Retry-After",
                            std::to_string(std::chrono::ceil<std::chrono::seconds>(d.retry_after()).count()));
        return result::Handled;
    });
    for (auto const* route : {"/search", "/report", "/health"}) {
        server.Get(route, [](httplib::Request const&, httplib::Response& r) { r.set_content("ok\n", "text/plain"); });
    }
    int const port = server.bind_to_any_port("127.0.0.1");
    if (port < 0) return 1;
    std::thread serving{[&] { server.listen_after_bind(); }};

    httplib::Client client{"127.0.0.1", port};
    client.set_tcp_nodelay(true);
    bool as_expected = true;
    auto const ask = [&](char const* route, int status) {
        auto const answer = client.Get(route);
        int const got = answer ? answer->status : 0;
        auto const wait = answer ? answer->get_header_value("Retry-After") : "";
        std::printf("%s: %d%s%s\n", route, got, wait.empty() ? "" : ", retry after ", wait.c_str());
        as_expected = as_expected && got == status && wait.empty() == (status != 429);
    };
    for (int i = 0; i < 5; ++i) ask("/search", 200);
    ask("/search", 429);
    for (int i = 0; i < 2; ++i) ask("/report", 200);
    ask("/report", 429);
    for (int i = 0; i < 3; ++i) ask("/health", 200);

    server.stop();
    serving.join();
    return as_expected ? 0 : 1;
}
