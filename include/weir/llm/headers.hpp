// SPDX-License-Identifier: MIT
//
// headers: how a client shows its response headers to weir, by one function that looks a name up. No HTTP type appears.
#pragma once

#include "../detail/cpp20.hpp"

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>

namespace weir::inline v0::detail {

/// Looks a header field up by its name.
template <class F>
concept header_lookup =
    std::is_invocable_r_v<std::optional<std::string_view>, std::remove_cvref_t<F> const&, std::string_view>;

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// A look-up of header fields. Names are given in lower case; the look-up must ignore case (RFC 9110, 5.1). A field
/// that came in several lines must be given as one value, joined by ", " (RFC 9110, 5.3).
///
///     auto find = [&](std::string_view name) -> std::optional<std::string_view> { … };
///     weir::llm::headers h{find};
///
/// A small function (trivially copyable, at most four pointers: a lambda that captures a few references) is copied in.
/// A larger one, such as a header_map, is referred to and must outlive the headers; a temporary of it does not compile.
/// header_map.hpp reads what cpp-httplib, cpprestsdk and libcurl have.
class headers {
    static constexpr std::size_t capacity = 4 * sizeof(void*);
    template <class F>
    static constexpr bool is_small = sizeof(F) <= capacity && alignof(F) <= alignof(void*) &&
                                     std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>;

public:
    /// No header at all.
    constexpr headers() = default;

    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, headers>) && weir::detail::header_lookup<F> &&
                is_small<std::remove_cvref_t<F>>
    headers(F&& f) noexcept
        : call_{[](std::byte const* o, std::string_view name) -> std::optional<std::string_view> {
              return (*std::launder(reinterpret_cast<std::remove_cvref_t<F> const*>(o)))(name);
          }} {
        ::new (static_cast<void*>(object_)) std::remove_cvref_t<F>(f);
    }

    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, headers>) && weir::detail::header_lookup<F> &&
                (!is_small<std::remove_cvref_t<F>>)
    headers(F& f) noexcept
        : call_{[](std::byte const* o, std::string_view name) -> std::optional<std::string_view> {
              return (**std::launder(reinterpret_cast<F const* const*>(o)))(name);
          }} {
        ::new (static_cast<void*>(object_)) F const*(std::addressof(f));
    }

    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, headers>) && weir::detail::header_lookup<F> &&
                    (!is_small<std::remove_cvref_t<F>>) && (!std::is_lvalue_reference_v<F>)
    headers(F&&) =
        delete;  // the look-up would be destroyed before it is used: give it a name that outlives the headers

    constexpr std::optional<std::string_view> operator()(std::string_view name) const {
        return call_ != nullptr ? call_(object_, name) : std::nullopt;
    }

private:
    alignas(void*) std::byte object_[capacity]{};
    std::optional<std::string_view> (*call_)(std::byte const*, std::string_view) = nullptr;
};

}  // namespace weir::inline v0::llm
