// SPDX-License-Identifier: MIT
//
// How weir says that an argument is bad or that a change is refused. A constructor throws std::invalid_argument,
// make() and validate() return an error, and a program without exceptions ends in one replaceable handler.
#pragma once

#include "detail/cpp20.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>

#if defined(__cpp_exceptions)
#include <stdexcept>
#endif

/// Called with the reason when a constructor gets a bad argument. It must not return.
/// By default it throws std::invalid_argument where any translation unit of the program has exceptions enabled;
/// otherwise it prints the reason to stderr and aborts. To replace it, define a function of this name and signature in
/// a source file that includes no header of weir; the linker prefers it.
extern "C" [[noreturn, gnu::__weak__, gnu::__noinline__]] void weir_invalid_argument(char const* reason);

// One program has one handler, whatever mix of -fexceptions and -fno-exceptions its translation units use: the body of
// weir_invalid_argument is the same in both. Where weak references exist, a unit with exceptions contributes the throw.
#if defined(__ELF__)
extern "C" [[noreturn, gnu::__weak__]] void weir_throw_invalid_argument(char const* reason);

extern "C" [[noreturn, gnu::__weak__, gnu::__noinline__]] void weir_invalid_argument(char const* reason) {
    if (&weir_throw_invalid_argument != nullptr) weir_throw_invalid_argument(reason);
    std::fprintf(stderr, "weir: %s\n", reason);
    std::abort();
}

#if defined(__cpp_exceptions)
extern "C" [[noreturn, gnu::__weak__, gnu::__noinline__]] void weir_throw_invalid_argument(char const* reason) {
    throw std::invalid_argument(reason);
}
#endif
#else
extern "C" [[noreturn, gnu::__weak__, gnu::__noinline__]] void weir_invalid_argument(char const* reason) {
#if defined(__cpp_exceptions)
    throw std::invalid_argument(reason);
#else
    std::fprintf(stderr, "weir: %s\n", reason);
    std::abort();
#endif
}
#endif

namespace weir::inline v0 {

/// The kind of an error. Programs branch on it; the message is for people.
enum class errc : std::uint8_t {
    none,              ///< no error
    invalid_argument,  ///< no object can have this value
    does_not_fit,      ///< a valid value that this object has no room for
    busy,              ///< another thread is changing the same object; try again
    unsupported,       ///< this object does not offer the operation
};

/// Why something was refused; converts to true when there is a reason. The message is static text and needs no freeing.
class [[nodiscard("an error says that nothing was changed")]] error {
public:
    constexpr error() = default;
    constexpr error(char const* message) noexcept : error{errc::invalid_argument, message} {}
    constexpr error(errc code, char const* message) noexcept : message_{message}, code_{code} {}

    constexpr explicit operator bool() const noexcept { return code_ != errc::none; }
    constexpr errc code() const noexcept { return code_; }
    /// Lower case, no final stop: what is wrong, and what is allowed. Empty without an error.
    constexpr char const* message() const noexcept { return message_; }

    friend constexpr bool operator==(error const& a, error const& b) noexcept {
        char const* x = a.message_;
        char const* y = b.message_;
        for (; *x != '\0' && *x == *y; ++x) ++y;
        return a.code_ == b.code_ && *x == *y;
    }
    friend constexpr bool operator==(error const& a, errc b) noexcept { return a.code_ == b; }

private:
    char const* message_ = "";
    errc code_ = errc::none;
};

/// A value, or the reason why there is none. The value is built in place, so it need not be movable.
template <class T>
class [[nodiscard("a result holds the object or the reason why there is none")]] result {
public:
    constexpr result(weir::error e) noexcept : value_{}, error_{e} {}

    template <class... Args>
    constexpr explicit result(std::in_place_t, Args&&... args) : value_{std::in_place, std::forward<Args>(args)...} {}

    constexpr explicit operator bool() const noexcept { return value_.has_value(); }
    constexpr bool has_value() const noexcept { return value_.has_value(); }
    constexpr weir::error error() const noexcept { return error_; }

    /// Undefined without a value, as std::optional's.
    constexpr T& operator*() noexcept { return *value_; }
    constexpr T const& operator*() const noexcept { return *value_; }
    constexpr T* operator->() noexcept { return &*value_; }
    constexpr T const* operator->() const noexcept { return &*value_; }

private:
    std::optional<T> value_;
    weir::error error_{};
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// Ends the construction when there is an error. In a constant expression it does not compile then.
constexpr void ensure(error e) {
    if (e) weir_invalid_argument(e.message());
}

/// The one shape of "busy".
constexpr error busy_changing() noexcept { return {errc::busy, "another thread is changing it: try again"}; }

}  // namespace weir::inline v0::detail
