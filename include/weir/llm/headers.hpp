// SPDX-License-Identifier: MIT
//
// How a client shows its response headers to weir: one function that looks a name up. No HTTP type appears.
#pragma once

#include "../detail/cpp20.hpp"

#include <concepts>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace weir::inline v0::llm {

/// A look-up of header fields, by reference: nothing is copied and nothing owned, so it must not outlive what it was made from.
/// Names are given in lower case; the look-up is to ignore case, as RFC 9110 (5.1) wants. A field that came in several lines is
/// to be given joined by ", " (5.3).
///
///     auto find = [&](std::string_view name) -> std::optional<std::string_view> { … };
///     weir::llm::headers h{find};
class headers {
public:
    /// No header at all.
    constexpr headers() = default;

    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, headers>) &&
                    std::is_invocable_r_v<std::optional<std::string_view>, F const&, std::string_view>
    constexpr headers(F const& f) noexcept
        : object_{std::addressof(f)},
          call_{[](void const* o, std::string_view name) -> std::optional<std::string_view> {
              return (*static_cast<F const*>(o))(name);
          }} {}

    constexpr std::optional<std::string_view> operator()(std::string_view name) const {
        return call_ != nullptr ? call_(object_, name) : std::nullopt;
    }

private:
    void const* object_ = nullptr;
    std::optional<std::string_view> (*call_)(void const*, std::string_view) = nullptr;
};

}  // namespace weir::inline v0::llm
