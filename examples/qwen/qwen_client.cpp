// SPDX-License-Identifier: MIT
#include "qwen_client.hpp"

#include <curl/curl.h>

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <queue>
#include <unordered_set>
#include <utility>
#include <vector>

namespace qwen {

namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t largest_reply = 64U << 20U, largest_head = 64U << 10U;

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

// They would become headers of their own.
void refuse_controls(std::string const& text) {
    if (std::any_of(text.begin(), text.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
        throw client_error("a line break or control character in the base URL or the key");
    }
}

std::string_view trimmed(std::string_view text) {
    auto const from = text.find_first_not_of(" \t");
    auto const until = text.find_last_not_of(" \t\r\n");
    return from == std::string_view::npos || until == std::string_view::npos || until < from
               ? std::string_view{}
               : text.substr(from, until - from + 1);
}

}  // namespace

std::optional<std::string_view> attempt::header(std::string_view name) const {
    for (std::string_view rest = headers; !rest.empty();) {
        auto const line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (line.size() <= name.size() || line[name.size()] != ':') continue;
        auto const same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + ('a' - 'A') : b); };
        if (std::equal(name.begin(), name.end(), line.begin(), same)) return trimmed(line.substr(name.size() + 1));
    }
    return std::nullopt;
}

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
    impl(client_options options, call_driver& driver, call_observer& observer);
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
        bool is_call = true, announced = false, has_socket = false;
        std::uint32_t number = 0;
        CURL* easy = nullptr;
        std::string head;  // sent in place of the first `skip` bytes of the body
        std::size_t skip = 0;
        std::size_t read = 0;  // of both, by libcurl
        attempt now;
        std::string stamp_text, queue_text;
        curl_slist stamp_header{}, queue_header{};  // ahead of the headers that all share
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
    curl_slist* headers_for(std::string const& key);
    void direct(transfer& t, target const* to);
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
    void end_for_good(attempt& a, std::string const& why, bool fatal);
    void end_spare(transfer_ptr t, CURLcode result);
    void wait(steady_time until);

    client_options options_;
    call_driver& driver_;
    call_observer& observer_;
    std::string models_url_;
    std::map<std::string, curl_slist*> headers_;  // by key
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

qwen_client::impl::impl(client_options options, call_driver& driver, call_observer& observer)
    : options_{std::move(options)}, driver_{driver}, observer_{observer} {
    static curl_library const library;
    while (options_.base_url.ends_with('/')) options_.base_url.pop_back();
    if (options_.base_url.empty()) throw client_error("no base URL: set DASHSCOPE_BASE_URL or OPENAI_BASE_URL");
    refuse_controls(options_.base_url);
    models_url_ = options_.base_url + "/models";
    headers_for(options_.key);
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
    for (auto& [key, list] : headers_) curl_slist_free_all(list);
}

curl_slist* qwen_client::impl::headers_for(std::string const& key) {
    auto const found = headers_.find(key);
    if (found != headers_.end()) return found->second;
    refuse_controls(key);
    curl_slist* list = nullptr;
    for (char const* text : {"Content-Type: application/json", "Accept: application/json", "Expect:"})
        list = curl_slist_append(list, text);
    if (!key.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + key).c_str());
    headers_.emplace(key, list);
    return list;
}

std::size_t qwen_client::impl::on_body(char* data, std::size_t size, std::size_t count, void* to) {
    auto& t = *static_cast<transfer*>(to);
    if (t.now.body.size() + size * count > largest_reply) return 0;
    t.now.body.append(data, size * count);
    return size * count;
}

std::size_t qwen_client::impl::on_header(char* data, std::size_t size, std::size_t count, void* to) {
    auto& headers = static_cast<transfer*>(to)->now.headers;
    std::string_view const line(data, size * count);
    if (line.starts_with("HTTP/")) headers.clear();  // of what came before: 100 Continue, a proxy's
    if (headers.size() + line.size() <= largest_head) headers += line;
    return size * count;
}

// There is no way to go back in the body, on purpose: when a connection that was open turns out to be dead, libcurl
// would send the request a second time, and the server may count both. Like this the attempt fails, and its retry
// takes permits of its own.
std::size_t qwen_client::impl::on_read(char* to, std::size_t size, std::size_t count, void* from) {
    auto& t = *static_cast<transfer*>(from);
    std::string_view const head = t.head, body = std::string_view(t.call.body).substr(t.skip);
    auto const part = t.read < head.size() ? head.substr(t.read) : body.substr(t.read - head.size());
    auto const n = std::min(size * count, part.size());
    std::memcpy(to, part.data(), n);
    t.read += n;
    return n;
}

// The connection is there, and the next thing is to write to it: the last moment at which nothing has left.
int qwen_client::impl::on_connected(void* of, char*, char*, int, int) {
    auto& t = *static_cast<transfer*>(of);
    t.now.withdrawn = steady_clock::now() - t.now.stamp > t.owner->options_.stall;
    return t.now.withdrawn ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
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
    t.head.clear();
    t.skip = 0;
    t.now = {};
    t.now.id = t.call.id;
    t.now.number = t.number;
    t.now.bound = t.call.bound;
    auto* const easy = t.easy;
    check(curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https"), "https");
    check(curl_easy_setopt(easy, CURLOPT_URL, models_url_.c_str()), "URL");
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &t);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "weir-qwen-client/1");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_for(options_.key));
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

// Where it goes. Between the stamp and the send: a few strings, whatever the size of the body.
void qwen_client::impl::direct(transfer& t, target const* to) {
    auto* const easy = t.easy;
    std::string url = to != nullptr && !to->base_url.empty() ? to->base_url : options_.base_url;
    while (url.ends_with('/')) url.pop_back();
    check(curl_easy_setopt(easy, CURLOPT_URL, (url + "/chat/completions").c_str()), "URL");
    auto* headers = headers_for(to != nullptr && !to->key.empty() ? to->key : options_.key);
    if (to != nullptr && to->server_queue > 0s) {
        t.queue_text = "X-DashScope-Wait-Timeout: " + std::to_string(to->server_queue / 1s);
        t.queue_header = {t.queue_text.data(), headers};
        headers = &t.queue_header;
        if (options_.timeout > 0ms) {
            curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                             static_cast<long>((options_.timeout + to->server_queue).count()));
        }
    }
    if (options_.send_stamps) {
        t.stamp_text = "X-Weir-Stamp: " + std::to_string(t.now.stamp.time_since_epoch() / 1ns);
        t.stamp_header = {t.stamp_text.data(), headers};
        headers = &t.stamp_header;
    }
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    constexpr std::string_view begin = R"({"model":")";
    if (to != nullptr && !to->model.empty()) {
        t.now.model = to->model;
        if (auto const end = t.call.body.find('"', begin.size());
            t.call.body.starts_with(begin) && end != std::string::npos) {
            t.head = R"({"model":)" + nlohmann::json(to->model).dump();
            t.skip = end + 1;
        }
    }
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(t.head.size() + t.call.body.size() - t.skip));
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
        auto answer = driver_.admit(t.call);
        if (answer.what == admission::kind::later) {
            observer_.waiting(answer);
            return std::min(answer.ask_at, retrying ? steady_time::max() : next_retry);
        }
        t.now.stamp = stamp;
        if (answer.what == admission::kind::now) direct(t, answer.to);
        transfer_ptr mine;
        if (retrying) {
            live_.erase(&t);
            mine.reset(&t);
            retries_.pop();
        } else {
            mine = std::move(line_.front());
            line_.pop_front();
        }
        if (answer.what == admission::kind::over) {
            free_easy_.push_back(std::exchange(mine->easy, nullptr));
            if (answer.last) {
                end_for_good(*answer.last, answer.message, answer.fatal);
                continue;
            }
            mine->now.done = steady_clock::now();
            mine->now.code = std::move(answer.code);
            end_for_good(mine->now, answer.message, answer.fatal);
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
            case CURLE_OPERATION_TIMEDOUT: a.connected = sent > 0; break;
            default: break;
        }
        a.charge = a.connected && !a.withdrawn ? charge::unknown : charge::nothing;
        return;
    }
    a.status = static_cast<int>(status);
    if (auto const id = a.header("x-request-id")) a.request_id = *id;
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
            if (!body.is_object()) {
                a.code = "garbled_answer";
                a.message = "200, and a body that is no JSON object";
                break;
            }
            auto const usage = body.find("usage");
            if (usage == body.end() || !usage->is_object()) break;
            auto const input = count_of(*usage, "prompt_tokens"), output = count_of(*usage, "completion_tokens");
            if (!input || !output) break;
            a.usage = {.input = *input, .output = *output};
            a.charge = charge::used;
            break;
        }
        case 401:
        case 403:
        case 404:
        case 413:
        case 429: a.charge = charge::request; break;
        default: a.charge = charge::bound; break;
    }
}

void qwen_client::impl::end_call(transfer_ptr t) {
    auto& a = t->now;
    auto const next = driver_.ended(a);
    observer_.ended(a, next.what == next_step::kind::again);
    switch (next.what) {
        case next_step::kind::answered: observer_.answered(a); return;
        case next_step::kind::again:
            if (!a.withdrawn) ++t->number;
            t->announced = false;
            retries_.push({next.due, order_++, t.get()});
            live_.insert(t.release());
            return;
        case next_step::kind::failed: break;
    }
    end_for_good(a, next.why, next.fatal);
}

void qwen_client::impl::end_for_good(attempt& a, std::string const& why, bool fatal) {
    if (!why.empty()) a.message += a.message.empty() ? why : " (" + why + ")";
    observer_.failed(a);
    if (!fatal) return;
    if (!a.connected) throw client_error("cannot reach " + options_.base_url + " any more: " + a.message);
    throw client_error("the endpoint refuses every call: " + std::to_string(a.status) + " " + a.code + ": " +
                       a.message);
}

// Sleeps in the kernel while there is time, then watches the clock: a thread that sleeps wakes late, by up to
// milliseconds.
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

qwen_client::qwen_client(client_options options, call_driver& driver, call_observer& observer)
    : impl_{std::make_unique<impl>(std::move(options), driver, observer)} {}
qwen_client::~qwen_client() = default;
void qwen_client::check_endpoint() { impl_->check_endpoint(); }
void qwen_client::submit(chat_call call) { impl_->submit(std::move(call)); }
void qwen_client::run() { impl_->run(); }
void qwen_client::stop() { impl_->stop(); }
std::size_t qwen_client::in_flight() const noexcept { return impl_->in_flight(); }

}  // namespace qwen
