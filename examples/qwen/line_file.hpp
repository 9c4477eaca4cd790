// SPDX-License-Identifier: MIT
//
// Files of lines: appended to without loss, and read after a process was killed while it wrote.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

namespace qwen {

/// Something the user can mend: the text names the file, the line where there is one, and the cause.
struct batch_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throw batch_error: "FILE: what", "FILE:LINE: what".
[[noreturn]] void fail(std::string const& path, std::string const& what);
[[noreturn]] void fail(std::string const& path, std::size_t line, std::string const& what);
/// What the system says about an errno.
[[nodiscard]] std::string errno_text(int error);

/// A file that is appended to line by line. Each line is written by one call of the system, so a line that was
/// reported as written survives the end of this process.
class line_file {
public:
    line_file() = default;
    /// Opens for appending; truncates first if asked. Throws batch_error with the cause.
    line_file(std::string path, bool truncate);
    line_file(line_file&&) noexcept;
    line_file& operator=(line_file&&) noexcept;
    ~line_file();

    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    /// Throws batch_error ("FILE: No space left on device"). What was written of the line is then taken back where
    /// that is possible.
    void append(std::string line);
    /// Reports what the system kept back until now, on filesystems that do. Throws batch_error.
    void close();
    /// Takes the place of the file at `path`, at once. Throws batch_error.
    void rename(std::string const& path);

private:
    int fd_ = -1;
    std::string path_;
};

/// Calls each(number, text) for every whole line of a file that is not empty, and cuts a torn last line off the file.
/// Does nothing if there is no such file, or if it is a device. Throws batch_error.
void for_each_line(std::string const& path, std::function<void(std::size_t, std::string const&)> const& each);

}  // namespace qwen
