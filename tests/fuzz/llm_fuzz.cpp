// SPDX-License-Identifier: MIT
//
// The readers of include/weir/llm: times, hints, error bodies, verdicts, sizes. Whatever the bytes, each is read or
// passed over; what comes out lies within the text, is not negative, and says the same of a text and of its copy.
#include "fuzz.hpp"

#include <weir/llm.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

using std::chrono::nanoseconds;
using namespace weir::llm;

void expect(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}
void not_negative(std::optional<nanoseconds> d) { expect(!d || d->count() >= 0, "a wait of less than nothing"); }
void within(std::string_view part, std::string_view whole) {
    expect(part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size()),
           "what was read is not of the text");
}

constexpr std::chrono::sys_seconds now{std::chrono::seconds{1'760'000'000}};

void read_times(std::string_view text) {
    not_negative(parse_seconds(text));
    not_negative(parse_milliseconds(text));
    not_negative(parse_duration(text));
    not_negative(parse_retry_after(text, now));
    not_negative(parse_reset(text, now));
    detail::error_text<> said;
    said.add(text);
    expect(said.words().front() == ' ' && said.words().find("  ") == std::string_view::npos, "two spaces in a row");
    not_negative(detail::wait_in_words(said.plain()));
    if (auto const t = detail::reset_in_words(said.plain(), now))
        expect(*t >= now - std::chrono::hours{24}, "an allowance that was restored long ago");
    for (auto const* pattern : {"retry", "limit|quota ~ exceeded", " a ", "~"}) {
        if (detail::find_words(said.words(), text) != std::string_view::npos && !text.empty())
            expect(!said.words().empty(), "found in nothing");
        static_cast<void>(detail::match_words(said.words(), pattern));
    }
    std::string_view rest = text;
    if (take_duration(rest)) expect(rest.size() < text.size() && text.ends_with(rest), "a duration of no characters");
    if (auto const t = parse_http_date(text, now)) not_negative(until(*t, now));
    if (auto const t = parse_rfc3339(text)) not_negative(until(*t, now));
    // Digits alone are seconds, exactly, as long as nanoseconds can be.
    bool digits = !text.empty();
    std::uint64_t n = 0;
    for (char const c : text) {
        digits = digits && c >= '0' && c <= '9';
        n = digits && n < 100'000'000'000 ? n * 10 + static_cast<std::uint64_t>(c - '0') : n;
    }
    if (digits) {
        auto const d = parse_seconds(text);
        std::uint64_t const most = 9'223'372'036;
        expect(d == (n > most ? nanoseconds::max() : nanoseconds{std::chrono::seconds{n}}),
               "so many seconds are not so many");
        // From 2001 on they are seconds, milliseconds, microseconds or nanoseconds since 1970.
        expect(n >= 1'000'000'000 || parse_retry_after(text, now) == d, "Retry-After in seconds is not seconds");
        auto const wait = parse_retry_after(text, {});
        expect(!wait || n < 1'000'000'000 || *wait == nanoseconds::max(), "a wait without a known time");
    }
}

/// Lines of "name: value", and after an empty line the body.
struct message {
    std::vector<std::pair<std::string_view, std::string_view>> fields;
    std::string_view body;

    explicit message(std::string_view text) {
        while (!text.empty()) {
            auto const end = text.find('\n');
            auto const line = text.substr(0, end);
            text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
            if (line.empty()) break;
            if (auto const colon = line.find(':'); colon != std::string_view::npos) {
                fields.emplace_back(line.substr(0, colon), line.substr(colon + 1));
            }
        }
        body = text;
    }
    std::optional<std::string_view> operator()(std::string_view name) const {
        for (auto const& [n, v] : fields) {
            if (n == name) return v;
        }
        return std::nullopt;
    }
};

void read_answer(std::uint8_t pick, std::string_view text) {
    message const m{text};
    error_body const e{m.body};
    for (auto const part : {e.type, e.message, e.detail, e.text, e.reset}) within(part, text);
    for (auto const part : e.more) within(part, text);
    expect(e.code == "content_filter" || e.code.empty() || text.find(e.code) != std::string_view::npos,
           "a code that is not of the text");
    not_negative(e.retry_delay);
    headers const h{m};
    auto const d = static_cast<dialect>(pick % 28);
    not_negative(retry_hint(h, e, now));
    auto const reports = read_limits(h, d, now);
    expect(reports.size() <= 8, "more than eight limits");
    for (auto const& r : reports) {
        not_negative(r.reset);
        expect(r.window.count() >= 0, "a window of less than nothing");
        expect(r.limit || r.remaining || r.reset, "a limit that says nothing");
    }
    constexpr std::array<std::optional<int>, 8> statuses{std::nullopt, 200, 400, 401, 403, 429, 500, 503};
    answer a;
    a.dialect = d;
    a.status = statuses[pick / 9 % 8];
    a.headers = h;
    a.body = m.body;
    a.now = now;
    auto const v = classify(a);
    not_negative(v.wait);
    expect((v.cause == cause::none) == (v.action == action::proceed), "no failure is to proceed, and nothing else is");
    expect(v.cause == cause::none || !v.reason.empty(), "a verdict without a reason");
    std::string const copy{m.body};
    a.body = copy;
    expect(!(a.status == 200 && e.broken && v.action == action::proceed),
           "an answer that broke off is called answered");
    a.transport_failed = true;
    expect(classify(a).action != action::proceed, "a failed transport is called answered");
    a.transport_failed = false;
    auto const again = classify(a);
    expect(again.cause == v.cause && again.action == v.action && again.wait == v.wait && again.until == v.until,
           "another verdict");
}

void measure_text(std::string_view text) {
    auto const s = measure(text);
    expect(s.bytes == text.size() && s.ascii + s.cjk + s.other <= text.size(), "more characters than bytes");
    expect(expected_tokens(s) <= token_bound(s), "more expected than there can be");
}

}  // namespace

/// The first byte says which reader.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size == 0 || size > 2 * fuzz::most_bytes) return -1;
    std::string_view const text(reinterpret_cast<char const*>(data) + 1, size - 1);
    if (data[0] < 40) {
        read_times(text);
    } else if (data[0] < 60) {
        measure_text(text);
    } else {
        read_answer(static_cast<std::uint8_t>(data[0] - 60), text);
    }
    return 0;
}
