// SPDX-License-Identifier: MIT
#include "completions.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "http_server.hpp"
#include "reply.hpp"
#include "streaming.hpp"

namespace qwen::simulated {

void completions::serve(exchange x, httplib::Request const& q, httplib::Response& r) {
    auto const c = std::make_shared<completion_call>(std::move(x));
    auto p = admission_.admit(q, *c);
    bool const runs = !p && c->drawn != mishap::dropped_before;
    if (!p) c->record.befell = c->drawn;
    if (runs && c->stream && !c->fails) return stream(c, r);
    if (runs) p = work(*c);
    if (auto const b = c->record.befell; b == mishap::dropped_before || (b == mishap::dropped_after && !p)) {
        end(*c);  // before the client can know
        return http_server::current().drop();
    }
    if (p) {
        if (c->record.befell == c->drawn) c->record.befell = mishap::none;  // it failed by itself
        set_problem(r, *p, *c, settings_);
        set_gateway_headers(r, c->record, clock_);
    } else {
        answer(*c, r);
    }
    end(*c);
}

// An answer in one piece: made when this returns, or failed.
std::optional<problem> completions::work(completion_call& c) {
    auto const why = clock_.wait_until(c.began_ns + c.last_ns, wait_reason::work);
    if (why != mishap::none) c.record.befell = why;
    bool const made = why == mishap::none && !c.fails && c.record.befell != mishap::soft_failure;
    admission_.complete(c, made ? c.planned.output : 0);
    if (why != mishap::none) return problem{failure::model_unavailable};
    if (c.fails) return problem{failure::internal_error};
    return std::nullopt;
}

void completions::stream(call_ptr const& c, httplib::Response& r) {
    auto& record = c->record;
    record.streamed = true;
    stream_facts const f{.speaks = c->speaks,
                         .request_id = record.request_id,
                         .model = record.model,
                         .created_s = clock_.epoch_ms(record.arrival_ns) / 1'000,
                         .input = c->planned.input,
                         .output = c->planned.output,
                         .limited = c->planned.output == c->planned.max_tokens,
                         .include_usage = c->wants.include_usage,
                         .incremental = c->wants.incremental,
                         .chunk_tokens = settings_.chunk_tokens,
                         .first_ns = c->first_ns,
                         .last_ns = c->last_ns,
                         .befalls = record.befell,
                         .slow_ns = std::llround(settings_.slow_body_s * 1e9)};
    auto const events = std::make_shared<std::vector<stream_event> const>(stream_events(f, c->rng));
    auto const due = [this, c, events](std::size_t i) {
        auto const why = clock_.wait_until(c->began_ns + (*events)[i].due_ns, wait_reason::client);
        if (why == mishap::none) return true;
        c->record.befell = why;
        admission_.complete(*c, c->made);
        end(*c);
        return false;
    };
    if (!due(0)) return http_server::current().drop();
    if (record.befell == mishap::dropped_after) {
        if (due(events->size() - 1)) admission_.complete(*c, c->planned.output);
        end(*c);
        return http_server::current().drop();
    }
    record.status = r.status = 200;
    set_gateway_headers(r, record, clock_);
    r.set_chunked_content_provider(
        "text/event-stream",
        [this, c, events, due, i = std::size_t{0}](std::size_t, httplib::DataSink& sink) mutable {
            if (!due(i)) return false;
            auto const& e = (*events)[i++];
            bool const last = i == events->size();
            c->made = e.tokens_made;
            if (last) {  // counted before the client can see that it is the last
                if (c->record.befell == mishap::midstream_error) c->record.code = "Throttling.AllocationQuota";
                admission_.complete(*c, c->made);
                end(*c);
            }
            if (!sink.write(e.text.data(), e.text.size()) || !http_server::current().flush() || e.breaks_off)
                return false;
            if (last) sink.done();
            return true;
        },
        // A client that left while a piece was on its way.
        [this, c](bool) {
            if (c->ended) return;
            c->record.befell = mishap::client_left;
            admission_.complete(*c, c->made);
            end(*c);
        });
}

void completions::answer(completion_call& c, httplib::Response& r) {
    auto body = completion_body(c, clock_.epoch_ms(c.record.arrival_ns) / 1'000);
    c.record.status = r.status = 200;
    set_gateway_headers(r, c.record, clock_);
    switch (c.record.befell) {
        case mishap::garbage_body: r.set_content(garbage(body.size(), c.rng), "application/json"); break;
        case mishap::truncated_body:
            r.set_content_provider(body.size(), "application/json",
                                   [body](std::size_t, std::size_t, httplib::DataSink& sink) {
                                       sink.write(body.data(), body.size() / 2);
                                       return false;
                                   });
            break;
        case mishap::slow_body: answer_slowly(std::move(body), r); break;
        default: r.set_content(body, "application/json");
    }
}

void completions::answer_slowly(std::string body, httplib::Response& r) {
    auto const began = clock_.true_ns();
    auto const size = body.size();
    r.set_content_provider(size, "application/json",
                           [this, began, body = std::move(body)](std::size_t at, std::size_t, httplib::DataSink& sink) {
                               constexpr std::size_t pieces = 10;
                               auto const n = std::min(body.size() - at, body.size() / pieces + 1);
                               auto const share = static_cast<double>(at + n) / static_cast<double>(body.size());
                               auto const due = began + std::llround(settings_.slow_body_s * 1e9 * share);
                               if (clock_.wait_until(due, wait_reason::client) != mishap::none) return false;
                               sink.write(body.data() + at, n);
                               return http_server::current().flush();
                           });
}

void completions::end(completion_call& c) {
    if (std::exchange(c.ended, true)) return;
    admission_.leave(c);
    log_.add(std::move(c.record), clock_.shown_ns());
}

}  // namespace qwen::simulated
