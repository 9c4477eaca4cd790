// SPDX-License-Identifier: MIT
//
// cpp-httplib's server with what a judge of milliseconds needs. The library's own loop looks for the next request on
// an open connection by turns of poll and sleep, gives each connection one of a few threads, has a backlog of five,
// and ends an idle connection only when its time is over. Here a connection has its own thread, blocked in one poll;
// the arrival is the instant at which that poll saw the first byte; an answer leaves in one write; and stop() cuts
// every connection.
#pragma once

#include <httplib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace qwen {

/// CLOCK_MONOTONIC, which is also std::chrono::steady_clock's; one for all processes of a machine.
inline std::int64_t monotonic_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

/// A thread for each task that runs at the same time, up to a bound; idle ones are used again.
class elastic_pool final : public httplib::TaskQueue {
public:
    explicit elastic_pool(std::size_t most) : most_{most} {}

    void enqueue(std::function<void()> task) override {
        std::lock_guard const lock{mutex_};
        tasks_.push_back(std::move(task));
        if (idle_ < tasks_.size() && threads_.size() < most_) {
            threads_.emplace_back([this] { work(); });
        } else {
            wake_.notify_one();
        }
    }

    void shutdown() override {
        {
            std::lock_guard const lock{mutex_};
            ended_ = true;
            wake_.notify_all();
        }
        for (auto& t : threads_) t.join();
        threads_.clear();
    }

private:
    void work() {
        std::unique_lock lock{mutex_};
        for (;;) {
            ++idle_;
            wake_.wait(lock, [this] { return ended_ || !tasks_.empty(); });
            --idle_;
            if (tasks_.empty()) return;
            auto const task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> tasks_;
    std::vector<std::thread> threads_;
    std::size_t most_, idle_ = 0;
    bool ended_ = false;
};

/// A socket that collects what is written until it is flushed, or until something is to be read.
class connection final : public httplib::Stream {
public:
    explicit connection(socket_t fd) : fd_{fd} {
        int const on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }

    /// False when the peer has nothing to say for so long.
    bool wait(int timeout_ms) const { return begin_ != end_ || ready(POLLIN, timeout_ms); }

    /// Waits until then (CLOCK_MONOTONIC) or until the peer has closed; whether it has.
    bool peer_left_by(std::int64_t real) const {
        for (;;) {
            auto const now = monotonic_ns();
            auto const left = real > now ? real - now : 0;
            timespec const patience{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
            pollfd p{fd_, POLLRDHUP, 0};
            if (::ppoll(&p, 1, &patience, nullptr) > 0) return true;
            if (monotonic_ns() >= real) return false;
        }
    }

    /// Closes: what was not sent by now never is.
    void drop() {
        dropped_ = true;
        ::shutdown(fd_, SHUT_RDWR);
    }

    bool flush() {
        if (dropped_) out_.clear();
        auto const* at = out_.data();
        auto left = out_.size();
        while (left != 0) {
            auto const n = ::send(fd_, at, left, MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && ready(POLLOUT, io_timeout_ms)) continue;
            if (n <= 0) break;
            at += n;
            left -= static_cast<std::size_t>(n);
        }
        out_.clear();
        return left == 0 && !dropped_;
    }

    bool is_readable() const override { return begin_ != end_ || ready(POLLIN, 0); }
    bool is_writable() const override { return ready(POLLOUT, io_timeout_ms); }

    ssize_t read(char* to, size_t size) override {
        if (begin_ == end_) {
            if (!flush() || !ready(POLLIN, io_timeout_ms)) return -1;
            ssize_t n = 0;
            do n = ::recv(fd_, in_, sizeof in_, 0);
            while (n < 0 && errno == EINTR);
            if (n <= 0) return n;
            begin_ = 0;
            end_ = static_cast<std::size_t>(n);
        }
        auto const n = size < end_ - begin_ ? size : end_ - begin_;
        std::memcpy(to, in_ + begin_, n);
        begin_ += n;
        return static_cast<ssize_t>(n);
    }

    ssize_t write(const char* from, size_t size) override {
        out_.append(from, size);
        return static_cast<ssize_t>(size);
    }

    void get_remote_ip_and_port(std::string& ip, int& port) const override { ip = "127.0.0.1", port = 0; }
    void get_local_ip_and_port(std::string& ip, int& port) const override { ip = "127.0.0.1", port = 0; }
    socket_t socket() const override { return fd_; }

private:
    static constexpr int io_timeout_ms = 30'000;

    bool ready(short what, int timeout_ms) const {
        pollfd p{fd_, what, 0};
        int n = 0;
        do n = ::poll(&p, 1, timeout_ms);
        while (n < 0 && errno == EINTR);
        return n > 0;
    }

    socket_t fd_;
    std::size_t begin_ = 0, end_ = 0;
    char in_[16'384];
    std::string out_;
    bool dropped_ = false;
};

class http_server final : public httplib::Server {
public:
    explicit http_server(std::size_t max_connections) {
        new_task_queue = [max_connections] { return new elastic_pool{max_connections}; };
        // The library's own choice, SO_REUSEPORT, lets two servers have one port and splits the clients between them.
        set_socket_options([](socket_t fd) {
            int const on = 1;
            ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        });
    }

    /// A port of 127.0.0.1, or 0 for a free one. The port, or -1.
    int bind(int port) {
        int const bound = port == 0 ? bind_to_any_port("127.0.0.1") : bind_to_port("127.0.0.1", port) ? port : -1;
        // A second listen() changes the backlog: with five, a crowd of new clients waits a second for its SYNs to be
        // sent again.
        if (bound > 0) ::listen(svr_sock_.load(), 1'024);
        return bound;
    }

    /// CLOCK_MONOTONIC at which the request that this thread handles began to arrive.
    static std::int64_t arrival_ns() { return arrival_; }

    /// The connection of that request.
    static connection& current() { return *current_; }

    void cut_all() {
        std::lock_guard const lock{mutex_};
        cut_ = true;
        for (auto const fd : open_) ::shutdown(fd, SHUT_RDWR);
    }

private:
    static constexpr int idle_ms = 300'000;

    bool process_and_close_socket(socket_t fd) override {
        {
            std::lock_guard const lock{mutex_};
            if (cut_) ::shutdown(fd, SHUT_RDWR);
            open_.insert(fd);
        }
        bool fine = true;
        {
            connection c{fd};
            current_ = &c;
            for (bool closed = false; fine && !closed;) {
                if (!c.wait(idle_ms)) break;
                arrival_ = monotonic_ns();
                fine = process_request(c, false, closed, nullptr);
                if (!c.flush()) fine = false;
            }
        }
        {
            std::lock_guard const lock{
                mutex_};  // so that cut_all() never meets a number that another connection has by now
            open_.erase(fd);
            ::shutdown(fd, SHUT_RDWR);
            ::close(fd);
        }
        return fine;
    }

    inline static thread_local std::int64_t arrival_ = 0;
    inline static thread_local connection* current_ = nullptr;
    std::mutex mutex_;
    std::set<socket_t> open_;
    bool cut_ = false;
};

}  // namespace qwen
