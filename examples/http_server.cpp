// SPDX-License-Identifier: MIT
// A limit for each route of a cpp-httplib server. A request above the limit is answered 429 with Retry-After before any
// handler runs.
#include <httplib.h>

#include <weir/token_bucket.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;

// Limiters do not move. A std::deque constructs its elements in place and never moves them.
struct route_limit {
    route_limit(std::string p, weir::rate r, weir::permit_count burst) : path{std::move(p)}, limit{r, burst} {}

    std::string path;
    weir::token_bucket<> limit;
};

int main() {
    std::deque<route_limit> limits;  // filled before the server starts, then only read
    limits.emplace_back("/search", weir::rate{5, 1min}, 5);
    limits.emplace_back("/report", weir::rate{1, 1min}, 2);

    httplib::Server server;
    server.set_pre_routing_handler([&](httplib::Request const& request, httplib::Response& response) {
        using result = httplib::Server::HandlerResponse;
        auto const route =
            std::find_if(limits.begin(), limits.end(), [&](route_limit const& r) { return r.path == request.path; });
        if (route == limits.end()) return result::Unhandled;
        auto const d = route->limit.try_acquire();
        if (d) return result::Unhandled;
        response.status = 429;
        response.set_header("Retry-After", std::to_string(d.retry_after_seconds()));
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
