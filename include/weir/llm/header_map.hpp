// SPDX-License-Identifier: MIT
//
// header_map: response headers from whatever a client has, as llm::headers wants them: case-insensitive, and the lines
// of one field joined (RFC 9110, 5.1 and 5.3).
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headers.hpp"

namespace weir::inline v0::llm {

/// Owns the fields of one response.
///
///     weir::llm::header_map const fields{result->headers};       // cpp-httplib: any range of pairs of strings
///     weir::llm::header_map const fields{response.headers()};    // cpprestsdk
///     weir::llm::header_map fields;                              // libcurl
///     curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &weir::llm::header_map::curl_header);
///     curl_easy_setopt(easy, CURLOPT_HEADERDATA, &fields);
///
///     return call.ended({.answer = {.status = status, .headers = fields, .body = body}});
///
/// A response has few fields, so a look-up goes through all of them. One thread at a time.
class header_map {
public:
    header_map() = default;

    /// From a range of pairs of name and value: std::multimap, web::http::http_headers, a vector of pairs.
    template <class Range>
        requires(!std::same_as<Range, header_map>) && requires(Range const& r) {
            { (*r.begin()).first } -> std::convertible_to<std::string_view>;
            { (*r.begin()).second } -> std::convertible_to<std::string_view>;
            r.end();
        }
    explicit header_map(Range const& fields) {
        for (auto const& [name, value] : fields) add(name, value);
    }

    /// One field line.
    void add(std::string_view name, std::string_view value) {
        fields_.push_back({std::string{name}, std::string{value}, {}});
        join(fields_.back().name);
    }

    /// A raw line as it came: "name: value", with or without its line end. A status line begins a new response (after a
    /// redirect or 100 Continue) and forgets the fields before it; a line that begins with a space continues the value
    /// before it; others are ignored.
    void add_line(std::string_view line) {
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
        if (line.starts_with("HTTP/")) return fields_.clear();
        if (line.empty()) return;
        if (is_space(line.front())) {
            if (!fields_.empty()) continue_last(trimmed(line));
            return;
        }
        std::size_t const colon = line.find(':');
        if (colon == std::string_view::npos) return;
        add(trimmed(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
    }

    /// For CURLOPT_HEADERFUNCTION, with the map as CURLOPT_HEADERDATA.
    static std::size_t curl_header(char const* data, std::size_t size, std::size_t count, void* map) {
        static_cast<header_map*>(map)->add_line({data, size * count});
        return size * count;
    }

    /// The field's value, its lines joined by ", "; nothing when it is absent. Valid until the map is changed.
    std::optional<std::string_view> operator()(std::string_view name) const noexcept {
        field const* const f = find(name);
        if (f == nullptr) return std::nullopt;
        return f->joined.empty() ? std::string_view{f->value} : std::string_view{f->joined};
    }
    /// The value of the field's first line.
    std::optional<std::string_view> first(std::string_view name) const noexcept {
        field const* const f = find(name);
        if (f == nullptr) return std::nullopt;
        return std::string_view{f->value};
    }
    /// The values of all its lines, in their order.
    std::vector<std::string_view> all(std::string_view name) const {
        std::vector<std::string_view> values;
        for (auto const& f : fields_) {
            if (same(f.name, name)) values.emplace_back(f.value);
        }
        return values;
    }

    /// Field lines.
    std::size_t size() const noexcept { return fields_.size(); }
    bool empty() const noexcept { return fields_.empty(); }
    void clear() noexcept { fields_.clear(); }

private:
    struct field {
        std::string name;
        std::string value;
        std::string joined;  // of all lines of this name, in the first of them; empty while it is the only one
    };

    static constexpr bool is_space(char c) noexcept { return c == ' ' || c == '\t'; }
    static constexpr char lower(char c) noexcept {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    }
    static constexpr bool same(std::string_view a, std::string_view b) noexcept {
        if (a.size() != b.size()) return false;
        for (std::size_t i = 0; i < a.size(); ++i) {
            if (lower(a[i]) != lower(b[i])) return false;
        }
        return true;
    }
    static constexpr std::string_view trimmed(std::string_view s) noexcept {
        while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
        while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
        return s;
    }
    field const* find(std::string_view name) const noexcept {
        for (auto const& f : fields_) {
            if (same(f.name, name)) return &f;
        }
        return nullptr;
    }
    // Joins the lines of this name.
    void join(std::string_view name) {
        field* first = nullptr;
        for (auto& f : fields_) {
            if (!same(f.name, name)) continue;
            if (first == nullptr) {
                first = &f;
                first->joined.clear();
                continue;
            }
            if (first->joined.empty()) first->joined = first->value;
            first->joined.append(", ").append(f.value);
        }
    }
    void continue_last(std::string_view more) {
        field& last = fields_.back();
        last.value.append(last.value.empty() || more.empty() ? "" : " ").append(more);
        join(last.name);
    }

    std::vector<field> fields_{};
};

}  // namespace weir::inline v0::llm
