// SPDX-License-Identifier: MIT
#include "simulator.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

#include "http_server.hpp"

namespace qwen {

namespace {

using json = nlohmann::json;
using ordered_json = nlohmann::ordered_json;

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr char const* chat_path = "/compatible-mode/v1/chat/completions";
constexpr char const* native_path = "/api/v1/services/aigc/text-generation/generation";

enum class dialect { native, compatible };

// --- what can go wrong ---------------------------------------------------------------------------------------------------------

struct failure_row {
    failure what;
    char const* name;
    int status;
    char const *native, *compatible;   // codes
    std::array<char const*, 2> texts;  // of native mode, one of them by seed
    char const* compatible_text;       // where it differs
    char const* anchor;                // of "For details, see: ...", compatible mode only
    char const* shapes;                // compatible bodies that were seen for it
};

constexpr failure_row failures[] = {
    {failure::body_too_large, "body_too_large", 413, "", "", {"Payload Too Large", nullptr}, nullptr, nullptr, ""},
    {failure::invalid_api_key,
     "invalid_api_key",
     401,
     "InvalidApiKey",
     "invalid_api_key",
     {"Invalid API-key provided.", nullptr},
     "Incorrect API key provided.",
     "apikey-error",
     "abcd"},
    {failure::invalid_body,
     "invalid_body",
     400,
     "InvalidParameter",
     "invalid_parameter_error",
     {"Required body invalid, please check the request body format.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::model_not_found,
     "model_not_found",
     404,
     "ModelNotFound",
     "model_not_found",
     {"Model not exist.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::arrearage,
     "arrearage",
     400,
     "Arrearage",
     "Arrearage",
     {"Access denied, please make sure your account is in good standing.", nullptr},
     nullptr,
     "overdue-payment",
     "a"},
    {failure::unpurchased,
     "unpurchased",
     403,
     "AccessDenied.Unpurchased",
     "AccessDenied.Unpurchased",
     {"Access to model denied. Please make sure you are eligible for using the model.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::commodity_not_purchased,
     "commodity_not_purchased",
     429,
     "CommodityNotPurchased",
     "CommodityNotPurchased",
     {"Commodity has not purchased yet.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::prepaid_overdue,
     "prepaid_overdue",
     429,
     "PrepaidBillOverdue",
     "PrepaidBillOverdue",
     {"The prepaid bill is overdue.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::postpaid_overdue,
     "postpaid_overdue",
     429,
     "PostpaidBillOverdue",
     "PostpaidBillOverdue",
     {"The postpaid bill is overdue.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::free_tier_only,
     "free_tier_only",
     403,
     "AllocationQuota.FreeTierOnly",
     "AllocationQuota.FreeTierOnly",
     {"The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, please "
      "disable the "
      "\"use free tier only\" mode in the management console.",
      nullptr},
     nullptr,
     nullptr,
     "a"},
    {failure::free_quota_exceeded,
     "free_quota_exceeded",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"Free allocated quota exceeded.", nullptr},
     nullptr,
     nullptr,
     "bc"},
    {failure::invalid_parameter,
     "invalid_parameter",
     400,
     "InvalidParameter",
     "invalid_parameter_error",
     {"Required parameter(s) missing or invalid, please check the request parameters.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::data_inspection,
     "data_inspection",
     400,
     "DataInspectionFailed",
     "data_inspection_failed",
     {"Input or output data may contain inappropriate content.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::serving_error,
     "serving_error",
     503,
     "ModelServingError",
     "ModelServingError",
     {"Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
      nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::model_unavailable,
     "model_unavailable",
     503,
     "ModelUnavailable",
     "ModelUnavailable",
     {"Model is unavailable, please try again later.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::route_throttling,
     "route_throttling",
     429,
     "Throttling",
     "Throttling",
     {"Requests throttling triggered.", "Too many requests in route. Please try again later."},
     nullptr,
     nullptr,
     "abcd"},
    {failure::concurrency,
     "concurrency",
     429,
     "Throttling.Concurrency",
     "Throttling.Concurrency",
     {"concurrency allocated quota exceeded", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::rate_quota,
     "rate_quota",
     429,
     "Throttling.RateQuota",
     "limit_requests",
     {"Requests rate limit exceeded, please try again later.", "You exceeded your current requests list."},
     nullptr,
     "rate-limit",
     "d"},
    {failure::allocation_quota,
     "allocation_quota",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"Allocated quota exceeded, please increase your quota limit.",
      "You exceeded your current quota, please check your plan and billing details."},
     nullptr,
     "token-limit",
     "bc"},
    {failure::internal_error,
     "internal_error",
     500,
     "InternalError",
     "internal_error",
     {"An internal error has occured, please try again later or contact service support.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::invalid_url,
     "invalid_url",
     404,
     "InvalidURL",
     "InvalidURL",
     {"The request URL is invalid.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
};

failure_row const& row_of(failure f) {
    for (auto const& r : failures)
        if (r.what == f) return r;
    return failures[std::size(failures) - 1];
}

struct problem {
    failure what;
    std::string message{};  // replaces the table's text
    std::optional<std::int64_t> retry_after_s{};
};

// --- chance that repeats -------------------------------------------------------------------------------------------------------

std::uint64_t mix(std::uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

class chance {
public:
    explicit chance(std::uint64_t seed) : state_{mix(seed)} {}
    std::uint64_t next() { return mix(state_++); }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

private:
    std::uint64_t state_;
};

std::uint64_t fnv(std::uint64_t h, std::string_view text) {
    for (char const c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h;
}

std::string uuid(chance& rng) {
    auto const a = rng.next(), b = rng.next();
    char out[40];
    std::snprintf(out, sizeof out, "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32),
                  static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                  static_cast<unsigned>(0x8000 | (b >> 48 & 0x3fff)),
                  static_cast<unsigned long long>(b & 0xffffffffffff));
    return out;
}

ordered_json shuffled(std::vector<std::pair<std::string, ordered_json>> members, chance& rng) {
    for (auto i = members.size(); i > 1; --i) std::swap(members[i - 1], members[rng.below(i)]);
    ordered_json out = ordered_json::object();
    for (auto& [k, v] : members) out[k] = std::move(v);
    return out;
}

// --- what a request asks for ---------------------------------------------------------------------------------------------------

struct text_size {
    std::uint64_t ascii = 0, cjk = 0, other_bytes = 0;

    void add(std::string_view s) {
        for (std::size_t i = 0; i < s.size();) {
            auto const c = static_cast<unsigned char>(s[i]);
            std::size_t const n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
            std::uint32_t point = n == 1 ? c : c & (0xffu >> (n + 1));
            for (std::size_t k = 1; k < n && i + k < s.size(); ++k)
                point = point << 6 | (static_cast<unsigned char>(s[i + k]) & 0x3fu);
            if (n == 1) {
                ++ascii;
            } else if ((point >= 0x2e80 && point <= 0x9fff) || (point >= 0xac00 && point <= 0xd7af) ||
                       (point >= 0xf900 && point <= 0xfaff) || (point >= 0xff00 && point <= 0xffef) ||
                       point >= 0x20000) {
                ++cjk;
            } else {
                other_bytes += n;
            }
            i += n;
        }
    }
    [[nodiscard]] std::uint64_t tokens() const { return (ascii + 3) / 4 + (2 * cjk + 2) / 3 + (other_bytes + 2) / 3; }
};

json const* member(json const& object, char const* name) {
    if (!object.is_object()) return nullptr;
    auto const at = object.find(name);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::optional<std::uint64_t> number_in(json const* j) {
    if (j == nullptr) return std::nullopt;
    if (j->is_number_unsigned()) return j->get<std::uint64_t>();
    if (j->is_string()) {
        auto const& s = j->get_ref<std::string const&>();
        if (s.empty() || s.size() > 18 || s.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
        return std::stoull(s);
    }
    return std::nullopt;
}

struct asked {
    std::string prompt;  // all texts, for what depends on the text
    text_size size;
    std::uint64_t messages = 0;
    std::optional<std::uint64_t> max_tokens;
    std::optional<std::uint64_t> input_tokens, output_tokens;
    std::string simulate_error;
    std::string fault;  // what is wrong with the parameters; empty: nothing

    void text(std::string_view s) {
        size.add(s);
        prompt.append(s).push_back('\0');
    }
};

std::string model_in(json const& body) {
    auto const* m = member(body, "model");
    return m != nullptr && m->is_string() ? m->get<std::string>() : std::string{};
}

asked read_request(json const& body, dialect d, model_settings const& model) {
    asked a;
    auto const complain = [&a](std::string text) {
        if (a.fault.empty()) a.fault = std::move(text);
    };
    json const* input = d == dialect::native ? member(body, "input") : &body;
    json const* parameters = d == dialect::native ? member(body, "parameters") : &body;
    json const* messages = input == nullptr ? nullptr : member(*input, "messages");
    json const* prompt = d == dialect::native && input != nullptr ? member(*input, "prompt") : nullptr;
    if (prompt != nullptr && prompt->is_string()) {
        a.text(prompt->get_ref<std::string const&>());
        a.messages = 1;
    } else if (messages == nullptr || !messages->is_array() || messages->empty()) {
        complain(d == dialect::native ? "Either \"prompt\" or \"messages\" must exist and cannot both be none"
                                      : "messages is required and must not be empty");
    } else {
        for (auto const& m : *messages) {
            ++a.messages;
            auto const* role = member(m, "role");
            static std::set<std::string, std::less<>> const roles{"system",    "developer", "user",
                                                                  "assistant", "tool",      "function"};
            if (role == nullptr || !role->is_string() || !roles.contains(role->get_ref<std::string const&>()))
                complain("Role must be in [system, user, assistant, tool]");
            auto const* content = member(m, "content");
            if (content == nullptr) continue;
            if (content->is_string()) {
                a.text(content->get_ref<std::string const&>());
            } else if (content->is_array()) {
                for (auto const& part : *content)
                    if (auto const* t = member(part, "text"); t != nullptr && t->is_string())
                        a.text(t->get_ref<std::string const&>());
            } else {
                complain("The content field must be a string or an array");
            }
        }
    }
    if (parameters != nullptr) {
        auto const* most = member(*parameters, "max_tokens");
        if (most == nullptr && d == dialect::compatible) most = member(*parameters, "max_completion_tokens");
        if (most != nullptr) {
            if (most->is_number_unsigned()) a.max_tokens = most->get<std::uint64_t>();
            if (!a.max_tokens || *a.max_tokens == 0 || *a.max_tokens > model.max_output)
                complain("Range of max_tokens should be [1, " + std::to_string(model.max_output) + "]");
        }
        auto const* stream = d == dialect::compatible ? member(*parameters, "stream") : nullptr;
        if (stream != nullptr && stream->is_boolean() && stream->get<bool>())
            complain("This simulator does not stream.");
    }
    if (auto const* own = member(body, "metadata"); own != nullptr) {
        a.input_tokens = number_in(member(*own, "input_tokens"));
        a.output_tokens = number_in(member(*own, "output_tokens"));
        if (auto const* e = member(*own, "simulate_error"); e != nullptr && e->is_string())
            a.simulate_error = e->get<std::string>();
    }
    return a;
}

planned_answer plan(simulator_settings const& s, model_settings const& model, asked const& a) {
    planned_answer p;
    p.input = a.input_tokens.value_or(a.size.tokens() + 4 * a.messages + 3);
    p.max_tokens = a.max_tokens.value_or(model.max_output);

    chance rng{fnv(fnv(s.seed ^ 0xcbf29ce484222325u, model.name), a.prompt)};
    auto const share = s.output.least + (s.output.most - s.output.least) * rng.unit();
    auto const around = [&rng, &s] { return 1 + s.latency.spread * (2 * rng.unit() - 1); };
    auto const of = std::min(a.max_tokens.value_or(s.output.without_max_tokens), model.max_output);
    p.output = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(share * static_cast<double>(of))));
    if (a.output_tokens) p.output = *a.output_tokens;
    p.output = std::min(p.output, p.max_tokens);

    auto const first = s.latency.first_token_s * around();
    auto const rest =
        s.latency.tokens_per_s > 0 ? static_cast<double>(p.output) / s.latency.tokens_per_s * around() : 0;
    p.latency_ns = std::llround((first + rest) * 1e9);
    return p;
}

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

std::string fixed(double x, int digits) {
    char out[64];
    std::snprintf(out, sizeof out, "%.*f", digits, x);
    return out;
}

}  // namespace

std::string_view to_string(failure f) noexcept {
    for (auto const& r : failures)
        if (r.what == f) return r.name;
    return "";
}

std::optional<failure> failure_named(std::string_view name) noexcept {
    for (auto const& r : failures)
        if (r.name == name) return r.what;
    return std::nullopt;
}

std::vector<model_settings> international_models() {
    auto const m = [](char const* name, std::uint64_t rpm, std::uint64_t tpm) {
        return model_settings{.name = name, .limits = {.rpm = rpm, .tpm = tpm}};
    };
    return {m("qwen3-max", 600, 1'000'000),      m("qwen3-max-2025-09-23", 60, 100'000), m("qwen-max", 120, 100'000),
            m("qwen-plus", 600, 1'000'000),      m("qwen-flash", 600, 5'000'000),        m("qwen-turbo", 240, 100'000),
            m("qwen3.5-plus", 15'000, 5'000'000)};
}

std::optional<planned_answer> plan_answer(simulator_settings const& s, std::string_view text) {
    auto const body = json::parse(text, nullptr, false);
    if (!body.is_object()) return std::nullopt;
    auto const name = model_in(body);
    for (auto const& m : s.models)
        if (m.name == name)
            return plan(s, m, read_request(body, body.contains("input") ? dialect::native : dialect::compatible, m));
    return std::nullopt;
}

// --- the server ----------------------------------------------------------------------------------------------------------------

class dashscope_simulator::impl {
public:
    explicit impl(simulator_settings s)
        : settings_{std::move(s)}, judge_{settings_.judge}, server_{settings_.max_connections} {
        auto const require = [](bool fine, std::string const& why) {
            if (!fine) throw std::invalid_argument("simulator: " + why);
        };
        require(!settings_.models.empty(), "there must be a model");
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
        for (auto const& m : settings_.models) {
            require(!m.name.empty(), "a model must have a name");
            require(models_.emplace(m.name, &m).second, "model " + m.name + " is there twice");
            judge_.set_limits(m.name, m.limits);
        }
        for (auto const& a : settings_.accounts) {
            require(states_.emplace(a.name, a.state).second, "account " + a.name + " is there twice");
            for (auto const& k : a.keys) require(keys_.emplace(k, a.name).second, "key " + k + " is there twice");
        }
        require(!keys_.empty(), "there must be an account with a key");
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
        server_.cut_all();  // before anybody wakes: an answer that was not waited for must not get out
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

    [[nodiscard]] std::int64_t at_real(std::int64_t real) const {
        return settings_.time ? settings_.time() : (real - start_real_) * settings_.speed;
    }
    [[nodiscard]] std::int64_t now_ns() const { return at_real(monotonic_ns()); }

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
        return r;
    }

    std::vector<request_record> take_records() {
        std::lock_guard const lock{books_};
        return std::exchange(records_, {});
    }

    void set_account(std::string const& account, account_state s) {
        std::lock_guard const lock{books_};
        states_[account] = s;
    }

    simulator_settings settings_;
    quota_judge judge_;
    int port_ = 0;

private:
    using account_model = std::pair<std::string, std::string>;

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
        // What no handler saw: an unknown path, a body that was too large to be read.
        server_.set_error_handler([this](httplib::Request const& q, httplib::Response& r) {
            if (!r.body.empty()) return;
            auto x = begin(dialect::native);
            x.record.status = r.status;
            if (r.status == 413) {
                r.set_content(row_of(failure::body_too_large).texts[0], "text/plain");
            } else {
                auto const what = r.status == 404 ? failure::invalid_url : failure::invalid_body;
                auto const status = r.status;
                answer_problem(x, {what}, r);
                r.status = status;
            }
            if (q.path == chat_path || q.path == native_path) {
                end(x, r);
            } else {
                headers(x, r);
            }
        });
    }

    exchange_state begin(dialect d) {
        auto const real = http_server::arrival_ns();
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
        auto const at = keys_.find(value.substr(scheme.size()));
        if (at == keys_.end()) return std::nullopt;
        return at->second;
    }

    void list_models(httplib::Request const& q, httplib::Response& r) {
        auto x = begin(dialect::compatible);
        if (!account_of(q)) {
            answer_problem(x, {failure::invalid_api_key}, r);
        } else {
            auto data = ordered_json::array();
            for (auto const& m : settings_.models)
                data.push_back(
                    {{"id", m.name}, {"object", "model"}, {"created", start_wall_ms_ / 1'000}, {"owned_by", "system"}});
            r.set_content(ordered_json{{"object", "list"}, {"data", std::move(data)}}.dump(), "application/json");
        }
        headers(x, r);
    }

    void chat(httplib::Request const& q, httplib::Response& r, dialect d) {
        auto x = begin(d);
        if (auto const p = serve(q, r, x)) answer_problem(x, *p, r);
        end(x, r);
    }

    // Answers 200, or says what is wrong, in the order of the real server: who asks, what for, may they, is it well-formed, is there room.
    std::optional<problem> serve(httplib::Request const& q, httplib::Response& r, exchange_state& x) {
        auto const account = account_of(q);
        if (!account) return problem{failure::invalid_api_key};
        x.record.account = *account;

        auto const body = json::parse(q.body, nullptr, false);
        if (!body.is_object()) return problem{failure::invalid_body};

        auto const name = model_in(body);
        if (name.empty()) return problem{failure::invalid_parameter, "you must provide a model parameter"};
        auto const found = models_.find(name);
        if (found == models_.end()) {
            return problem{failure::model_not_found,
                           x.speaks == dialect::native
                               ? std::string{}
                               : "The model `" + name + "` does not exist or you do not have access to it."};
        }
        auto const& model = *found->second;
        x.record.model = name;

        auto const a = read_request(body, x.speaks, model);
        auto const injected = draw_fault(a, x.rng);
        auto const hit = [&injected](failure f) { return injected == f; };

        for (auto const f : {failure::body_too_large, failure::invalid_api_key, failure::invalid_body,
                             failure::model_not_found, failure::invalid_url})
            if (hit(f)) return problem{f};
        if (auto const f = account_failure(*account)) return problem{*f};
        for (auto const f : {failure::arrearage, failure::unpurchased, failure::commodity_not_purchased,
                             failure::prepaid_overdue, failure::postpaid_overdue})
            if (hit(f)) return problem{f};
        bool const free_gone = model.tier != free_tier::none && free_tokens_used(*account, name) >= model.free_tokens;
        if (hit(failure::free_tier_only) || (free_gone && model.tier == free_tier::only))
            return problem{failure::free_tier_only};
        if (hit(failure::free_quota_exceeded) || free_gone) return problem{failure::free_quota_exceeded};

        if (!a.fault.empty()) return problem{failure::invalid_parameter, a.fault};
        if (hit(failure::invalid_parameter)) return problem{failure::invalid_parameter};
        if (x.speaks == dialect::native && q.get_header_value("X-DashScope-SSE") == "enable")
            return problem{failure::invalid_parameter, "This simulator does not stream."};
        auto const planned = plan(settings_, model, a);
        if (planned.input > model.max_input) {
            return problem{failure::invalid_parameter,
                           "Range of input length should be [1, " + std::to_string(model.max_input) + "]"};
        }
        x.record.input = planned.input;
        x.record.max_tokens = planned.max_tokens;
        if (hit(failure::data_inspection) ||
            (!settings_.inspected_word.empty() && a.prompt.find(settings_.inspected_word) != std::string::npos)) {
            return problem{failure::data_inspection};
        }
        for (auto const f : {failure::serving_error, failure::model_unavailable, failure::route_throttling,
                             failure::concurrency, failure::rate_quota, failure::allocation_quota})
            if (hit(f)) return problem{f};

        auto const in_flight = enter(*account, name);
        if (!in_flight) return problem{failure::concurrency};
        auto const p = run(q, r, x, model, planned, hit(failure::internal_error));
        leave(*account, name);
        return p;
    }

    std::optional<problem> run(httplib::Request const& q, httplib::Response& r, exchange_state& x,
                               model_settings const& model, planned_answer const& planned, bool fails) {
        auto& record = x.record;
        auto const v =
            judge_.arrive(record.account, record.model, record.arrival_ns, planned.input, planned.max_tokens);
        record.rule = v.rule;
        record.sums = v.sums;
        note_stamp(q, x, (v.time_ns - record.arrival_ns) / settings_.speed);
        record.arrival_ns = v.time_ns;
        if (!v.admitted) {
            problem p{v.rule == server_rule::rps || v.rule == server_rule::rpm ? failure::rate_quota
                                                                               : failure::allocation_quota};
            if (settings_.retry_after && v.retry_at_ns != never_ns)
                p.retry_after_s = (v.retry_at_ns - v.time_ns + second_ns - 1) / second_ns;
            return p;
        }
        auto const flying = ++flying_;
        auto latency = planned.latency_ns;
        if (settings_.latency.capacity && *settings_.latency.capacity != 0) {
            auto const load =
                std::min(0.9, static_cast<double>(flying) / static_cast<double>(*settings_.latency.capacity));
            latency = std::llround(static_cast<double>(latency) / (1 - load));
        }
        bool const whole = wait_until(x.arrival_real + latency / settings_.speed);
        --flying_;
        record.output = whole && !fails ? planned.output : 0;
        judge_.complete(v.ticket, now_ns(), record.output);
        if (!whole) return problem{failure::model_unavailable};
        if (fails) return problem{failure::internal_error};
        if (model.tier != free_tier::none) {
            std::lock_guard const lock{books_};
            free_used_[{record.account, record.model}] += planned.input + record.output;
        }
        answer(x, planned, r);
        return std::nullopt;
    }

    std::optional<failure> draw_fault(asked const& a, chance& rng) const {
        if (auto const told = failure_named(a.simulate_error)) return told;
        for (auto const& f : settings_.faults)
            if (rng.unit() < f.rate) return f.what;
        return std::nullopt;
    }

    std::optional<failure> account_failure(std::string const& account) const {
        std::lock_guard const lock{books_};
        switch (states_.at(account)) {
            case account_state::arrearage:
                return failure::arrearage;
            case account_state::unpurchased:
                return failure::unpurchased;
            case account_state::commodity_not_purchased:
                return failure::commodity_not_purchased;
            case account_state::prepaid_overdue:
                return failure::prepaid_overdue;
            case account_state::postpaid_overdue:
                return failure::postpaid_overdue;
            case account_state::good:
                break;
        }
        return std::nullopt;
    }

    std::uint64_t free_tokens_used(std::string const& account, std::string const& model) const {
        std::lock_guard const lock{books_};
        auto const at = free_used_.find({account, model});
        return at == free_used_.end() ? 0 : at->second;
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

    // False if the server stops first.
    bool wait_until(std::int64_t real) {
        std::unique_lock lock{sleepers_};
        if (settings_.time) return !stopping_;
        auto const at = std::chrono::steady_clock::time_point{std::chrono::nanoseconds{real}};
        return !wake_.wait_until(lock, at, [this] { return stopping_; });
    }

    void answer(exchange_state& x, planned_answer const& p, httplib::Response& r) {
        auto const text = "A simulated answer of " + std::to_string(p.output) + " tokens.";
        auto const reason = p.output == p.max_tokens ? "length" : "stop";
        ordered_json body;
        if (x.speaks == dialect::native) {
            body = {{"output",
                     {{"choices", ordered_json::array({{{"finish_reason", reason},
                                                        {"message", {{"role", "assistant"}, {"content", text}}}}})}}},
                    {"usage",
                     {{"total_tokens", p.input + p.output}, {"output_tokens", p.output}, {"input_tokens", p.input}}},
                    {"request_id", x.record.request_id}};
        } else {
            body = {{"choices", ordered_json::array({{{"message", {{"role", "assistant"}, {"content", text}}},
                                                      {"finish_reason", reason},
                                                      {"index", 0},
                                                      {"logprobs", nullptr}}})},
                    {"object", "chat.completion"},
                    {"usage",
                     {{"prompt_tokens", p.input},
                      {"completion_tokens", p.output},
                      {"total_tokens", p.input + p.output},
                      {"prompt_tokens_details", {{"cached_tokens", 0}}}}},
                    {"created", epoch_ms(x.record.arrival_ns) / 1'000},
                    {"system_fingerprint", nullptr},
                    {"model", x.record.model},
                    {"id", "chatcmpl-" + x.record.request_id}};
        }
        x.record.status = r.status = 200;
        r.set_content(body.dump(), "application/json");
    }

    void answer_problem(exchange_state& x, problem const& p, httplib::Response& r) {
        auto const& row = row_of(p.what);
        auto& rng = x.rng;
        x.record.status = r.status = row.status;
        if (p.what == failure::serving_error && rng.below(2) == 0) x.record.status = r.status = 500;
        x.record.code = row.native;
        if (p.what == failure::body_too_large) {
            r.set_content(row.texts[0], "text/plain");
            return;
        }
        if (p.retry_after_s) r.set_header("Retry-After", std::to_string(*p.retry_after_s));

        auto const& id = x.record.request_id;
        std::string message = p.message;
        if (message.empty()) message = row.texts[1] != nullptr && rng.below(2) == 1 ? row.texts[1] : row.texts[0];
        if (x.speaks == dialect::native) {
            r.set_content(shuffled({{"code", row.native}, {"message", message}, {"request_id", id}}, rng).dump(),
                          "application/json");
            return;
        }
        if (p.message.empty() && row.compatible_text != nullptr) message = row.compatible_text;
        if (row.anchor != nullptr) {
            message += " For details, see: https://";
            message += settings_.international ? "www.alibabacloud.com/help/en" : "help.aliyun.com/zh";
            message += "/model-studio/error-code#";
            message += row.anchor;
        }
        char shape = 'd';
        switch (settings_.shape) {
            case error_shape::mixed:
                shape = row.shapes[rng.below(std::strlen(row.shapes))];
                break;
            case error_shape::a:
                shape = 'a';
                break;
            case error_shape::b:
                shape = 'b';
                break;
            case error_shape::c:
                shape = 'c';
                break;
            case error_shape::d:
                shape = 'd';
                break;
            case error_shape::e:
                shape = 'e';
                break;
        }
        std::vector<std::pair<std::string, ordered_json>> error{
            {"message", message}, {"type", row.compatible}, {"code", row.compatible}};
        if (shape == 'a' || shape == 'b') error.emplace_back("param", nullptr);
        if (shape == 'c') error.emplace_back("id", id);
        std::vector<std::pair<std::string, ordered_json>> body{{"error", shuffled(std::move(error), rng)}};
        if (shape == 'a') body.emplace_back("id", "chatcmpl-" + id);
        if (shape == 'a' || shape == 'b') body.emplace_back("request_id", id);
        if (shape == 'e') body.emplace_back("status", x.record.status);
        r.set_content(shuffled(std::move(body), rng).dump(), "application/json");
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
        if (r.status == 200) r.set_header("x-dashscope-finished", "true");
    }

    void end(exchange_state& x, httplib::Response& r) {
        headers(x, r);
        x.record.done_ns = now_ns();
        std::lock_guard const lock{books_};
        ++requests_;
        ++by_status_[x.record.status];
        if (!x.record.code.empty()) ++by_code_[x.record.code];
        if (settings_.keep_records) records_.push_back(std::move(x.record));
    }

    std::map<std::string, model_settings const*, std::less<>> models_;
    std::map<std::string, std::string, std::less<>> keys_;
    std::int64_t start_real_ = 0, start_wall_ms_ = 0;
    std::atomic<std::uint64_t> arrivals_{0}, flying_{0};
    std::optional<std::int64_t> stopped_at_ns_;

    std::mutex sleepers_;
    std::condition_variable wake_;
    bool stopping_ = false;

    mutable std::mutex books_;
    std::map<std::string, account_state> states_;
    std::map<account_model, std::uint64_t> free_used_, inside_;
    std::uint64_t requests_ = 0;
    std::map<int, std::uint64_t> by_status_;
    std::map<std::string, std::uint64_t> by_code_;
    std::vector<request_record> records_;

    http_server server_;
    std::thread listener_;
};

dashscope_simulator::dashscope_simulator(simulator_settings s) : impl_{std::make_unique<impl>(std::move(s))} {}
dashscope_simulator::~dashscope_simulator() = default;
void dashscope_simulator::start() { impl_->start(); }
void dashscope_simulator::stop() { impl_->stop(); }
int dashscope_simulator::port() const noexcept { return impl_->port_; }
std::string dashscope_simulator::origin() const { return "http://127.0.0.1:" + std::to_string(impl_->port_); }
std::string dashscope_simulator::base_url() const { return origin() + "/compatible-mode/v1"; }
std::string dashscope_simulator::native_base_url() const { return origin() + "/api/v1"; }
simulator_report dashscope_simulator::report() const { return impl_->report(); }
std::vector<request_record> dashscope_simulator::take_records() { return impl_->take_records(); }
std::int64_t dashscope_simulator::now_ns() const { return impl_->now_ns(); }
void dashscope_simulator::set_limits(std::string const& model, server_limits l) { impl_->judge_.set_limits(model, l); }
void dashscope_simulator::set_account(std::string const& account, account_state s) { impl_->set_account(account, s); }
simulator_settings const& dashscope_simulator::settings() const noexcept { return impl_->settings_; }

// --- reports -------------------------------------------------------------------------------------------------------------------

std::string to_text(simulator_report const& r) {
    std::string out = "simulator: " + std::to_string(r.requests) + " requests in " +
                      fixed(static_cast<double>(r.elapsed_ns) * 1e-9, 1) + " s";
    if (r.speed != 1) out += " of simulated time (" + std::to_string(r.speed) + " times as fast)";
    out += "; tokens counted: " + std::string{to_string(r.rules.tokens)} +
           "; RPM window: " + std::string{to_string(r.rules.requests)} +
           (r.rules.count_rejected ? "; refused requests count" : "") + "\n  status";
    for (auto const& [status, n] : r.by_status) out += "  " + std::to_string(status) + ": " + std::to_string(n);
    for (auto const& [code, n] : r.by_code) out += "  " + code + ": " + std::to_string(n);
    out += "\n";
    for (auto const& q : r.judge.quotas) {
        out += "  " + q.account + ", " + q.model + ": admitted " + std::to_string(q.admitted) + ", refused " +
               std::to_string(q.refused.total());
        if (q.refused.total() != 0) {
            out += " (RPS " + std::to_string(q.refused.rps) + ", RPM " + std::to_string(q.refused.rpm) + ", TPS " +
                   std::to_string(q.refused.tps) + ", TPM " + std::to_string(q.refused.tpm) + ")";
        }
        out += ", in flight at most " + std::to_string(q.peak_in_flight) + ", tokens " +
               std::to_string(q.input_tokens) + " in, " + std::to_string(q.output_tokens) + " out\n    peaks:";
        auto const peak = [&out](char const* what, std::uint64_t n, std::optional<std::uint64_t> limit) {
            out += std::string{"  "} + what + " " + std::to_string(n) +
                   (limit ? " of " + std::to_string(*limit) : " (no limit)");
        };
        peak("requests/min", q.peak.requests_minute, q.limits.rpm);
        peak("requests/s", q.peak.requests_second, q.limits.rps);
        peak("tokens/min", q.peak.tokens_minute, q.limits.tpm);
        peak("tokens/s", q.peak.tokens_second, q.limits.tps);
        if (q.refused.total() != 0) {
            out += "\n    with the refused ones:  requests/min " + std::to_string(q.peak_arrivals_minute) +
                   "  requests/s " + std::to_string(q.peak_arrivals_second);
        }
        out += "\n";
    }
    if (auto const& d = r.judge.delay; d.count != 0) {
        auto const ms = [](std::int64_t ns) { return fixed(static_cast<double>(ns) * 1e-6, 3); };
        out += "  arrival - stamp, real ms: least " + ms(d.min_ns) + ", median " + ms(d.p50_ns) + ", 99% " +
               ms(d.p99_ns) + ", most " + ms(d.max_ns) + "; spread " + ms(d.spread_ns()) + "\n";
    }
    return out;
}

std::string to_json(simulator_report const& r) {
    auto const limit = [](std::optional<std::uint64_t> l) { return l ? ordered_json(*l) : ordered_json(nullptr); };
    ordered_json out{{"requests", r.requests},
                     {"elapsed_ns", r.elapsed_ns},
                     {"speed", r.speed},
                     {"token_mode", to_string(r.rules.tokens)},
                     {"rpm_window", to_string(r.rules.requests)},
                     {"count_rejected", r.rules.count_rejected}};
    out["by_status"] = ordered_json::object();
    for (auto const& [status, n] : r.by_status) out["by_status"][std::to_string(status)] = n;
    out["by_code"] = ordered_json::object();
    for (auto const& [code, n] : r.by_code) out["by_code"][code] = n;
    out["quotas"] = ordered_json::array();
    for (auto const& q : r.judge.quotas) {
        out["quotas"].push_back(
            {{"account", q.account},
             {"model", q.model},
             {"limits",
              {{"rpm", limit(q.limits.rpm)},
               {"rps", limit(q.limits.rps)},
               {"tpm", limit(q.limits.tpm)},
               {"tps", limit(q.limits.tps)}}},
             {"arrived", q.arrived},
             {"admitted", q.admitted},
             {"completed", q.completed},
             {"in_flight", q.in_flight},
             {"peak_in_flight", q.peak_in_flight},
             {"input_tokens", q.input_tokens},
             {"output_tokens", q.output_tokens},
             {"refused",
              {{"rps", q.refused.rps}, {"rpm", q.refused.rpm}, {"tps", q.refused.tps}, {"tpm", q.refused.tpm}}},
             {"peak",
              {{"requests_minute", q.peak.requests_minute},
               {"requests_second", q.peak.requests_second},
               {"tokens_minute", q.peak.tokens_minute},
               {"tokens_second", q.peak.tokens_second},
               {"arrivals_minute", q.peak_arrivals_minute},
               {"arrivals_second", q.peak_arrivals_second}}},
             {"first_arrival_ns", q.first_arrival_ns},
             {"last_arrival_ns", q.last_arrival_ns},
             {"last_event_ns", q.last_event_ns}});
    }
    auto const& d = r.judge.delay;
    out["delay"] = {
        {"count", d.count}, {"min_ns", d.min_ns}, {"p50_ns", d.p50_ns}, {"p99_ns", d.p99_ns}, {"max_ns", d.max_ns}};
    return out.dump();
}

std::string to_text(request_record const& r) {
    auto const s = [](std::int64_t ns) { return fixed(static_cast<double>(ns) * 1e-9, 4); };
    std::string out = s(r.arrival_ns) + " #" + std::to_string(r.number) + " " + (r.account.empty() ? "-" : r.account) +
                      " " + (r.model.empty() ? "-" : r.model) + " " + std::to_string(r.status);
    if (!r.code.empty()) out += " " + r.code;
    if (r.rule != server_rule::none) out += " by " + std::string{to_string(r.rule)};
    out += " in " + std::to_string(r.input) + " out " + std::to_string(r.output) + " max " +
           std::to_string(r.max_tokens) + " took " + s(r.done_ns - r.arrival_ns) +
           " s; windows: " + std::to_string(r.sums.requests_minute) + "/min " + std::to_string(r.sums.requests_second) +
           "/s " + std::to_string(r.sums.tokens_minute) + " tokens/min " + std::to_string(r.sums.tokens_second) +
           " tokens/s";
    if (r.delay_ns) out += "; delay " + fixed(static_cast<double>(*r.delay_ns) * 1e-6, 3) + " ms";
    return out;
}

}  // namespace qwen
