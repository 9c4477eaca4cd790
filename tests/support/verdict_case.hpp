// SPDX-License-Identifier: MIT
//
// Cases of error answers, one a line, and what classify() and read_limits() must say of them. The fields are apart by
// tabs:
//   id vendor dialects status headers body given now cause action wait until max_retries limits source note
// Escapes: \\ \n \r \t \xNN; {{REP:n:text}} is n times the text. "-" is nothing.
//   dialects  apart by commas; the case is judged in the first
//   status    a number or -; an x after it: the transport failed too
//   headers   lines of "name: value"
//   given     lines of code=, type=, message=: what a client has that keeps no body
//   now       the time of the answer; "unset": not known; -: 2026-03-26T20:00:00Z
//   cause, action   alternatives by |, * for any, with _ for a space
//   wait      seconds: - for none, "a" or "a..b", alternatives by |; until likewise with times
//   max_retries  "a..b" or *
//   limits    - not looked at, "none", or kind,window,limit,remaining,reset;… (* any, _ absent; seconds)
#pragma once

#include <weir/llm/header_map.hpp>
#include <weir/llm/hints.hpp>
#include <weir/llm/verdict.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace verdict_cases {

using std::string;
using std::string_view;

inline std::vector<string> split(string_view s, string_view by) {
    std::vector<string> parts;
    for (;;) {
        auto const at = s.find(by);
        parts.emplace_back(s.substr(0, at));
        if (at == string_view::npos) return parts;
        s.remove_prefix(at + by.size());
    }
}

inline string unescaped(string_view s) {
    if (s == "-") return {};
    string out;
    for (std::size_t i = 0; i < s.size(); ++i) {
        if (s[i] == '\\' && i + 1 < s.size()) {
            char const c = s[++i];
            if (c == 'n') {
                out += '\n';
            } else if (c == 'r') {
                out += '\r';
            } else if (c == 't') {
                out += '\t';
            } else if (c == 'x' && i + 2 < s.size()) {
                out += static_cast<char>(std::strtol(string{s.substr(i + 1, 2)}.c_str(), nullptr, 16));
                i += 2;
            } else {
                out += c;
            }
        } else if (s.substr(i, 6) == "{{REP:") {
            auto const colon = s.find(':', i + 6);
            auto const end = s.find("}}", colon);
            string const what{s.substr(colon + 1, end - colon - 1)};
            auto const n = std::strtoull(string{s.substr(i + 6, colon - i - 6)}.c_str(), nullptr, 10);
            for (unsigned long long k = 0; k < n; ++k) out += what;
            i = end + 1;
        } else {
            out += s[i];
        }
    }
    return out;
}

inline string underscored(string_view s) {
    string out{s};
    for (auto& c : out) c = c == ' ' ? '_' : c;
    return out;
}

inline std::optional<weir::llm::dialect> dialect_of(string_view name) {
    for (int i = 0; i <= static_cast<int>(weir::llm::dialect::spark); ++i) {
        auto const d = static_cast<weir::llm::dialect>(i);
        if (to_string(d) == name) return d;
    }
    return std::nullopt;
}

/// One line, with what its answer is made of.
struct verdict_case {
    std::vector<string> fields;
    weir::llm::header_map headers{};
    string code{}, type{}, message{}, body{};
    weir::llm::answer answer{};

    explicit verdict_case(string_view line) : fields{split(line, "\t")} {
        if (!complete()) return;
        for (auto const& h : split(unescaped(fields[4]), "\n")) headers.add_line(h);
        for (auto const& g : split(unescaped(fields[6]), "\n")) {
            for (auto const& [name, to] : {std::pair{"code=", &code}, {"type=", &type}, {"message=", &message}}) {
                if (g.rfind(name, 0) == 0) *to = g.substr(string_view{name}.size());
            }
        }
        body = unescaped(fields[5]);
    }
    verdict_case(verdict_case const&) = delete;
    verdict_case& operator=(verdict_case const&) = delete;

    bool complete() const { return fields.size() == 16; }
    string const& id() const { return fields[0]; }

    /// Refers to this case.
    weir::llm::answer as_answer() const {
        using weir::llm::parse_rfc3339;
        weir::llm::answer a;
        a.dialect = dialect_of(split(fields[2], ",")[0]).value_or(weir::llm::dialect::http);
        a.transport_failed = fields[3].back() == 'x';
        if (fields[3] != "-") a.status = std::atoi(fields[3].c_str());
        a.headers = headers;
        a.code = code;
        a.type = type;
        a.message = message;
        a.body = body;
        if (fields[7] != "unset") a.now = *parse_rfc3339(fields[7] == "-" ? "2026-03-26T20:00:00Z" : fields[7]);
        return a;
    }
};

inline bool among(string_view alternatives, string_view what) {
    if (alternatives == "*") return true;
    for (auto const& a : split(alternatives, "|")) {
        if (a == what) return true;
    }
    return false;
}

template <class Parse>
bool within(string_view alternatives, std::optional<double> v, Parse parse, double slack) {
    if (alternatives == "*") return true;
    for (auto const& a : split(alternatives, "|")) {
        if (a == "-" ? !v
                     : v && *v >= parse(split(a, "..").front()) - slack && *v <= parse(split(a, "..").back()) + slack)
            return true;
    }
    return false;
}
inline double seconds(string_view s) { return std::strtod(string{s}.c_str(), nullptr); }
inline double moment(string_view s) {
    auto const t = weir::llm::parse_rfc3339(s);
    return t ? static_cast<double>(t->time_since_epoch().count()) : -1;
}
template <class Duration>
std::optional<double> in_seconds(std::optional<Duration> d) {
    return d ? std::optional{std::chrono::duration<double>(*d).count()} : std::nullopt;
}

inline bool limit_is(weir::llm::limit_report const& r, std::vector<string> const& want) {
    static constexpr string_view kinds[] = {"requests", "tokens", "input_tokens", "output_tokens", "other"};
    auto const number = [](string const& w, std::optional<std::uint64_t> n) {
        return w == "*" || (w == "_" ? !n : n && *n == std::strtoull(w.c_str(), nullptr, 10));
    };
    bool reset = false;
    for (auto const& one : split(want[4], "|"))
        reset = reset || within(one == "_" ? "-" : one, in_seconds(r.reset), seconds, 0.011);
    return want[0] == kinds[static_cast<int>(r.kind)] &&
           within(want[1], in_seconds(std::optional{r.window}), seconds, 0.011) && number(want[2], r.limit) &&
           number(want[3], r.remaining) && reset;
}

inline bool limits_are(weir::llm::limit_reports const& reports, string_view want) {
    if (want == "-") return true;
    if (want == "none") return reports.empty();
    for (auto const& one : split(want, ";")) {
        bool found = false;
        for (auto const& r : reports) found = found || limit_is(r, split(one, ","));
        if (!found) return false;
    }
    return true;
}

/// What is wrong with a verdict of the case; empty if it is right.
inline string judged(verdict_case const& c) {
    if (!c.complete()) return "a line has 16 fields";
    auto const& f = c.fields;
    for (auto const& d : split(f[2], ",")) {
        if (!dialect_of(d)) return "no dialect " + d;
    }
    auto const a = c.as_answer();
    auto const v = classify(a);
    std::optional<double> until;
    if (v.until) until = static_cast<double>(v.until->time_since_epoch().count());
    string wrong;
    if (!among(f[9], underscored(to_string(v.action)))) wrong += " action " + string{to_string(v.action)};
    if (!among(f[8], underscored(to_string(v.cause)))) wrong += " cause " + string{to_string(v.cause)};
    if (!within(f[10], in_seconds(v.wait), seconds, 0.011))
        wrong += " wait " + (v.wait ? std::to_string(v.wait->count()) + " ns" : "none");
    if (!within(f[11], until, moment, 1.5)) wrong += " until " + (until ? std::to_string(*until) : "none");
    if (f[12] != "*" && !within(f[12], v.max_retries, seconds, 0))
        wrong += " max_retries " + std::to_string(v.max_retries);
    if (!limits_are(read_limits(a.headers, a.dialect, a.now), f[13])) wrong += " limits";
    return wrong;
}

/// The lines of a file of cases; empty if it cannot be read.
inline std::vector<string> lines_of(string const& path) {
    std::ifstream in{path};
    std::vector<string> lines;
    for (string line; std::getline(in, line);) {
        if (!line.empty() && line[0] != '#') lines.push_back(line);
    }
    return lines;
}

}  // namespace verdict_cases
