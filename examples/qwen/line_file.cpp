// SPDX-License-Identifier: MIT
#include "line_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>
#include <utility>

namespace qwen {

void fail(std::string const& path, std::string const& what) { throw batch_error(path + ": " + what); }

void fail(std::string const& path, std::size_t line, std::string const& what) {
    throw batch_error(path + ":" + std::to_string(line) + ": " + what);
}

std::string errno_text(int error) { return std::error_code(error, std::generic_category()).message(); }

line_file::line_file(std::string path, bool truncate) : path_{std::move(path)} {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (truncate ? O_TRUNC : 0), 0644);
    if (fd_ < 0) fail(path_, errno_text(errno));
}

line_file::line_file(line_file&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)} {}

line_file& line_file::operator=(line_file&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

line_file::~line_file() {
    if (fd_ >= 0) ::close(fd_);
}

void line_file::append(std::string line) {
    line += '\n';
    std::size_t done = 0;
    while (done < line.size()) {
        auto const n = ::write(fd_, line.data() + done, line.size() - done);
        if (n > 0) {
            done += static_cast<std::size_t>(n);
        } else if (n < 0 && errno != EINTR) {
            int const error = errno;
            struct stat now{};
            if (done > 0 && ::fstat(fd_, &now) == 0 && S_ISREG(now.st_mode)) {
                // Half a line would be read as a fault of the file.
                [[maybe_unused]] auto const cut = ::ftruncate(fd_, now.st_size - static_cast<off_t>(done));
            }
            fail(path_, "cannot write: " + errno_text(error));
        }
    }
}

void line_file::close() {
    if (fd_ < 0) return;
    if (::close(std::exchange(fd_, -1)) != 0) fail(path_, "cannot write: " + errno_text(errno));
}

void line_file::rename(std::string const& path) {
    if (std::rename(path_.c_str(), path.c_str()) != 0) fail(path, errno_text(errno));
    path_ = path;
}

void for_each_line(std::string const& path, std::function<void(std::size_t, std::string const&)> const& each) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        if (errno == ENOENT) return;
        fail(path, errno_text(errno));
    }
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) return;
    std::string text;
    off_t whole = 0;
    bool torn = false;
    for (std::size_t number = 1; std::getline(in, text); ++number) {
        if (in.eof()) {  // no line break at its end
            torn = true;
            break;
        }
        whole += static_cast<off_t>(text.size() + 1);
        if (text.find_first_not_of(" \t\r") != std::string::npos) each(number, text);
    }
    if (torn && ::truncate(path.c_str(), whole) != 0)
        fail(path, "cannot cut off its torn last line: " + errno_text(errno));
}

}  // namespace qwen
