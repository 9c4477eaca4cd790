// SPDX-License-Identifier: MIT
#include "qwen_client.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <queue>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "connection_count.hpp"
#include "curl_transfer.hpp"

namespace qwen {

namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

client_options without_slash(client_options o) {
    while (o.base_url.ends_with('/')) o.base_url.pop_back();
    return o;
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

// The line, the retries, and the loop that sends and receives.
class qwen_client::impl {
public:
    impl(client_options options, call_driver& driver, call_observer& observer);
    ~impl();
    void check_endpoint();
    void submit(chat_call call);
    void run();
    void stop();
    [[nodiscard]] std::size_t in_flight() const noexcept { return connections_.busy(); }

private:
    struct retry {
        steady_time due;
        std::uint64_t order;
        transfer* what;
        bool operator>(retry const& other) const { return std::tie(due, order) > std::tie(other.due, other.order); }
    };

    void start(transfer_ptr t);
    void perform();
    void take_submitted();
    transfer* open_spare();
    void keep_spares();
    steady_time dispatch();
    void reap();
    void end_call(transfer_ptr t);
    void end_for_good(attempt& a, std::string const& why, bool fatal);
    void end_spare(transfer const& t, CURLcode result);
    transfer_ptr take_over(transfer* t, CURLcode result);
    void wait(steady_time until);

    client_options options_;
    call_driver& driver_;
    call_observer& observer_;
    connection_count connections_{options_};
    curl_setup setup_{options_, connections_};
    CURLM* multi_ = nullptr;

    std::deque<transfer_ptr> line_;  // the first asks, the others wait
    std::priority_queue<retry, std::vector<retry>, std::greater<>> retries_;
    std::unordered_set<transfer*> live_;  // owned: in flight or waiting for a retry
    std::uint64_t order_ = 0;

    int added_ = 0, running_ = 0;  // handles that libcurl has, and those of them that are not over

    std::atomic<bool> stopped_{false};
    std::atomic<bool> woken_{false};
    std::mutex mutex_;
    std::vector<transfer_ptr> submitted_;  // guarded by mutex_
};

qwen_client::impl::impl(client_options options, call_driver& driver, call_observer& observer)
    : options_{without_slash(std::move(options))}, driver_{driver}, observer_{observer} {
    multi_ = curl_multi_init();
    if (multi_ == nullptr) throw client_error("libcurl: cannot start");
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 8192L);
}

// libcurl wants every handle gone before the connections of them all.
qwen_client::impl::~impl() {
    for (auto* t : live_) {
        if (t->easy) curl_multi_remove_handle(multi_, t->easy.get());
        delete t;
    }
    line_.clear();
    setup_.drop_free_handles();
    curl_multi_cleanup(multi_);
}

void qwen_client::impl::start(transfer_ptr t) {
    auto* const raw = t.get();
    if (auto const code = curl_multi_add_handle(multi_, raw->easy.get()); code != CURLM_OK) {
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
    auto* const raw = open_spare();
    for (;;) {
        int left = 0;
        perform();
        if (auto const* message = curl_multi_info_read(multi_, &left);
            message != nullptr && message->msg == CURLMSG_DONE) {
            auto const result = message->data.result;
            auto const t = take_over(raw, result);
            connections_.spare_ended(t->has_socket);
            auto const& a = t->now;
            if (result != CURLE_OK) throw client_error("cannot reach " + options_.base_url + ": " + a.message);
            if (a.status == 401 || a.status == 403) {
                throw client_error(options_.base_url + " refuses the key: " + std::to_string(a.status) + " " + a.code +
                                   ": " + a.message);
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
        if (line_.empty() && retries_.empty() && connections_.busy() == 0) {
            take_submitted();
            if (line_.empty()) return;
        }
        keep_spares();
        wait(dispatch());
    }
}

transfer* qwen_client::impl::open_spare() {
    auto t = std::make_unique<transfer>();
    t->is_call = false;
    setup_.prepare(*t);
    auto* const raw = t.get();
    connections_.spare_began();
    start(std::move(t));
    return raw;
}

void qwen_client::impl::keep_spares() {
    while (connections_.wants_spare(line_.size() + retries_.size())) open_spare();
    connections_.spares_begun();
}

// Sends what may go. Returns when to try again, unless something ends before.
steady_time qwen_client::impl::dispatch() {
    for (;;) {
        bool const retrying = !retries_.empty() && retries_.top().due <= steady_clock::now();
        steady_time const next_retry = retries_.empty() ? steady_time::max() : retries_.top().due;
        if (!retrying && line_.empty()) return next_retry;
        if (options_.in_flight != 0 && connections_.busy() >= options_.in_flight) return steady_time::max();
        if (!connections_.ready()) return steady_time::max();

        auto& t = retrying ? *retries_.top().what : *line_.front();
        if (!std::exchange(t.announced, true)) observer_.about_to_send(t.call, t.number);
        if (!t.easy) setup_.prepare(t);

        auto const stamp = steady_clock::now();
        auto answer = driver_.admit(t.call);
        if (answer.what == admission::kind::later) {
            observer_.waiting(answer);
            return std::min(answer.ask_at, retrying ? steady_time::max() : next_retry);
        }
        t.now.stamp = stamp;
        if (answer.what == admission::kind::now) setup_.direct(t, answer.to);
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
            setup_.release(*mine);
            if (answer.last) {
                end_for_good(*answer.last, answer.message, answer.fatal);
                continue;
            }
            mine->now.done = steady_clock::now();
            mine->now.code = std::move(answer.code);
            end_for_good(mine->now, answer.message, answer.fatal);
            continue;
        }
        connections_.call_began();
        start(std::move(mine));
        observer_.sent(t.call, t.number, stamp);
    }
}

// A transfer that is over, with its result, back from libcurl.
transfer_ptr qwen_client::impl::take_over(transfer* t, CURLcode result) {
    live_.erase(t);
    transfer_ptr mine(t);
    setup_.read_result(*t, result);
    curl_multi_remove_handle(multi_, t->easy.get());
    --added_;
    setup_.release(*t);
    return mine;
}

void qwen_client::impl::reap() {
    int left = 0;
    while (auto const* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        auto const result = message->data.result;
        transfer* raw = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &raw);
        auto t = take_over(raw, result);
        if (t->is_call) {
            connections_.call_ended();
            end_call(std::move(t));
        } else {
            end_spare(*t, result);
        }
    }
}

void qwen_client::impl::end_spare(transfer const& t, CURLcode result) {
    connections_.spare_ended(t.has_socket);
    if (t.now.status == 401) throw client_error("the key is not accepted: 401 " + t.now.code + ": " + t.now.message);
    connections_.spare_answered(result == CURLE_OK);
}

void qwen_client::impl::end_call(transfer_ptr t) {
    auto& a = t->now;
    auto const next = driver_.ended(a);
    observer_.ended(a, next.what == next_step::kind::again);
    switch (next.what) {
        case next_step::kind::answered: observer_.answered(a); return;
        case next_step::kind::again:
            if (!a.cancelled) ++t->number;
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
