// SPDX-License-Identifier: MIT
#include "qwen_client.hpp"

#include <curl/curl.h>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <queue>
#include <random>
#include <unordered_set>
#include <utility>
#include <vector>

namespace qwen {

namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t largest_reply = 64U << 20U;

void check(CURLcode code, char const* what) {
    if (code != CURLE_OK) throw client_error(std::string("libcurl: ") + what + ": " + curl_easy_strerror(code));
}

struct curl_library {
    curl_library() { check(curl_global_init(CURL_GLOBAL_DEFAULT), "cannot start"); }
    ~curl_library() { curl_global_cleanup(); }
};

std::string text_of(nlohmann::json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end()) return {};
    if (it->is_string()) return it->get<std::string>();
    return it->is_number_integer() ? it->dump() : std::string{};
}

std::optional<std::uint64_t> count_of(nlohmann::json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end() || !it->is_number_unsigned()) return std::nullopt;
    return it->get<std::uint64_t>();
}

bool header_is(std::string_view line, std::string_view name) {
    return line.size() > name.size() && line[name.size()] == ':' &&
           std::equal(name.begin(), name.end(), line.begin(),
                      [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + ('a' - 'A') : b); });
}

std::string header_value(std::string_view line) {
    line.remove_prefix(line.find(':') + 1);
    auto const from = line.find_first_not_of(" \t");
    if (from == std::string_view::npos) return {};
    auto const until = line.find_last_not_of(" \t\r\n");
    return until == std::string_view::npos || until < from ? std::string{}
                                                           : std::string(line.substr(from, until - from + 1));
}

}  // namespace

client_options options_from_environment() {
    client_options options;
    auto const read = [](char const* first, char const* second) -> std::string {
        for (char const* name : {first, second}) {
            if (char const* value = std::getenv(name); value != nullptr && *value != '\0') return value;
        }
        return {};
    };
    options.base_url = read("DASHSCOPE_BASE_URL", "OPENAI_BASE_URL");
    options.key = read("DASHSCOPE_API_KEY", "OPENAI_API_KEY");
    return options;
}

class qwen_client::impl {
public:
    impl(client_options options, limiter_adapter& limiter, call_observer& observer);
    ~impl();
    void check_endpoint();
    void submit(chat_call call);
    void run();
    void stop();
    [[nodiscard]] std::size_t in_flight() const noexcept { return busy_; }

private:
    // A call on its way through line, server and retries, or (without one) a request that only opens a connection.
    struct transfer {
        impl* owner = nullptr;
        chat_call call;
        bool is_call = true, announced = false, has_socket = false, stalled = false;
        std::uint32_t number = 0;
        CURL* easy = nullptr;
        std::size_t read = 0;  // of the body, by libcurl
        attempt now;
        steady_time first_stamp;
        std::optional<std::chrono::nanoseconds> hint;
        std::string stamp_text;
        curl_slist stamp_header{};  // ahead of the headers that all share
    };
    using transfer_ptr = std::unique_ptr<transfer>;
    struct retry {
        steady_time due;
        std::uint64_t order;
        transfer* what;
        bool operator>(retry const& other) const { return std::tie(due, order) > std::tie(other.due, other.order); }
    };

    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* to);
    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* to);
    static std::size_t on_read(char* to, std::size_t size, std::size_t count, void* from);
    static int on_connected(void* of, char*, char*, int, int);
    static curl_socket_t on_open(void* to, curlsocktype, curl_sockaddr* address);
    static int on_close(void* to, curl_socket_t socket);

    CURL* easy_handle();
    void prepare(transfer& t);
    void start(transfer_ptr t);
    void perform();
    void take_submitted();
    void keep_spares();
    [[nodiscard]] bool connection_ready() const;
    [[nodiscard]] std::size_t idle() const;
    steady_time dispatch();
    void reap();
    void read_reply(transfer& t, CURLcode result);
    void end_call(transfer_ptr t);
    void end_spare(transfer_ptr t, CURLcode result);
    void wait(steady_time until);

    client_options options_;
    limiter_adapter& limiter_;
    call_observer& observer_;
    std::mt19937_64 random_;
    std::string chat_url_, models_url_;
    curl_slist* headers_ = nullptr;
    std::vector<std::string> header_texts_;
    CURLM* multi_ = nullptr;
    std::vector<CURL*> free_easy_;

    std::deque<transfer_ptr> line_;  // the first asks, the others wait
    std::priority_queue<retry, std::vector<retry>, std::greater<>> retries_;
    std::unordered_set<transfer*> live_;  // owned: in flight or waiting for a retry
    std::uint64_t order_ = 0;
    std::size_t busy_ = 0;     // calls in flight
    std::size_t opening_ = 0;  // spare connections on their way

    int added_ = 0, running_ = 0;  // handles that libcurl has, and those of them that are not over

    // Sockets as libcurl opens and closes them: what is open, in use by no call, is ready.
    std::size_t open_ = 0, opening_with_socket_ = 0;
    unsigned barren_ = 0;           // spare connections in a row that did not stay open
    bool keeps_spares_ = true;      // false: the server closes each connection, or one carries many calls (HTTP/2)
    bool spares_complete_ = false;  // the first set has been opened

    std::atomic<bool> stopped_{false};
    std::atomic<bool> woken_{false};
    std::mutex mutex_;
    std::vector<transfer_ptr> submitted_;  // guarded by mutex_
};

qwen_client::impl::impl(client_options options, limiter_adapter& limiter, call_observer& observer)
    : options_{std::move(options)}, limiter_{limiter}, observer_{observer}, random_{options_.seed} {
    static curl_library const library;
    while (options_.base_url.ends_with('/')) options_.base_url.pop_back();
    if (options_.base_url.empty()) throw client_error("no base URL: set DASHSCOPE_BASE_URL or OPENAI_BASE_URL");
    for (auto const* text : {&options_.base_url, &options_.key}) {
        if (std::any_of(text->begin(), text->end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
            throw client_error("a line break or control character in the base URL or the key");
        }
    }
    chat_url_ = options_.base_url + "/chat/completions";
    models_url_ = options_.base_url + "/models";
    header_texts_ = {"Content-Type: application/json", "Accept: application/json", "Expect:"};
    if (!options_.key.empty()) header_texts_.push_back("Authorization: Bearer " + options_.key);
    for (auto const& text : header_texts_) headers_ = curl_slist_append(headers_, text.c_str());
    multi_ = curl_multi_init();
    if (multi_ == nullptr) throw client_error("libcurl: cannot start");
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 8192L);
}

qwen_client::impl::~impl() {
    for (auto* t : live_) {
        if (t->easy != nullptr) curl_multi_remove_handle(multi_, t->easy);
    }
    auto const release = [](transfer& t) {
        if (t.easy != nullptr) curl_easy_cleanup(t.easy);
    };
    for (auto* t : live_) {
        release(*t);
        delete t;
    }
    for (auto& t : line_) release(*t);
    for (auto* easy : free_easy_) curl_easy_cleanup(easy);
    curl_multi_cleanup(multi_);
    curl_slist_free_all(headers_);
}

std::size_t qwen_client::impl::on_body(char* data, std::size_t size, std::size_t count, void* to) {
    auto& t = *static_cast<transfer*>(to);
    if (t.now.body.size() + size * count > largest_reply) return 0;
    t.now.body.append(data, size * count);
    return size * count;
}

std::size_t qwen_client::impl::on_header(char* data, std::size_t size, std::size_t count, void* to) {
    auto& t = *static_cast<transfer*>(to);
    std::string_view const line(data, size * count);
    if (header_is(line, "x-request-id")) {
        t.now.request_id = header_value(line);
    } else if (header_is(line, "retry-after")) {
        auto const text = header_value(line);
        std::uint32_t count_of_seconds = 0;
        auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), count_of_seconds);
        if (error == std::errc{} && end == text.data() + text.size())
            t.hint = t.owner->options_.server_second * count_of_seconds;
    }
    return size * count;
}

// There is no way to go back in the body, on purpose: when a connection that was open turns out to be dead, libcurl would send the
// request a second time, and the server may count both. Like this the attempt fails, and its retry takes permits of its own.
std::size_t qwen_client::impl::on_read(char* to, std::size_t size, std::size_t count, void* from) {
    auto& t = *static_cast<transfer*>(from);
    auto const n = std::min(size * count, t.call.body.size() - t.read);
    std::memcpy(to, t.call.body.data() + t.read, n);
    t.read += n;
    return n;
}

// The connection is there, and the next thing is to write to it: the last moment at which nothing has left.
int qwen_client::impl::on_connected(void* of, char*, char*, int, int) {
    auto& t = *static_cast<transfer*>(of);
    t.stalled = steady_clock::now() - t.now.stamp > t.owner->options_.stall;
    return t.stalled ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

curl_socket_t qwen_client::impl::on_open(void* to, curlsocktype, curl_sockaddr* address) {
    auto& t = *static_cast<transfer*>(to);
    auto const socket = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (socket < 0) return CURL_SOCKET_BAD;
    ++t.owner->open_;
    if (!t.is_call && !std::exchange(t.has_socket, true)) ++t.owner->opening_with_socket_;
    return socket;
}

int qwen_client::impl::on_close(void* to, curl_socket_t socket) {
    --static_cast<impl*>(to)->open_;
    return ::close(socket);
}

CURL* qwen_client::impl::easy_handle() {
    if (free_easy_.empty()) {
        CURL* const easy = curl_easy_init();
        if (easy == nullptr) throw client_error("libcurl: out of memory");
        return easy;
    }
    auto* const easy = free_easy_.back();
    free_easy_.pop_back();
    curl_easy_reset(easy);
    return easy;
}

// All that can be done before the limiter is asked.
void qwen_client::impl::prepare(transfer& t) {
    t.owner = this;
    t.easy = easy_handle();
    t.read = 0;
    t.stalled = false;
    t.now = {};
    t.now.id = t.call.id;
    t.now.number = t.number;
    t.now.bound = t.call.bound;
    t.hint.reset();
    auto* const easy = t.easy;
    check(curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https"), "https");
    check(curl_easy_setopt(easy, CURLOPT_URL, (t.is_call ? chat_url_ : models_url_).c_str()), "URL");
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &t);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "weir-qwen-client/1");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    curl_easy_setopt(
        easy, CURLOPT_TIMEOUT_MS,
        static_cast<long>(
            (t.is_call ? options_.timeout : std::min(options_.timeout, options_.connect_timeout * 3)).count()));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &impl::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &impl::on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &impl::on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, &impl::on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, this);
    if (t.is_call) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.call.body.size()));
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, &impl::on_read);
        curl_easy_setopt(easy, CURLOPT_READDATA, &t);
        if (options_.stall > 0ns) {
            curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &impl::on_connected);
            curl_easy_setopt(easy, CURLOPT_PREREQDATA, &t);
        }
    } else {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    }
}

void qwen_client::impl::start(transfer_ptr t) {
    auto* const raw = t.get();
    if (auto const code = curl_multi_add_handle(multi_, raw->easy); code != CURLM_OK) {
        throw client_error(std::string("libcurl: ") + curl_multi_strerror(code));
    }
    live_.insert(t.release());
    ++added_;
    perform();
}

void qwen_client::impl::perform() {
    if (auto const code = curl_multi_perform(multi_, &running_); code != CURLM_OK) {
        throw client_error(std::string("libcurl: ") + curl_multi_strerror(code));
    }
}

void qwen_client::impl::check_endpoint() {
    auto t = std::make_unique<transfer>();
    t->is_call = false;
    prepare(*t);
    auto* const raw = t.get();
    ++opening_;
    start(std::move(t));
    for (;;) {
        int left = 0;
        perform();
        if (auto const* message = curl_multi_info_read(multi_, &left);
            message != nullptr && message->msg == CURLMSG_DONE) {
            auto const result = message->data.result;
            curl_multi_remove_handle(multi_, raw->easy);
            --added_;
            transfer_ptr const mine(raw);
            live_.erase(raw);
            read_reply(*raw, result);
            free_easy_.push_back(std::exchange(raw->easy, nullptr));
            --opening_;
            if (raw->has_socket) --opening_with_socket_;
            if (result != CURLE_OK) throw client_error("cannot reach " + options_.base_url + ": " + raw->now.message);
            if (raw->now.status == 401 || raw->now.status == 403) {
                throw client_error(options_.base_url + " refuses the key: " + std::to_string(raw->now.status) + " " +
                                   raw->now.code + ": " + raw->now.message);
            }
            return;  // a proxy may have no list of models
        }
        if (stopped_.load(std::memory_order_relaxed)) return;
        curl_multi_poll(multi_, nullptr, 0, 1000, nullptr);
    }
}

void qwen_client::impl::submit(chat_call call) {
    auto t = std::make_unique<transfer>();
    t->call = std::move(call);
    {
        std::lock_guard const lock{mutex_};
        submitted_.push_back(std::move(t));
    }
    woken_.store(true, std::memory_order_release);
    curl_multi_wakeup(multi_);
}

void qwen_client::impl::stop() {
    stopped_.store(true, std::memory_order_relaxed);
    woken_.store(true, std::memory_order_release);
    curl_multi_wakeup(multi_);
}

void qwen_client::impl::take_submitted() {
    if (!woken_.exchange(false, std::memory_order_acquire)) return;
    std::lock_guard const lock{mutex_};
    for (auto& t : submitted_) line_.push_back(std::move(t));
    submitted_.clear();
}

void qwen_client::impl::run() {
    for (;;) {
        take_submitted();
        reap();
        if (stopped_.load(std::memory_order_relaxed)) return;
        if (line_.empty() && retries_.empty() && busy_ == 0) {
            take_submitted();
            if (line_.empty()) return;
        }
        keep_spares();
        wait(dispatch());
    }
}

// Connections that are open and wait for a request.
std::size_t qwen_client::impl::idle() const {
    auto const taken = busy_ + opening_with_socket_;
    return open_ > taken ? open_ - taken : 0;
}

void qwen_client::impl::keep_spares() {
    if (!keeps_spares_) return;
    auto wanted = std::max<std::size_t>(options_.spare_connections, 1);
    if (options_.in_flight != 0) wanted = std::min(wanted, options_.in_flight - std::min(options_.in_flight, busy_));
    wanted = std::min(wanted, line_.size() + retries_.size());
    while (idle() + opening_ < wanted) {
        auto t = std::make_unique<transfer>();
        t->is_call = false;
        prepare(*t);
        ++opening_;
        start(std::move(t));
    }
    if (opening_ == 0) spares_complete_ = true;
}

bool qwen_client::impl::connection_ready() const { return !keeps_spares_ || (spares_complete_ && idle() > 0); }

// Sends what may go. Returns when to try again, unless something ends before.
steady_time qwen_client::impl::dispatch() {
    for (;;) {
        bool const retrying = !retries_.empty() && retries_.top().due <= steady_clock::now();
        steady_time const next_retry = retries_.empty() ? steady_time::max() : retries_.top().due;
        if (!retrying && line_.empty()) return next_retry;
        if (options_.in_flight != 0 && busy_ >= options_.in_flight) return steady_time::max();
        if (!connection_ready()) return steady_time::max();

        auto& t = retrying ? *retries_.top().what : *line_.front();
        if (!std::exchange(t.announced, true)) observer_.about_to_send(t.call, t.number);
        if (t.easy == nullptr) prepare(t);

        auto const stamp = steady_clock::now();
        auto const answer = limiter_.admit(t.call.id, t.call.bound);
        if (answer.what == admission::kind::later) {
            observer_.waiting(answer);
            return std::min(answer.ask_at, retrying ? steady_time::max() : next_retry);
        }
        t.now.stamp = stamp;
        if (options_.send_stamps) {
            t.stamp_text = "X-Weir-Stamp: " + std::to_string(stamp.time_since_epoch() / 1ns);
            t.stamp_header = {t.stamp_text.data(), headers_};
            curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, &t.stamp_header);
        }
        transfer_ptr mine;
        if (retrying) {
            live_.erase(&t);
            mine.reset(&t);
            retries_.pop();
        } else {
            mine = std::move(line_.front());
            line_.pop_front();
        }
        if (answer.what == admission::kind::never) {
            free_easy_.push_back(std::exchange(mine->easy, nullptr));
            mine->now.done = steady_clock::now();
            mine->now.code = "exceeds_quota";
            mine->now.message = "may use " + std::to_string(mine->call.bound.input) + " + " +
                                std::to_string(mine->call.bound.output) + " tokens, which is more than the limit (" +
                                std::string(answer.limit) + ") can ever admit";
            observer_.failed(mine->now);
            continue;
        }
        ++busy_;
        start(std::move(mine));
        observer_.sent(t.call, t.number, stamp);
    }
}

void qwen_client::impl::reap() {
    int left = 0;
    while (auto const* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        auto const result = message->data.result;
        auto* const easy = message->easy_handle;
        transfer* raw = nullptr;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &raw);
        transfer_ptr t(raw);
        live_.erase(raw);
        read_reply(*t, result);
        curl_multi_remove_handle(multi_, easy);
        --added_;
        free_easy_.push_back(std::exchange(t->easy, nullptr));
        if (t->is_call) {
            --busy_;
            end_call(std::move(t));
        } else {
            --opening_;
            if (t->has_socket) --opening_with_socket_;
            end_spare(std::move(t), result);
        }
    }
}

void qwen_client::impl::end_spare(transfer_ptr t, CURLcode result) {
    if (t->now.status == 401) throw client_error("the key is not accepted: 401 " + t->now.code + ": " + t->now.message);
    barren_ = result == CURLE_OK && idle() > 0 ? 0 : barren_ + 1;
    if (barren_ >= 3) keeps_spares_ = false;
}

void qwen_client::impl::read_reply(transfer& t, CURLcode result) {
    auto& a = t.now;
    a.done = steady_clock::now();
    long status = 0, version = 0, sent = 0;
    curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t.easy, CURLINFO_HTTP_VERSION, &version);
    curl_easy_getinfo(t.easy, CURLINFO_REQUEST_SIZE, &sent);
    if (version >= CURL_HTTP_VERSION_2_0) keeps_spares_ = false;
    if (result != CURLE_OK) {
        a.status = 0;
        a.body.clear();
        a.code = "transport";
        a.message = curl_easy_strerror(result);
        long error = 0;
        if (curl_easy_getinfo(t.easy, CURLINFO_OS_ERRNO, &error) == CURLE_OK && error != 0 &&
            result == CURLE_COULDNT_CONNECT) {
            a.message += std::string(": ") + std::strerror(static_cast<int>(error));
        }
        switch (result) {
            case CURLE_COULDNT_RESOLVE_PROXY:
            case CURLE_COULDNT_RESOLVE_HOST:
            case CURLE_COULDNT_CONNECT:
            case CURLE_SSL_CONNECT_ERROR:
            case CURLE_PEER_FAILED_VERIFICATION:
            case CURLE_OPERATION_TIMEDOUT:
                a.connected = sent > 0;
                break;
            default:
                break;
        }
        a.charge = a.connected && !t.stalled ? charge::unknown : charge::nothing;
        return;
    }
    a.status = static_cast<int>(status);
    auto const body = nlohmann::json::parse(a.body, nullptr, false);
    if (body.is_object()) {
        if (a.request_id.empty()) a.request_id = text_of(body, "request_id");
        auto const error = body.find("error");
        auto const& said = error != body.end() && error->is_object() ? *error : body;
        if (a.status != 200) {
            a.code = text_of(said, "code");
            a.message = text_of(said, "message");
        }
    }
    switch (a.status) {
        case 200: {
            a.charge = charge::bound;
            if (!body.is_object()) break;
            auto const usage = body.find("usage");
            if (usage == body.end() || !usage->is_object()) break;
            auto const input = count_of(*usage, "prompt_tokens"), output = count_of(*usage, "completion_tokens");
            if (!input || !output) break;
            a.usage = {*input, *output};
            a.charge = charge::used;
            break;
        }
        case 401:
        case 403:
        case 404:
        case 413:
        case 429:
            a.charge = charge::request;
            break;
        default:
            a.charge = charge::bound;
            break;
    }
}

void qwen_client::impl::end_call(transfer_ptr t) {
    auto& a = t->now;
    limiter_.ended(a);
    if (a.answered()) {
        observer_.ended(a, false);
        observer_.answered(a);
        return;
    }
    bool const again = a.status == 0 || a.status == 408 || a.status == 429 || a.status >= 500;
    if (t->stalled) {
        observer_.ended(a, true);
        t->announced = false;
        retries_.push({a.done, order_++, t.get()});
        live_.insert(t.release());
        return;
    }
    if (t->number == 0) t->first_stamp = a.stamp;
    auto const pause = again ? options_.retry.next(t->number, random_, t->hint, a.done - t->first_stamp) : std::nullopt;
    observer_.ended(a, pause.has_value());
    if (pause) {
        ++t->number;
        t->announced = false;
        retries_.push({a.done + *pause, order_++, t.get()});
        live_.insert(t.release());
        return;
    }
    observer_.failed(a);
    if (a.status == 401 || a.status == 403 || a.status == 404 || a.code == "Arrearage") {
        throw client_error("the endpoint refuses every call: " + std::to_string(a.status) + " " + a.code + ": " +
                           a.message);
    }
    if (!a.connected) throw client_error("cannot reach " + options_.base_url + " any more: " + a.message);
}

// Sleeps in the kernel while there is time, then watches the clock: a thread that sleeps wakes late, by up to milliseconds.
void qwen_client::impl::wait(steady_time until) {
    if (running_ < added_) return;  // over already, seen while something was sent: no socket would wake us for it
    auto const now = steady_clock::now();
    if (until > now + options_.spin) {
        auto const sleep = until == steady_time::max()
                               ? 1000ms
                               : std::chrono::floor<std::chrono::milliseconds>(until - now - options_.spin);
        if (woken_.load(std::memory_order_relaxed)) return;
        curl_multi_poll(multi_, nullptr, 0, static_cast<int>(std::min(sleep, 1000ms).count()), nullptr);
    } else {
        while (steady_clock::now() < until && !woken_.load(std::memory_order_relaxed)) {
        }
    }
    perform();
}

qwen_client::qwen_client(client_options options, limiter_adapter& limiter, call_observer& observer)
    : impl_{std::make_unique<impl>(std::move(options), limiter, observer)} {}
qwen_client::~qwen_client() = default;
void qwen_client::check_endpoint() { impl_->check_endpoint(); }
void qwen_client::submit(chat_call call) { impl_->submit(std::move(call)); }
void qwen_client::run() { impl_->run(); }
void qwen_client::stop() { impl_->stop(); }
std::size_t qwen_client::in_flight() const noexcept { return impl_->in_flight(); }

}  // namespace qwen
