// SPDX-License-Identifier: MIT
#include "curl_transfer.hpp"

#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

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

// They would become headers of their own.
void refuse_controls(std::string const& text) {
    if (std::any_of(text.begin(), text.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; })) {
        throw client_error("a line break or control character in the base URL or the key");
    }
}

// No answer came.
void read_failure(attempt& a, CURL* easy, CURLcode result) {
    a.status = 0;
    a.body.clear();
    a.code = "transport";
    a.message = curl_easy_strerror(result);
    long error = 0, sent = 0;
    curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent);
    if (curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error) == CURLE_OK && error != 0 &&
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
    a.charge = a.connected && !a.cancelled ? charge::unknown : charge::nothing;
}

}  // namespace

curl_setup::curl_setup(client_options const& options, connection_count& connections)
    : options_{options}, connections_{connections}, models_url_{options.base_url + "/models"} {
    static curl_library const library;
    if (options_.base_url.empty()) throw client_error("no base URL: set DASHSCOPE_BASE_URL or OPENAI_BASE_URL");
    refuse_controls(options_.base_url);
    (void)headers_for(options_.key);
}

curl_setup::~curl_setup() {
    for (auto& [key, list] : headers_) curl_slist_free_all(list);
}

curl_slist* curl_setup::headers_for(std::string const& key) {
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

std::size_t curl_setup::on_body(char* data, std::size_t size, std::size_t count, void* to) {
    auto& t = *static_cast<transfer*>(to);
    if (t.now.body.size() + size * count > largest_reply) return 0;
    t.now.body.append(data, size * count);
    return size * count;
}

std::size_t curl_setup::on_header(char* data, std::size_t size, std::size_t count, void* to) {
    auto& headers = static_cast<transfer*>(to)->now.headers;
    std::string_view const line(data, size * count);
    if (line.starts_with("HTTP/")) headers.clear();  // of what came before: 100 Continue, a proxy's
    if (headers.size() + line.size() <= largest_head) headers += line;
    return size * count;
}

// There is no way to go back in the body, on purpose: when an open connection turns out to be dead, libcurl would send
// the request a second time, and the server may count both. Without it the attempt fails, and its retry takes permits
// of its own.
std::size_t curl_setup::on_read(char* to, std::size_t size, std::size_t count, void* from) {
    auto& t = *static_cast<transfer*>(from);
    std::string_view const head = t.head, body = std::string_view(t.call.body).substr(t.skip);
    auto const part = t.read < head.size() ? head.substr(t.read) : body.substr(t.read - head.size());
    auto const n = std::min(size * count, part.size());
    std::memcpy(to, part.data(), n);
    t.read += n;
    return n;
}

// The connection is there, and the next thing is to write to it: the last moment at which nothing has left.
int curl_setup::on_connected(void* of, char*, char*, int, int) {
    auto& t = *static_cast<transfer*>(of);
    t.now.cancelled = steady_clock::now() - t.now.stamp > t.owner->options_.stall;
    return t.now.cancelled ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

curl_socket_t curl_setup::on_open(void* to, curlsocktype, curl_sockaddr* address) {
    auto& t = *static_cast<transfer*>(to);
    auto const socket = ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (socket < 0) return CURL_SOCKET_BAD;
    auto& connections = t.owner->connections_;
    connections.socket_opened();
    if (!t.is_call && !std::exchange(t.has_socket, true)) connections.spare_got_socket();
    return socket;
}

int curl_setup::on_close(void* to, curl_socket_t socket) {
    static_cast<connection_count*>(to)->socket_closed();
    return ::close(socket);
}

easy_ptr curl_setup::handle() {
    if (free_.empty()) {
        easy_ptr easy{curl_easy_init()};
        if (!easy) throw client_error("libcurl: out of memory");
        return easy;
    }
    auto easy = std::move(free_.back());
    free_.pop_back();
    curl_easy_reset(easy.get());
    return easy;
}

void curl_setup::prepare(transfer& t) {
    t.owner = this;
    t.easy = handle();
    t.read = 0;
    t.head.clear();
    t.skip = 0;
    t.now = {};
    t.now.id = t.call.id;
    t.now.number = t.number;
    t.now.bound = t.call.bound;
    auto* const easy = t.easy.get();
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
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &curl_setup::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &curl_setup::on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &curl_setup::on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, &curl_setup::on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, &connections_);
    if (t.is_call) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, &curl_setup::on_read);
        curl_easy_setopt(easy, CURLOPT_READDATA, &t);
        if (options_.stall > 0ns) {
            curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &curl_setup::on_connected);
            curl_easy_setopt(easy, CURLOPT_PREREQDATA, &t);
        }
    } else {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    }
}

void curl_setup::direct(transfer& t, target const* to) {
    auto* const easy = t.easy.get();
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

void curl_setup::read_result(transfer& t, CURLcode result) {
    auto& a = t.now;
    a.done = steady_clock::now();
    long status = 0, version = 0;
    curl_easy_getinfo(t.easy.get(), CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t.easy.get(), CURLINFO_HTTP_VERSION, &version);
    if (version >= CURL_HTTP_VERSION_2_0) connections_.keep_no_spares();
    if (result != CURLE_OK) return read_failure(a, t.easy.get(), result);
    a.status = static_cast<int>(status);
    read_answer(a);
}

}  // namespace qwen
