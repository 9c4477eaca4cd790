// SPDX-License-Identifier: MIT
//
// Schedules of what is done to a limiter, as data: drawn at random, or from a fuzzer's bytes, shrunk when they show a
// fault, and printed as code. Each limiter has one interpreter (NAME_script.hpp), which runs a schedule on the limiter
// and on an exact oracle.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <ostream>
#include <ratio>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace script {

/// What an interpreter makes of them is its own business; it must make something of any.
struct step {
    std::uint8_t op = 0;
    std::uint8_t pick = 0;
    std::uint16_t a = 0;
    std::uint16_t b = 0;
    std::uint16_t c = 0;
    friend bool operator==(step const&, step const&) = default;
};
using schedule = std::vector<step>;

/// Eight bytes a step; a rest of less is left out.
inline schedule from_bytes(std::span<std::uint8_t const> bytes) {
    schedule s;
    for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
        auto const word = [&](std::size_t k) {
            return static_cast<std::uint16_t>(bytes[i + k] | (static_cast<unsigned>(bytes[i + k + 1]) << 8U));
        };
        s.push_back({bytes[i], bytes[i + 1], word(2), word(4), word(6)});
    }
    return s;
}

/// A number of any size in 16 bits: every one below 2^11, then eleven bits and an exponent, and the ends of 64, 63, 60
/// and 32 bits.
constexpr std::uint64_t size(std::uint16_t code) {
    std::uint64_t const exponent = code >> 10U;
    std::uint64_t const mantissa = code & 1023U;
    if (exponent == 0) return mantissa;
    if (exponent < 55) return (1024 | mantissa) << (exponent - 1);
    switch (exponent) {
        case 55: return ~std::uint64_t{0} - mantissa;
        case 56: return (~std::uint64_t{0} >> 1U) - mantissa;
        case 57: return (std::uint64_t{1} << 63U) + mantissa;
        case 58: return (std::uint64_t{1} << 60U) - 1 - mantissa;
        case 59: return (std::uint64_t{1} << 60U) + mantissa;
        case 60: return (std::uint64_t{1} << 32U) - 1 - mantissa;
        case 61: return (std::uint64_t{1} << 32U) + mantissa;
        case 62: return (std::uint64_t{1} << 31U) - mantissa;
        default: return (std::uint64_t{1} << 53U) + mantissa;
    }
}
static_assert(size(0) == 0 && size(1023) == 1023 && size(1024) == 1024 && size(2047) == 2047 && size(2048) == 2048);

/// A number up to `most`: of every magnitude from the bottom, or from the top where the code is odd.
constexpr std::uint64_t up_to(std::uint64_t most, std::uint16_t code) {
    std::uint64_t const exponent = code >> 10U;
    std::uint64_t const mantissa = (code >> 1U) & 511U;
    std::uint64_t const n = exponent == 0 ? mantissa : (512 | mantissa) << std::min<std::uint64_t>(exponent - 1, 54);
    std::uint64_t const there = n > most ? n % (most + 1) : n;
    return (code & 1U) != 0 ? most - there : there;
}
static_assert(up_to(10, 0) == 0 && up_to(10, 1) == 10 && up_to(10, 6) == 3 && up_to(10, 22) == 0);

/// What an interpreter throws when the limiter and the oracle are not one.
struct broken {
    std::string what;
};

/// The interpreter's account of what it does. Says nothing where it is not listened to.
class journal {
public:
    explicit journal(std::ostream* out = nullptr) : out_{out} {}

    template <class... Parts>
    void note(Parts const&... parts) {
        if (out_ != nullptr) {
            *out_ << "    // ";
            (*out_ << ... << parts);
            *out_ << '\n';
        }
    }

private:
    std::ostream* out_;
};

template <class... Parts>
void ensure(bool holds, Parts const&... parts) {
    if (holds) [[likely]]
        return;
    std::ostringstream os;
    (os << ... << parts);
    throw broken{os.str()};
}
template <class A, class B, class... Parts>
void ensure_equal(A const& limiter, B const& oracle, Parts const&... parts) {
    ensure(limiter == oracle, parts..., ": ", limiter, ", but the oracle has ", oracle);
}

using interpreter = std::function<void(schedule const&, journal&)>;

/// What goes wrong in a schedule; empty where nothing does.
inline std::string failure(interpreter const& run, schedule const& s) {
    journal silent;
    try {
        run(s, silent);
    } catch (broken const& b) {
        return b.what;
    }
    return {};
}

/// The least schedule that can be had from `s` by leaving out and by lowering, and that still fails, in whatever way.
inline schedule shrunk(interpreter const& run, schedule s) {
    int tries = 20'000;
    auto const still_fails = [&](schedule const& t) { return tries-- > 0 && !failure(run, t).empty(); };
    for (bool smaller = true; smaller && tries > 0;) {
        smaller = false;
        for (std::size_t n = std::max<std::size_t>(s.size() / 2, 1); n > 0 && tries > 0; n /= 2) {
            for (std::size_t from = 0; from < s.size();) {
                schedule t = s;
                auto const begin = t.begin() + static_cast<std::ptrdiff_t>(from);
                t.erase(begin, begin + static_cast<std::ptrdiff_t>(std::min(n, s.size() - from)));
                if (still_fails(t)) {
                    s = std::move(t);
                    smaller = true;
                } else {
                    from += n;
                }
            }
        }
        for (std::size_t i = 0; i < s.size() && tries > 0; ++i) {
            auto const lower = [&](auto step::* field) {
                auto const old = s[i].*field;
                using number = std::remove_const_t<decltype(old)>;
                for (unsigned const to : {0U, old / 2U, old - (old & 1023U), old - 1U}) {
                    if (to >= old) continue;
                    schedule t = s;
                    t[i].*field = static_cast<number>(to);
                    if (still_fails(t)) {
                        s = std::move(t);
                        smaller = true;
                        return;
                    }
                }
            };
            lower(&step::op);
            lower(&step::pick);
            lower(&step::a);
            lower(&step::b);
            lower(&step::c);
        }
    }
    return s;
}

/// A failing schedule as a test to paste, with what the interpreter says it does.
inline std::string as_code(interpreter const& run, std::string_view name, schedule const& s) {
    std::ostringstream os;
    os << "TEST(" << name << ", regression) {\n    EXPECT_EQ(script::failure(" << name << "_script, {";
    for (std::size_t i = 0; i < s.size(); ++i) {
        os << (i % 6 == 0 ? (i == 0 ? "" : ",\n        ") : ", ") << '{' << unsigned{s[i].op} << ", "
           << unsigned{s[i].pick} << ", " << s[i].a << ", " << s[i].b << ", " << s[i].c << '}';
    }
    os << "}), \"\");\n";
    journal loud{&os};
    try {
        run(s, loud);
    } catch (broken const& b) {
        os << "    // " << b.what << '\n';
    }
    os << "}\n";
    return os.str();
}

/// The whole report of a schedule that fails; empty where it does not.
inline std::string report(interpreter const& run, std::string_view name, schedule const& s) {
    std::string const what = failure(run, s);
    if (what.empty()) return {};
    schedule const least = shrunk(run, s);
    return what + "\nshrunk from " + std::to_string(s.size()) + " steps to " + std::to_string(least.size()) + ":\n" +
           as_code(run, name, least);
}

/// S. Vigna's splitmix64: the same numbers everywhere, in constant expressions too.
class random {
public:
    constexpr explicit random(std::uint64_t seed) : state_{seed} {}
    constexpr std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e37'79b9'7f4a'7c15U);
        z = (z ^ (z >> 30U)) * 0xbf58'476d'1ce4'e5b9U;
        z = (z ^ (z >> 27U)) * 0x94d0'49bb'1331'11ebU;
        return z ^ (z >> 31U);
    }
    constexpr std::uint64_t below(std::uint64_t n) { return next() % n; }

private:
    std::uint64_t state_;
};

inline schedule draw(std::uint64_t seed, std::size_t most) {
    random r{seed};
    schedule s(static_cast<std::size_t>(1 + r.below(most)));
    for (auto& t : s) {
        std::uint64_t const bits = r.next();
        t = {static_cast<std::uint8_t>(bits), static_cast<std::uint8_t>(bits >> 8U),
             static_cast<std::uint16_t>(bits >> 16U), static_cast<std::uint16_t>(bits >> 32U),
             static_cast<std::uint16_t>(bits >> 48U)};
        // Small ones are the likelier, since their products and sums meet at equal moments.
        std::uint64_t const shape = r.next();
        auto const small = [&](std::uint16_t& n, unsigned at) {
            if (((shape >> at) & 1U) != 0)
                n = static_cast<std::uint16_t>(n & (((shape >> (at + 1)) & 1U) != 0 ? 7U : 4095U));
        };
        small(t.a, 0);
        small(t.b, 2);
        small(t.c, 4);
    }
    return s;
}

inline std::uint64_t from_environment(char const* name, std::uint64_t otherwise) {
    char const* const text = std::getenv(name);
    return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 0);
}

/// Runs an interpreter on `runs` random schedules of up to `most` steps. The seed is the same each time, unless
/// WEIR_PROPERTY_SEED says otherwise; WEIR_PROPERTY_RUNS runs so many times as many. Answers with the report of the
/// first that fails.
inline std::string check(interpreter const& run, std::string_view name, std::uint64_t runs, std::size_t most) {
    std::uint64_t const seed = from_environment("WEIR_PROPERTY_SEED", 1);
    runs *= from_environment("WEIR_PROPERTY_RUNS", 1);
    for (std::uint64_t i = 0; i < runs; ++i) {
        schedule const s = draw(seed * 0x1'0000'0001U + i, most);
        if (failure(run, s).empty()) continue;
        return "WEIR_PROPERTY_SEED=" + std::to_string(seed) + ", run " + std::to_string(i) + ": " +
               report(run, name, s);
    }
    return {};
}

// ---- clocks ----

/// A clock of any tick that stands where it was put.
template <class Period>
struct ticking_clock {
    using rep = std::int64_t;
    using period = Period;
    using duration = std::chrono::duration<rep, period>;
    using time_point = std::chrono::time_point<ticking_clock>;
    static constexpr bool is_steady = false;

    constexpr time_point now() const noexcept { return time_point{duration{ticks}}; }

    std::int64_t ticks = 0;
};

/// Calls f.template operator()<clock>() with one of them: nanoseconds, micro-, milli-, a third of a second, a third of
/// a microsecond.
template <class F>
void with_clock(unsigned pick, F f) {
    switch (pick % 8) {
        case 0: return f.template operator()<ticking_clock<std::micro>>();
        case 1: return f.template operator()<ticking_clock<std::milli>>();
        case 2: return f.template operator()<ticking_clock<std::ratio<1, 3>>>();
        case 3: return f.template operator()<ticking_clock<std::ratio<1, 3'000'000>>>();
        default: return f.template operator()<ticking_clock<std::nano>>();
    }
}

constexpr std::int64_t max_ticks = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t min_ticks = std::numeric_limits<std::int64_t>::min();

constexpr std::int64_t plus(std::int64_t a, std::uint64_t b) {
    std::uint64_t const room = static_cast<std::uint64_t>(max_ticks) - static_cast<std::uint64_t>(a);
    return b > room ? max_ticks : static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + b);
}
constexpr std::int64_t minus(std::int64_t a, std::uint64_t b) {
    std::uint64_t const room = static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(min_ticks);
    return b > room ? min_ticks : static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - b);
}

template <class TimePoint>
constexpr TimePoint at(std::int64_t t) {
    return TimePoint{typename TimePoint::duration{t}};
}
template <class TimePoint>
constexpr std::int64_t ticks(TimePoint t) {
    return t.time_since_epoch().count();
}

}  // namespace script
