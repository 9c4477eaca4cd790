// SPDX-License-Identifier: MIT
#include "simulator.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "../qwen/http_server.hpp"
#include "answer_plan.hpp"
#include "chance.hpp"
#include "errors.hpp"
#include "runtime_changes.hpp"
#include "server_state.hpp"
#include "streaming.hpp"

namespace qwen {

namespace {

using json = nlohmann::json;
using ordered_json = nlohmann::ordered_json;
using namespace simulated;

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t look_ns = 1'000'000;         // real time between two looks at a time that is not the machine's
constexpr std::int64_t queue_turn_ns = 20'000'000;  // real time between two looks at the line, at most
constexpr char const* chat_path = "/compatible-mode/v1/chat/completions";
constexpr char const* native_path = "/api/v1/services/aigc/text-generation/generation";

std::string http_date(std::int64_t epoch_ms) {
    auto const t = static_cast<std::time_t>(epoch_ms / 1'000);
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    char out[64];
    std::strftime(out, sizeof out, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return out;
}

std::int64_t wall_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::map<std::string, account_state> const& account_states() {
    using enum account_state;
    static std::map<std::string, account_state> const all{{"good", good},
                                                          {"arrearage", arrearage},
                                                          {"unpurchased", unpurchased},
                                                          {"commodity_not_purchased", commodity_not_purchased},
                                                          {"prepaid_overdue", prepaid_overdue},
                                                          {"postpaid_overdue", postpaid_overdue}};
    return all;
}

std::vector<model_settings> international_models() {
    auto const m = [](char const* name, std::uint64_t rpm, std::uint64_t tpm) {
        return model_settings{.name = name, .limits = {.rpm = rpm, .tpm = tpm}};
    };
    return {m("qwen3-max", 600, 1'000'000),      m("qwen3-max-2025-09-23", 60, 100'000), m("qwen-max", 120, 100'000),
            m("qwen-plus", 600, 1'000'000),      m("qwen-flash", 600, 5'000'000),        m("qwen-turbo", 240, 100'000),
            m("qwen3.5-plus", 15'000, 5'000'000)};
}

// --- the server ------------------------------------------------------------------------------------------------------

class dashscope_simulator::impl {
public:
    impl(dashscope_simulator& self, simulator_settings s)
        : self_{self},
          settings_{std::move(s)},
          judge_{with_seed(settings_)},
          state_{settings_},
          burst_{settings_.burst, settings_.seed},
          server_{settings_.max_connections} {
        auto const require = [](bool fine, std::string const& why) {
            if (!fine) throw std::invalid_argument("simulator: " + why);
        };
        require(settings_.speed >= 1 && settings_.speed <= 1'000'000, "speed must be within 1 ... 1,000,000");
        require(settings_.latency.spread >= 0 && settings_.latency.spread <= 1,
                "the latency's spread must be within 0 ... 1");
        require(settings_.latency.first_token_s >= 0 && settings_.latency.tokens_per_s > 0,
                "a latency must not be negative");
        require(settings_.output.least >= 0 && settings_.output.least <= settings_.output.most &&
                    settings_.output.most <= 1,
                "shares of output must be within 0 ... 1");
        for (auto const& f : settings_.faults)
            require(f.rate >= 0 && f.rate <= 1, "a fault's rate must be within 0 ... 1");
        set_mishaps(settings_.mishaps);
        require(settings_.slow_body_s >= 0 && settings_.slow_body_s <= 1e6, "a slow body must take a time");
        require(settings_.chunk_tokens >= 1, "a chunk must have a token");
        for (auto const& m : settings_.models) judge_.set_limits(m.name, m.limits);
        for (auto const& a : settings_.accounts)
            for (auto const& [model, limits] : a.limits) judge_.set_limits(a.name, model, limits);
        for (auto const& c : settings_.changes) changes_.emplace(c.at_ns, change{c.name, parse_change(c.name, c.json)});
        next_change_ns_ = changes_.empty() ? never_ns : changes_.begin()->first;
        set_up_routes();
    }

    ~impl() { stop(); }

    void start() {
        errno = 0;
        port_ = server_.bind(settings_.port);
        if (port_ <= 0) {
            throw std::runtime_error("cannot listen on 127.0.0.1:" + std::to_string(settings_.port) +
                                     (errno != 0 ? std::string{": "} + std::strerror(errno) : std::string{}));
        }
        start_real_ = monotonic_ns();
        start_wall_ms_ = wall_ms();
        listener_ = std::thread{[this] { server_.listen_after_bind(); }};
        while (!server_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }

    void stop() {
        if (!listener_.joinable()) return;
        server_.cut_all();  // before any thread wakes: an answer that was not waited for must not get out
        {
            std::lock_guard const lock{sleepers_};
            stopping_ = true;
        }
        wake_.notify_all();
        server_.stop();
        listener_.join();
        std::lock_guard const lock{books_};
        stopped_at_ns_ = now_ns();
    }

    // Simulated time, and what the server's clock shows of it. Outages and latencies are of the first, all else of the
    // second.
    [[nodiscard]] std::int64_t true_ns(std::int64_t real) const {
        return settings_.time ? settings_.time() : (real - start_real_) * settings_.speed;
    }
    [[nodiscard]] std::int64_t at_real(std::int64_t real) const { return true_ns(real) + stepped_ns_; }
    [[nodiscard]] std::int64_t now_ns() const { return at_real(monotonic_ns()); }

    void begin_outage(std::string const& model, double seconds, failure what) {
        if (!(seconds >= 0 && seconds <= 1e9)) throw std::invalid_argument("simulator: an outage of no length");
        auto const since = as_of_ != never_ns ? as_of_ : true_ns(monotonic_ns());
        state_.begin_outage(model, what, since + std::llround(seconds * 1e9));
    }

    simulator_report report() const {
        simulator_report r;
        r.judge = judge_.report();
        r.rules = settings_.judge;
        r.speed = settings_.speed;
        std::lock_guard const lock{books_};
        r.elapsed_ns = stopped_at_ns_ ? *stopped_at_ns_ : now_ns();
        r.requests = requests_;
        r.by_status = by_status_;
        r.by_code = by_code_;
        r.by_mishap = by_mishap_;
        r.failed_changes = failed_changes_;
        return r;
    }

    void set_mishaps(mishap_rates m) {
        check(m);
        std::lock_guard const lock{books_};
        mishaps_ = m;
    }

    std::vector<request_record> take_records() {
        std::lock_guard const lock{books_};
        return std::exchange(records_, {});
    }

    dashscope_simulator& self_;
    simulator_settings settings_;
    quota_judge judge_;
    server_state state_;
    burst_guard burst_;
    std::atomic<std::int64_t> stepped_ns_{0};
    int port_ = 0;

private:
    using account_model = std::pair<std::string, std::string>;

    static judge_settings with_seed(simulator_settings const& s) {
        auto j = s.judge;
        j.seed = s.seed;
        return j;
    }

    struct exchange_state {
        dialect speaks;
        chance rng;
        std::int64_t arrival_real;
        request_record record;
    };

    void set_up_routes() {
        server_.set_payload_max_length(settings_.max_body);
        server_.set_keep_alive_max_count(1'000'000);
        server_.set_keep_alive_timeout(300);
        server_.set_tcp_nodelay(true);
        server_.Post(chat_path,
                     [this](httplib::Request const& q, httplib::Response& r) { chat(q, r, dialect::compatible); });
        server_.Post(native_path,
                     [this](httplib::Request const& q, httplib::Response& r) { chat(q, r, dialect::native); });
        server_.Get("/compatible-mode/v1/models",
                    [this](httplib::Request const& q, httplib::Response& r) { list_models(q, r); });
        server_.Get("/simulator/report", [this](httplib::Request const&, httplib::Response& r) {
            r.set_content(to_json(report()) + "\n", "application/json");
        });
        server_.Get("/simulator/clock", [this](httplib::Request const&, httplib::Response& r) {
            auto const real = monotonic_ns();
            r.set_content(
                ordered_json{{"monotonic_ns", real}, {"simulated_ns", at_real(real)}, {"speed", settings_.speed}}
                    .dump(),
                "application/json");
        });
        server_.Post("/simulator/([a-z_]+)",
                     [this](httplib::Request const& q, httplib::Response& r) { change_now(self_, q, r); });
        // What no handler saw: an unknown path, a body that was too large to be read.
        server_.set_error_handler([this](httplib::Request const& q, httplib::Response& r) {
            if (!r.body.empty()) return;
            auto x = begin(dialect::native);
            x.record.status = r.status;
            if (r.status == 413) {
                answer_problem(x, {failure::body_too_large}, r);
            } else {
                auto const what = r.status == 404 ? failure::invalid_url : failure::invalid_body;
                auto const status = r.status;
                answer_problem(x, {what}, r);
                r.status = status;
            }
            headers(x, r);
            if (q.path == chat_path || q.path == native_path) keep(x);
        });
    }

    void make_changes(std::int64_t now) {
        if (now < next_change_ns_) return;
        std::lock_guard const lock{changing_};
        while (!changes_.empty() && changes_.begin()->first <= now) {
            as_of_ = changes_.begin()->first;
            auto const c = changes_.extract(changes_.begin()).mapped();
            try {
                c.make(self_);
            } catch (std::invalid_argument const& e) {
                std::lock_guard const books{books_};
                failed_changes_.push_back(c.name + ": " + e.what());
            }
        }
        as_of_ = never_ns;
        next_change_ns_ = changes_.empty() ? never_ns : changes_.begin()->first;
    }

    static void change_now(dashscope_simulator& to, httplib::Request const& q, httplib::Response& r) {
        try {
            parse_change(q.matches[1].str(), q.body)(to);
            r.set_content("{\"changed\":true}\n", "application/json");
        } catch (std::invalid_argument const& e) {
            r.status = 400;
            r.set_content(ordered_json{{"error", e.what()}}.dump() + "\n", "application/json");
        }
    }

    exchange_state begin(dialect d) {
        auto const real = http_server::arrival_ns();
        make_changes(true_ns(real));
        auto const number = ++arrivals_;
        exchange_state x{d, chance{settings_.seed * 0x9e3779b97f4a7c15u + number}, real, {}};
        x.record.number = number;
        x.record.arrival_ns = at_real(real);
        x.record.request_id = uuid(x.rng);
        return x;
    }

    std::optional<std::string> account_of(httplib::Request const& q) const {
        auto const value = q.get_header_value("Authorization");
        constexpr std::string_view scheme = "Bearer ";
        if (value.compare(0, scheme.size(), scheme) != 0) return std::nullopt;
        return state_.account_of(std::string_view{value}.substr(scheme.size()));
    }

    void list_models(httplib::Request const& q, httplib::Response& r) {
        auto x = begin(dialect::compatible);
        if (!account_of(q)) {
            answer_problem(x, {failure::invalid_api_key}, r);
        } else {
            auto data = ordered_json::array();
            for (auto const& m : state_.model_names())
                data.push_back(
                    {{"id", m}, {"object", "model"}, {"created", start_wall_ms_ / 1'000}, {"owned_by", "system"}});
            r.set_content(ordered_json{{"object", "list"}, {"data", std::move(data)}}.dump(), "application/json");
        }
        headers(x, r);
    }

    // A request on its way. What it took is given back by complete() and end(), once.
    struct call : exchange_state {
        explicit call(exchange_state x) : exchange_state{std::move(x)} {}
        planned_answer planned{};
        asked wants{};
        mishap drawn = mishap::none;
        bool stream = false, inside = false, fails = false, ended = false;
        std::uint64_t ticket = 0, made = 0;      // made: of the output, and sent
        std::int64_t began_ns = 0;               // true time
        std::int64_t first_ns = 0, last_ns = 0;  // of the first and the last token, from then
    };

    void chat(httplib::Request const& q, httplib::Response& r, dialect d) {
        auto const c = std::make_shared<call>(begin(d));
        auto p = admit(q, *c);
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
            answer_problem(*c, *p, r);
            headers(*c, r);
        } else {
            answer(*c, r);
        }
        end(*c);
    }

    // Admits, or says what is wrong, in the order of the real server: the key, the model, permission, the body's form,
    // and room.
    std::optional<problem> admit(httplib::Request const& q, call& c) {
        auto const account = account_of(q);
        if (!account) return problem{failure::invalid_api_key};
        c.record.account = *account;

        auto const body = json::parse(q.body, nullptr, false);
        if (!body.is_object()) return problem{failure::invalid_body};

        auto const name = model_in(body);
        if (name.empty()) return problem{failure::invalid_parameter, "you must provide a model parameter"};
        auto const found = state_.model(name);
        if (found == nullptr) {
            return problem{failure::model_not_found,
                           c.speaks == dialect::native
                               ? std::string{}
                               : "The model `" + name + "` does not exist or you do not have access to it."};
        }
        auto const& model = *found;
        c.record.model = name;

        c.wants = read_request(body, c.speaks, model);
        auto const& a = c.wants;
        c.stream = a.stream || (c.speaks == dialect::native && q.get_header_value("X-DashScope-SSE") == "enable");
        auto const injected = draw_fault(a, c.rng);
        auto const hit = [&injected](failure f) { return injected == f; };
        c.drawn = draw_mishap(c);
        if (c.drawn == mishap::dropped_before) return std::nullopt;

        for (auto const f : {failure::body_too_large, failure::invalid_api_key, failure::invalid_body,
                             failure::model_not_found, failure::invalid_url})
            if (hit(f)) return problem{f};
        if (auto const f = state_.account_trouble(*account)) return problem{*f};
        for (auto const f : {failure::arrearage, failure::unpurchased, failure::commodity_not_purchased,
                             failure::prepaid_overdue, failure::postpaid_overdue})
            if (hit(f)) return problem{f};
        if (auto const e = state_.plan_trouble(*account, c.record.arrival_ns)) return plan_problem(*e, c.record);
        if (auto const f = state_.free_quota_trouble(*account, name)) return problem{*f};
        for (auto const f :
             {failure::free_tier_only, failure::free_quota_exceeded, failure::plan_quota, failure::plan_usage})
            if (hit(f)) return problem{f};

        if (!a.fault.empty()) return problem{failure::invalid_parameter, a.fault};
        if (hit(failure::invalid_parameter)) return problem{failure::invalid_parameter};
        c.planned = plan(settings_, model, a);
        if (c.planned.input > model.max_input) {
            return problem{failure::invalid_parameter,
                           "Range of input length should be [1, " + std::to_string(model.max_input) + "]"};
        }
        c.record.input = c.planned.input;
        c.record.max_tokens = c.planned.max_tokens;
        if (hit(failure::data_inspection) ||
            (!settings_.inspected_word.empty() && a.prompt.find(settings_.inspected_word) != std::string::npos)) {
            return problem{failure::data_inspection};
        }
        if (auto const f = state_.outage(name, true_ns(c.arrival_real))) return problem{*f};
        for (auto const f :
             {failure::serving_error, failure::model_unavailable, failure::route_throttling, failure::concurrency,
              failure::burst_rate, failure::rate_quota, failure::allocation_quota, failure::batch_throttling})
            if (hit(f)) return problem{f};
        c.fails = hit(failure::internal_error);

        if (!enter(*account, name)) return problem{failure::concurrency};
        c.inside = true;
        if (auto p = pass_burst(q, c)) return p;
        return judged(q, c);
    }

    problem plan_problem(plan_quota::exhausted const& e, request_record const& record) const {
        auto const seconds = (e.reset_ns - record.arrival_ns + second_ns - 1) / second_ns;
        auto const reset_ms = epoch_ms(record.arrival_ns) + (e.reset_ns - record.arrival_ns) / 1'000'000;
        return {failure::plan_quota, plan_message(e.period, (reset_ms + 999) / 1'000), seconds};
    }

    // Burst protection, and its queue.
    std::optional<problem> pass_burst(httplib::Request const& q, call& c) {
        if (!settings_.burst.on) return std::nullopt;
        auto& record = c.record;
        auto const wait = wait_timeout_s(q.get_header_value("X-DashScope-Wait-Timeout")) * second_ns;
        auto o = burst_.arrive(record.account, record.model, record.arrival_ns, wait);
        while (o.is == burst_guard::answer::waits) {
            // The line moves when those ahead go, without a notice: hence not too long at once.
            auto const real = monotonic_ns();
            auto const due = burst_.look_again_at(o.ticket, at_real(real)) - stepped_ns_;
            auto const soon = true_ns(real) + queue_turn_ns * settings_.speed;
            if (auto const why = wait_until(std::min(due, soon), true, true); why != mishap::none) {
                burst_.leave(o.ticket);
                record.befell = why;
                return problem{failure::burst_rate};
            }
            auto const now = now_ns();
            o.is = burst_.look(o.ticket, now);
            record.queued_ns = std::max<std::int64_t>(0, now - record.arrival_ns);
        }
        return o.is == burst_guard::answer::refused ? std::optional{problem{failure::burst_rate}} : std::nullopt;
    }

    std::optional<problem> judged(httplib::Request const& q, call& c) {
        auto& record = c.record;
        auto const asked_at = record.arrival_ns + record.queued_ns;
        auto const v = judge_.arrive(record.account, record.model, asked_at, record.input, record.max_tokens);
        record.rule = v.rule;
        record.sums = v.sums;
        note_stamp(q, c, (v.time_ns - asked_at) / settings_.speed);
        record.arrival_ns = v.time_ns - record.queued_ns;
        if (!v.admitted) {
            problem p{v.rule == server_rule::rps || v.rule == server_rule::rpm ? failure::rate_quota
                                                                               : failure::allocation_quota};
            if (settings_.retry_after && v.retry_at_ns != never_ns)
                p.retry_after_s = (v.retry_at_ns - v.time_ns + second_ns - 1) / second_ns;
            return p;
        }
        c.ticket = v.ticket;
        c.began_ns = true_ns(record.queued_ns == 0 ? c.arrival_real : monotonic_ns());
        auto const flying = ++flying_;
        auto slower = 1.0;
        if (settings_.latency.capacity && *settings_.latency.capacity != 0) {
            auto const load =
                std::min(0.9, static_cast<double>(flying) / static_cast<double>(*settings_.latency.capacity));
            slower = 1 / (1 - load);
        }
        c.first_ns = std::llround(static_cast<double>(c.planned.first_token_ns) * slower);
        c.last_ns = std::llround(static_cast<double>(c.planned.latency_ns) * slower);
        return std::nullopt;
    }

    // An answer in one piece: made when this returns, or failed.
    std::optional<problem> work(call& c) {
        auto const why = wait_until(c.began_ns + c.last_ns, false, false);
        if (why != mishap::none) c.record.befell = why;
        bool const made = why == mishap::none && !c.fails && c.record.befell != mishap::soft_failure;
        complete(c, made ? c.planned.output : 0);
        if (why != mishap::none) return problem{failure::model_unavailable};
        if (c.fails) return problem{failure::internal_error};
        return std::nullopt;
    }

    // The judge counts the output. What failed before a token was made costs no free tokens and no credits.
    void complete(call& c, std::uint64_t output) {
        if (c.ticket == 0) return;
        auto const now = now_ns();
        c.record.output = output;
        judge_.complete(std::exchange(c.ticket, 0), now, output);
        --flying_;
        bool const fails = c.fails || c.record.befell == mishap::soft_failure ||
                           (output == 0 && c.record.befell == mishap::server_stopped);
        if (!fails) state_.spent(c.record.account, c.record.model, c.planned.input + output, now);
    }

    void stream(std::shared_ptr<call> const& c, httplib::Response& r) {
        auto& record = c->record;
        record.streamed = true;
        stream_facts const f{.speaks = c->speaks,
                             .request_id = record.request_id,
                             .model = record.model,
                             .created_s = epoch_ms(record.arrival_ns) / 1'000,
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
            auto const why = wait_until(c->began_ns + (*events)[i].due_ns, true, false);
            if (why == mishap::none) return true;
            c->record.befell = why;
            complete(*c, c->made);
            end(*c);
            return false;
        };
        if (!due(0)) return http_server::current().drop();
        if (record.befell == mishap::dropped_after) {
            if (due(events->size() - 1)) complete(*c, c->planned.output);
            end(*c);
            return http_server::current().drop();
        }
        record.status = r.status = 200;
        headers(*c, r);
        r.set_chunked_content_provider(
            "text/event-stream",
            [this, c, events, due, i = std::size_t{0}](std::size_t, httplib::DataSink& sink) mutable {
                if (!due(i)) return false;
                auto const& e = (*events)[i++];
                bool const last = i == events->size();
                c->made = e.tokens_made;
                if (last) {  // counted before the client can see that it is the last
                    if (c->record.befell == mishap::midstream_error) c->record.code = "Throttling.AllocationQuota";
                    complete(*c, c->made);
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
                complete(*c, c->made);
                end(*c);
            });
    }

    std::optional<failure> draw_fault(asked const& a, chance& rng) const {
        if (auto const told = failure_named(a.simulate_error)) return told;
        for (auto const& f : settings_.faults)
            if (rng.unit() < f.rate) return f.what;
        return std::nullopt;
    }

    mishap draw_mishap(call& c) {
        if (auto const told = mishap_named(c.wants.simulate_mishap)) return *told;
        mishap_rates rates;
        {
            std::lock_guard const lock{books_};
            rates = mishaps_;
        }
        return draw(rates, c.stream, c.rng);
    }

    bool enter(std::string const& account, std::string const& model) {
        if (!settings_.max_in_flight) return true;
        std::lock_guard const lock{books_};
        auto& n = inside_[{account, model}];
        return n < *settings_.max_in_flight && ++n != 0;
    }

    void leave(std::string const& account, std::string const& model) {
        if (!settings_.max_in_flight) return;
        std::lock_guard const lock{books_};
        --inside_[{account, model}];
    }

    void note_stamp(httplib::Request const& q, exchange_state& x, std::int64_t counted_later_ns) {
        constexpr std::int64_t hour = 3'600 * second_ns;
        auto const text = q.get_header_value("X-Weir-Stamp");
        if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) return;
        auto const delay = x.arrival_real - std::stoll(text) + counted_later_ns;
        if (delay > hour || delay < -hour) return;  // of some other clock
        x.record.delay_ns = delay;
        judge_.note_delay(delay);
    }

    // Until then, in true time: none; or why it ended before. Work goes on when its client is gone, what is done for
    // the client does not. With settings.time only what `always` waits does, or everything with wait_on_time.
    mishap wait_until(std::int64_t due, bool for_client, bool always) {
        bool const at_once = settings_.time && !settings_.wait_on_time && !always;
        for (;;) {
            auto const real = monotonic_ns();
            bool const over = at_once || due <= true_ns(real);
            auto const until = over             ? real
                               : settings_.time ? real + look_ns
                                                : start_real_ + (due + settings_.speed - 1) / settings_.speed;
            bool const left = for_client && http_server::current().peer_left_by(until);
            {
                std::unique_lock lock{sleepers_};
                if (!for_client && !over) {
                    auto const at = std::chrono::steady_clock::time_point{std::chrono::nanoseconds{until}};
                    wake_.wait_until(lock, at, [this] { return stopping_; });
                }
                if (stopping_) return mishap::server_stopped;
            }
            if (left) return mishap::client_left;
            if (over) return mishap::none;
        }
    }

    void answer(call& c, httplib::Response& r) {
        auto& record = c.record;
        bool const soft = record.befell == mishap::soft_failure;
        auto const text = soft ? text_of(failure::burst_rate, c.rng)
                               : "A simulated answer of " + std::to_string(c.planned.output) + " tokens.";
        auto const input = soft ? 0 : c.planned.input, output = soft ? 0 : c.planned.output;
        auto const reason = !soft && c.planned.output == c.planned.max_tokens ? "length" : "stop";
        ordered_json j;
        if (c.speaks == dialect::native) {
            j = {{"output",
                  {{"choices", ordered_json::array({{{"finish_reason", reason},
                                                     {"message", {{"role", "assistant"}, {"content", text}}}}})}}},
                 {"usage", {{"total_tokens", input + output}, {"output_tokens", output}, {"input_tokens", input}}},
                 {"request_id", record.request_id}};
        } else {
            j = {{"choices", ordered_json::array({{{"message", {{"role", "assistant"}, {"content", text}}},
                                                   {"finish_reason", reason},
                                                   {"index", 0},
                                                   {"logprobs", nullptr}}})},
                 {"object", "chat.completion"},
                 {"usage",
                  {{"prompt_tokens", input},
                   {"completion_tokens", output},
                   {"total_tokens", input + output},
                   {"prompt_tokens_details", {{"cached_tokens", 0}}}}},
                 {"created", epoch_ms(record.arrival_ns) / 1'000},
                 {"system_fingerprint", nullptr},
                 {"model", record.model},
                 {"id", "chatcmpl-" + record.request_id}};
        }
        record.status = r.status = 200;
        headers(c, r);
        auto body = j.dump();
        constexpr char const* type = "application/json";
        switch (record.befell) {
            case mishap::garbage_body: r.set_content(garbage(body.size(), c.rng), type); break;
            case mishap::truncated_body:
                r.set_content_provider(body.size(), type, [body](std::size_t, std::size_t, httplib::DataSink& sink) {
                    sink.write(body.data(), body.size() / 2);
                    return false;
                });
                break;
            case mishap::slow_body: slowly(std::move(body), type, r); break;
            default: r.set_content(body, type);
        }
    }

    void slowly(std::string body, char const* type, httplib::Response& r) {
        auto const began = true_ns(monotonic_ns());
        auto const size = body.size();
        r.set_content_provider(
            size, type, [this, began, body = std::move(body)](std::size_t at, std::size_t, httplib::DataSink& sink) {
                constexpr std::size_t pieces = 10;
                auto const n = std::min(body.size() - at, body.size() / pieces + 1);
                auto const share = static_cast<double>(at + n) / static_cast<double>(body.size());
                auto const due = began + std::llround(settings_.slow_body_s * 1e9 * share);
                if (wait_until(due, true, false) != mishap::none) return false;
                sink.write(body.data() + at, n);
                return http_server::current().flush();
            });
    }

    void answer_problem(exchange_state& x, problem const& p, httplib::Response& r) {
        auto e = render(p, {x.speaks, settings_.shape, settings_.international, x.record.request_id}, x.rng);
        if (p.retry_after_s) r.set_header("Retry-After", std::to_string(*p.retry_after_s));
        x.record.status = r.status = e.status;
        x.record.code = std::move(e.code);
        r.set_content(e.body, e.content_type.c_str());
    }

    [[nodiscard]] std::int64_t epoch_ms(std::int64_t simulated_ns) const {
        return start_wall_ms_ + simulated_ns / 1'000'000;
    }

    void headers(exchange_state& x, httplib::Response& r) const {
        auto const now = now_ns();
        auto const cost = std::max<std::int64_t>(0, (now - x.record.arrival_ns) / 1'000'000);
        r.set_header("x-request-id", x.record.request_id);
        r.set_header("x-dashscope-call-gateway", "true");
        r.set_header("req-arrive-time", std::to_string(epoch_ms(x.record.arrival_ns)));
        r.set_header("resp-start-time", std::to_string(epoch_ms(now)));
        r.set_header("req-cost-time", std::to_string(cost));
        r.set_header("x-envoy-upstream-service-time", std::to_string(cost));
        r.set_header("date", http_date(epoch_ms(now)));
        r.set_header("server", "istio-envoy");
        r.set_header("vary", "Origin,Access-Control-Request-Method,Access-Control-Request-Headers");
        if (r.status == 200 && !x.record.streamed) r.set_header("x-dashscope-finished", "true");
    }

    void end(call& c) {
        if (std::exchange(c.ended, true)) return;
        if (std::exchange(c.inside, false)) leave(c.record.account, c.record.model);
        keep(c);
    }

    void keep(exchange_state& x) {
        x.record.done_ns = now_ns();
        std::lock_guard const lock{books_};
        ++requests_;
        ++by_status_[x.record.status];
        if (!x.record.code.empty()) ++by_code_[x.record.code];
        if (x.record.befell != mishap::none) ++by_mishap_[std::string{to_string(x.record.befell)}];
        if (settings_.keep_records) records_.push_back(std::move(x.record));
    }

    std::int64_t start_real_ = 0, start_wall_ms_ = 0;
    std::atomic<std::uint64_t> arrivals_{0}, flying_{0};
    std::optional<std::int64_t> stopped_at_ns_;

    struct change {
        std::string name;
        std::function<void(dashscope_simulator&)> make;
    };
    inline static thread_local std::int64_t as_of_ = never_ns;  // of the scheduled change that this thread makes
    std::mutex changing_;
    std::multimap<std::int64_t, change> changes_;
    std::atomic<std::int64_t> next_change_ns_{never_ns};

    std::mutex sleepers_;
    std::condition_variable wake_;
    bool stopping_ = false;

    mutable std::mutex books_;
    std::map<account_model, std::uint64_t> inside_;
    mishap_rates mishaps_;
    std::uint64_t requests_ = 0;
    std::map<int, std::uint64_t> by_status_;
    std::map<std::string, std::uint64_t> by_code_, by_mishap_;
    std::vector<request_record> records_;
    std::vector<std::string> failed_changes_;

    http_server server_;
    std::thread listener_;
};

dashscope_simulator::dashscope_simulator(simulator_settings s) : impl_{std::make_unique<impl>(*this, std::move(s))} {}
dashscope_simulator::~dashscope_simulator() = default;
void dashscope_simulator::start() { impl_->start(); }
void dashscope_simulator::stop() { impl_->stop(); }
int dashscope_simulator::port() const noexcept { return impl_->port_; }
std::string dashscope_simulator::origin() const { return "http://127.0.0.1:" + std::to_string(impl_->port_); }
std::string dashscope_simulator::base_url() const { return origin() + "/compatible-mode/v1"; }
std::string dashscope_simulator::native_base_url() const { return origin() + "/api/v1"; }
simulator_report dashscope_simulator::report() const { return impl_->report(); }
std::vector<request_record> dashscope_simulator::take_records() { return impl_->take_records(); }
std::size_t dashscope_simulator::waiting(std::string const& account, std::string const& model) const {
    return impl_->burst_.waiting(account, model);
}
std::int64_t dashscope_simulator::now_ns() const { return impl_->now_ns(); }
void dashscope_simulator::set_limits(std::string const& model, server_limits l) { impl_->judge_.set_limits(model, l); }
void dashscope_simulator::set_limits(std::string const& account, std::string const& model, server_limits l) {
    impl_->judge_.set_limits(account, model, l);
}
void dashscope_simulator::set_spend_tier(std::string const& account, std::string const& model, std::uint64_t tpm,
                                         double soft) {
    if (!(soft >= 0 && soft <= 1)) throw std::invalid_argument("simulator: a share must be within 0 ... 1");
    change_limits(account, model, [=](server_limits& l) { l.tpm = tpm, l.tpm_soft = soft; });
}
void dashscope_simulator::change_limits(std::string const& model, std::function<void(server_limits&)> const& how) {
    impl_->judge_.change_limits(model, how);
}
void dashscope_simulator::change_limits(std::string const& account, std::string const& model,
                                        std::function<void(server_limits&)> const& how) {
    impl_->judge_.change_limits(account, model, how);
}
server_limits dashscope_simulator::limits_of(std::string const& account, std::string const& model) const {
    return impl_->judge_.limits_of(account, model);
}
void dashscope_simulator::set_account(std::string const& account, account_state s) {
    impl_->state_.set_account(account, s);
}
void dashscope_simulator::add_key(std::string const& key, std::string const& account) {
    impl_->state_.add_key(key, account);
}
void dashscope_simulator::revoke_key(std::string const& key) { impl_->state_.revoke_key(key); }
void dashscope_simulator::set_free_quota(std::string const& account, std::string const& model, free_tier tier,
                                         std::uint64_t tokens) {
    impl_->state_.set_free_quota(account, model, tier, tokens);
}
void dashscope_simulator::set_plan(std::string const& account, plan_settings p) { impl_->state_.set_plan(account, p); }
void dashscope_simulator::set_mishaps(mishap_rates m) { impl_->set_mishaps(m); }
void dashscope_simulator::set_model(model_settings m) {
    impl_->judge_.set_limits(m.name, m.limits);
    impl_->state_.set_model(std::move(m));
}
void dashscope_simulator::remove_model(std::string const& name) { impl_->state_.remove_model(name); }
void dashscope_simulator::outage(double seconds, failure what) { impl_->begin_outage({}, seconds, what); }
void dashscope_simulator::outage_of_model(std::string const& model, double seconds, failure what) {
    impl_->begin_outage(model, seconds, what);
}
void dashscope_simulator::step_clock(std::int64_t ns) { impl_->stepped_ns_ += ns; }
simulator_settings const& dashscope_simulator::settings() const noexcept { return impl_->settings_; }

}  // namespace qwen
