// SPDX-License-Identifier: MIT
#include "simulator.hpp"

#include <nlohmann/json.hpp>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>

#include "admission_control.hpp"
#include "chance.hpp"
#include "change_schedule.hpp"
#include "completions.hpp"
#include "errors.hpp"
#include "exchange.hpp"
#include "http_server.hpp"
#include "reply.hpp"
#include "request_log.hpp"
#include "runtime_changes.hpp"
#include "server_clock.hpp"
#include "server_state.hpp"

namespace qwen {

namespace {

using ordered_json = nlohmann::ordered_json;
using namespace simulated;

constexpr char const* chat_path = "/compatible-mode/v1/chat/completions";
constexpr char const* native_path = "/api/v1/services/aigc/text-generation/generation";
constexpr char const* json_type = "application/json";

judge_settings with_seed(simulator_settings const& s) {
    auto j = s.judge;
    j.seed = s.seed;
    return j;
}

}  // namespace

// The server: its routes, its parts, and the changes that it is told.
class dashscope_simulator::impl {
public:
    impl(dashscope_simulator& self, simulator_settings s)
        : self_{self},
          settings_{std::move(s)},
          judge_{with_seed(settings_)},
          state_{settings_},
          burst_{settings_.burst, settings_.seed},
          server_{settings_.max_connections} {
        check(settings_);
        for (auto const& m : settings_.models) judge_.set_limits(m.name, m.limits);
        for (auto const& a : settings_.accounts)
            for (auto const& [model, limits] : a.limits) judge_.set_limits(a.name, model, limits);
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
        clock_.start();
        listener_ = std::thread{[this] { server_.listen_after_bind(); }};
        while (!server_.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }

    void stop() {
        if (!listener_.joinable()) return;
        server_.cut_all();  // before any thread wakes: an answer that was not waited for must not get out
        clock_.stop();
        server_.stop();
        listener_.join();
        stopped_at_ns_ = clock_.shown_ns();
    }

    [[nodiscard]] int port() const { return port_; }

    void begin_outage(std::string const& model, double seconds, failure what) {
        require(seconds >= 0 && seconds <= 1e9, "an outage of no length");
        auto const since = change_schedule::time_of_change().value_or(clock_.true_ns());
        state_.begin_outage(model, what, since + std::llround(seconds * 1e9));
    }

    simulator_report report() const {
        auto r = log_.counts();
        r.judge = judge_.report();
        r.rules = settings_.judge;
        r.speed = settings_.speed;
        auto const stopped = stopped_at_ns_.load();
        r.elapsed_ns = stopped != never_ns ? stopped : clock_.shown_ns();
        return r;
    }

    dashscope_simulator& self_;
    simulator_settings const settings_;
    quota_judge judge_;
    server_state state_;
    burst_guard burst_;
    server_clock clock_{settings_};
    request_log log_{settings_.keep_records};
    admission_control admission_{settings_, judge_, state_, burst_, clock_};

private:
    void set_up_routes() {
        server_.set_payload_max_length(settings_.max_body);
        server_.set_keep_alive_max_count(1'000'000);
        server_.set_keep_alive_timeout(300);
        server_.set_tcp_nodelay(true);
        server_.Post(chat_path, [this](httplib::Request const& q, httplib::Response& r) {
            completions_.serve(begin(dialect::compatible), q, r);
        });
        server_.Post(native_path, [this](httplib::Request const& q, httplib::Response& r) {
            completions_.serve(begin(dialect::native), q, r);
        });
        server_.Get("/compatible-mode/v1/models",
                    [this](httplib::Request const& q, httplib::Response& r) { list_models(q, r); });
        server_.Get("/simulator/report", [this](httplib::Request const&, httplib::Response& r) {
            r.set_content(to_json(report()) + "\n", json_type);
        });
        server_.Get("/simulator/clock", [this](httplib::Request const&, httplib::Response& r) {
            auto const real = monotonic_ns();
            r.set_content(
                ordered_json{
                    {"monotonic_ns", real}, {"simulated_ns", clock_.shown_ns(real)}, {"speed", settings_.speed}}
                    .dump(),
                json_type);
        });
        server_.Post("/simulator/([a-z_]+)",
                     [this](httplib::Request const& q, httplib::Response& r) { change_now(self_, q, r); });
        // What no handler saw: an unknown path, a body that was too large to be read.
        server_.set_error_handler([this](httplib::Request const& q, httplib::Response& r) {
            if (!r.body.empty()) return;
            auto x = begin(dialect::native);
            x.record.status = r.status;
            if (r.status == 413) {
                set_problem(r, {failure::body_too_large}, x, settings_);
            } else {
                auto const what = r.status == 404 ? failure::invalid_url : failure::invalid_body;
                auto const status = r.status;
                set_problem(r, {what}, x, settings_);
                r.status = status;
            }
            set_gateway_headers(r, x.record, clock_);
            if (q.path == chat_path || q.path == native_path) log_.add(std::move(x.record), clock_.shown_ns());
        });
    }

    static void change_now(dashscope_simulator& to, httplib::Request const& q, httplib::Response& r) {
        try {
            parse_change(q.matches[1].str(), q.body)(to);
            r.set_content("{\"changed\":true}\n", json_type);
        } catch (std::invalid_argument const& e) {
            r.status = 400;
            r.set_content(ordered_json{{"error", e.what()}}.dump() + "\n", json_type);
        }
    }

    exchange begin(dialect d) {
        auto const real = http_server::arrival_ns();
        schedule_.make_due(clock_.true_ns(real), self_, log_);
        auto const number = ++arrivals_;
        exchange x{d, chance{settings_.seed * 0x9e3779b97f4a7c15u + number}, real, {}};
        x.record.number = number;
        x.record.arrival_ns = clock_.shown_ns(real);
        x.record.request_id = uuid(x.rng);
        return x;
    }

    void list_models(httplib::Request const& q, httplib::Response& r) {
        auto x = begin(dialect::compatible);
        if (!account_of(q, state_)) {
            set_problem(r, {failure::invalid_api_key}, x, settings_);
        } else {
            auto data = ordered_json::array();
            for (auto const& m : state_.model_names())
                data.push_back(
                    {{"id", m}, {"object", "model"}, {"created", clock_.started_s()}, {"owned_by", "system"}});
            r.set_content(ordered_json{{"object", "list"}, {"data", std::move(data)}}.dump(), json_type);
        }
        set_gateway_headers(r, x.record, clock_);
    }

    completions completions_{settings_, admission_, clock_, log_};
    change_schedule schedule_{settings_.changes};
    std::atomic<std::uint64_t> arrivals_{0};
    std::atomic<std::int64_t> stopped_at_ns_{never_ns};
    int port_ = 0;
    http_server server_;
    std::thread listener_;
};

dashscope_simulator::dashscope_simulator(simulator_settings s) : impl_{std::make_unique<impl>(*this, std::move(s))} {}
dashscope_simulator::~dashscope_simulator() = default;
void dashscope_simulator::start() { impl_->start(); }
void dashscope_simulator::stop() { impl_->stop(); }
int dashscope_simulator::port() const noexcept { return impl_->port(); }
std::string dashscope_simulator::origin() const { return "http://127.0.0.1:" + std::to_string(impl_->port()); }
std::string dashscope_simulator::base_url() const { return origin() + "/compatible-mode/v1"; }
std::string dashscope_simulator::native_base_url() const { return origin() + "/api/v1"; }
simulator_report dashscope_simulator::report() const { return impl_->report(); }
std::vector<request_record> dashscope_simulator::take_records() { return impl_->log_.take_records(); }
std::size_t dashscope_simulator::waiting(std::string const& account, std::string const& model) const {
    return impl_->burst_.waiting(account, model);
}
std::int64_t dashscope_simulator::now_ns() const { return impl_->clock_.shown_ns(); }
void dashscope_simulator::set_limits(std::string const& model, server_limits l) { impl_->judge_.set_limits(model, l); }
void dashscope_simulator::set_limits(std::string const& account, std::string const& model, server_limits l) {
    impl_->judge_.set_limits(account, model, l);
}
void dashscope_simulator::set_spend_tier(std::string const& account, std::string const& model, std::uint64_t tpm,
                                         double soft) {
    require(soft >= 0 && soft <= 1, "a share must be within 0 ... 1");
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
void dashscope_simulator::set_mishaps(mishap_rates m) { impl_->admission_.set_mishaps(m); }
void dashscope_simulator::set_model(model_settings m) {
    impl_->judge_.set_limits(m.name, m.limits);
    impl_->state_.set_model(std::move(m));
}
void dashscope_simulator::remove_model(std::string const& name) { impl_->state_.remove_model(name); }
void dashscope_simulator::outage(double seconds, failure what) { impl_->begin_outage({}, seconds, what); }
void dashscope_simulator::outage_of_model(std::string const& model, double seconds, failure what) {
    impl_->begin_outage(model, seconds, what);
}
void dashscope_simulator::step_clock(std::int64_t ns) { impl_->clock_.step(ns); }
simulator_settings const& dashscope_simulator::settings() const noexcept { return impl_->settings_; }

}  // namespace qwen
