// SPDX-License-Identifier: MIT
//
// One HTTP request by libcurl, and what the requests of a client share: handles, headers, sockets.
#pragma once

#include <curl/curl.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "connection_count.hpp"
#include "qwen_client.hpp"

namespace qwen {

struct easy_deleter {
    void operator()(CURL* easy) const noexcept { curl_easy_cleanup(easy); }
};
using easy_ptr = std::unique_ptr<CURL, easy_deleter>;

class curl_setup;

/// A call on its way through line, server and retries, or a request that only opens a connection.
struct transfer {
    curl_setup* owner = nullptr;
    chat_call call;
    bool is_call = true, announced = false, has_socket = false;
    std::uint32_t number = 0;
    easy_ptr easy;
    std::string head;  ///< sent in place of the first `skip` bytes of the body
    std::size_t skip = 0;
    std::size_t read = 0;  ///< of both, by libcurl
    attempt now;
    std::string stamp_text, queue_text;
    curl_slist stamp_header{}, queue_header{};  ///< ahead of the headers that all share
};

using transfer_ptr = std::unique_ptr<transfer>;

class curl_setup {
public:
    /// The options must stay. Throws client_error where they, or libcurl, will not do.
    curl_setup(client_options const&, connection_count&);
    ~curl_setup();
    curl_setup(curl_setup const&) = delete;
    curl_setup& operator=(curl_setup const&) = delete;

    /// All that can be done before the limiter is asked.
    void prepare(transfer&);
    /// Where it goes; null: where the options say. The stamp must be set. It builds a few strings, whatever the size of
    /// the body, since it runs between the stamp and the send.
    void direct(transfer&, target const*);
    /// It is over: reads what came of it into the attempt.
    void read_result(transfer&, CURLcode);
    /// Takes its handle back, for another transfer. libcurl must have done with it.
    void release(transfer& t) { free_.push_back(std::move(t.easy)); }
    void drop_free_handles() { free_.clear(); }

private:
    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* to);
    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* to);
    static std::size_t on_read(char* to, std::size_t size, std::size_t count, void* from);
    static int on_connected(void* of, char*, char*, int, int);
    static curl_socket_t on_open(void* to, curlsocktype, curl_sockaddr* address);
    static int on_close(void* to, curl_socket_t socket);

    [[nodiscard]] easy_ptr handle();
    [[nodiscard]] curl_slist* headers_for(std::string const& key);

    client_options const& options_;
    connection_count& connections_;
    std::string models_url_;
    std::map<std::string, curl_slist*> headers_;  // by key
    std::vector<easy_ptr> free_;
};

}  // namespace qwen
