// SPDX-License-Identifier: MIT
//
// How weir says that an argument is bad: an error is a reason in words; a constructor throws it as std::invalid_argument,
// make() returns it, and a program built without exceptions ends in one handler that it can replace.
#pragma once

#include <optional>
#include <utility>

#if defined(__cpp_exceptions)
#include <stdexcept>
#else
#include <cstdio>
#include <cstdlib>

/// Called with the reason when a constructor is given a bad argument in a program without exceptions. It must not return.
/// The default prints the reason to stderr and aborts. To replace it, define a function of this name and signature in a
/// source file that includes no header of weir; the linker prefers it.
extern "C" [[noreturn, gnu::weak, gnu::noinline]] void weir_invalid_argument(char const* reason) {
    std::fprintf(stderr, "weir: %s\n", reason);
    std::abort();
}
#endif

namespace weir::inline v0 {

/// Why something was refused; converts to true when there is a reason. The text is static and needs no freeing.
struct error {
    char const* reason = nullptr;

    constexpr explicit operator bool() const noexcept { return reason != nullptr; }
};

/// A value or the reason why there is none. The value is built in place, so that it need not be movable.
template <class T>
class [[nodiscard]] result {
public:
    constexpr result(weir::error e) noexcept : error_{e} {}

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

#if defined(__cpp_exceptions)
[[noreturn, gnu::noinline, gnu::cold]] inline void throw_invalid_argument(char const* reason) {
    throw std::invalid_argument(reason);
}
#endif

/// Ends the construction when there is an error. In a constant expression it does not compile then.
constexpr void require(error e) {
    if (e) {
#if defined(__cpp_exceptions)
        throw_invalid_argument(e.reason);
#else
        weir_invalid_argument(e.reason);
#endif
    }
}

}  // namespace weir::inline v0::detail
