// SPDX-License-Identifier: MIT
//
// fair_schedule against what fair_queue promises of it, by sums of what was granted: the shares of two that always
// wait, no starvation, and which class is next.
#pragma once

#include "run.hpp"

#include <weir/wait/fair_queue.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace script {

template <std::size_t Classes>
class fair_order_run {
    using order = weir::detail::fair_schedule<Classes>;

public:
    fair_order_run(step const& setup, step const& more, journal& log) : log_{log} {
        std::array<std::uint32_t, Classes> w{};
        random r{more.a};
        for (std::size_t i = 0; i < Classes; ++i) {
            w[i] = static_cast<std::uint32_t>(1 + (setup.pick % 2 == 0 ? r.below(16)
                                                                       : up_to(weir::fair_class::max_weight - 1,
                                                                               static_cast<std::uint16_t>(r.next()))));
            weights_[i] = w[i];
            log_.note("class ", i, ": weight ", w[i]);
        }
        order_.emplace(w);
        ensure_equal(order_->first(), order::none, "which class is next where none waits");
    }

    void take(step const& s) {
        std::size_t const i = s.pick % Classes;
        switch (s.op % 12) {
            case 0:
            case 1: return waits_[i] ? ends(i) : begins(i);
            case 2:
                if (waits_[i]) return serve(i, cost(s), false);  // overtaken between its turn and its attempt
                return begins(i);
            case 3: return correct(i, s);
            case 4:
                if (s.c % 8 == 0) return change_weight(i, s);
                return begins(i);
            case 5:
                for (unsigned k = 0; k < s.c % 32U; ++k) serve_first(s);
                return;
            default: return serve_first(s);
        }
    }

    void end() const { observe(); }

private:
    // More counts as so many.
    static constexpr std::uint64_t most = (std::uint64_t{1} << 60U) / 720'720;

    std::uint64_t cost(step const& s) const { return s.a % 4 == 0 ? size(s.b) : s.b % 100U; }
    static std::uint64_t counted(std::uint64_t n) { return std::clamp<std::uint64_t>(n, 1, most); }

    void serve_first(step const& s) {
        std::size_t const f = order_->first();
        if (f != order::none) serve(f, cost(s), true);
    }

    bool nobody() const {
        return std::none_of(waits_.begin(), waits_.end(), [](bool w) { return w; });
    }

    void begins(std::size_t i) {
        if (waits_[i]) return;
        bool const alone = nobody();
        bool const behind = order_->would_be_behind(i);
        order_->begins(i);
        waits_[i] = true;
        log_.note(i, " begins to wait");
        if (alone) {
            // All are equal again: what was owed and lent is forgotten.
            known_.fill(true);
            ensure(!behind, "a class goes before the only one that waits");
        }
        ensure_equal(order_->first() == i, !behind, "next at once: ", i);
        forget(i);
        observe();
    }
    void ends(std::size_t i) {
        order_->ends(i);
        waits_[i] = false;
        log_.note("class ", i, " is empty");
        forget(i);
        observe();
    }
    void forget(std::size_t i) {
        for (auto& p : since_) p[i].reset();
        since_[i].fill(std::nullopt);
        last_[i].reset();
    }
    /// Its account is another than what it was granted.
    void lose_track(std::size_t i) {
        known_[i] = false;
        forget(i);
    }

    void serve(std::size_t i, std::uint64_t n, bool in_turn) {
        log_.note(i, " is granted ", n, in_turn ? "" : ", though it is not its turn");
        order_->serve(i, n);
        n = counted(n);
        largest_[i] = std::max(largest_[i], n);
        if (!in_turn) {
            for (std::size_t k = 0; k < Classes; ++k) lose_track(k);
            return observe();
        }
        for (std::size_t k = 0; k < Classes; ++k) {
            if (k == i || !waits_[k] || !known_[k] || !known_[i]) continue;
            shares(i, k, n);
            // Between two grants of k, the first of m, others get their largest each and m·w/w(k) at most.
            if (last_[k]) last_[k]->others += n;
        }
        for (std::size_t k = 0; k < Classes; ++k) {
            if (k == i || !last_[k] || !known_[k]) continue;
            integer allowed = 0;  // times w(k)
            for (std::size_t b = 0; b < Classes; ++b) {
                if (b != k)
                    allowed += integer{largest_[b]} * weights_[k] + integer{last_[k]->n} * weights_[b] + rounding(k, b);
            }
            ensure(last_[k]->others * weights_[k] <= allowed, "class ", k, " starves");
        }
        if (known_[i]) last_[i] = {n, 0};
        observe();
    }

    /// Of two 720,720ths of a permit, where a weight does not divide them: tags are whole numbers of these.
    integer rounding(std::size_t a, std::size_t b) const {
        bool const divide = 720'720 % weights_[a] == 0 && 720'720 % weights_[b] == 0;
        return divide ? integer{0} : ceil_div(integer{2} * weights_[a] * weights_[b], integer{720'720});
    }

    /// granted(a)/w(a) − granted(b)/w(b), in units of 1/(w(a)·w(b)), over every interval in which both always wait.
    struct difference {
        integer now = 0, least = 0, greatest = 0;
    };
    void shares(std::size_t i, std::size_t k, std::uint64_t n) {
        std::size_t const a = std::min(i, k);
        std::size_t const b = std::max(i, k);
        auto& d = since_[a][b];
        if (!d) d.emplace();
        d->now += i == a ? integer{n} * weights_[b] : -(integer{n} * weights_[a]);
        d->least = std::min(d->least, d->now);
        d->greatest = std::max(d->greatest, d->now);
        integer const bound = integer{largest_[a]} * weights_[b] + integer{largest_[b]} * weights_[a] + rounding(a, b);
        ensure(d->greatest - d->least <= bound, "classes ", a, " and ", b,
               " are further apart than their largest costs");
    }

    void correct(std::size_t i, step const& s) {
        std::uint64_t const was = cost(s);
        std::uint64_t const is = s.c % 4 == 0 ? size(s.c) : s.c % 200U;
        log_.note(i, " was counted ", was, " and took ", is);
        std::size_t const before = order_->first();
        order_->correct(i, was, is);
        // More never moves it up, nor less down.
        if (is >= was && before != order::none && before != i)
            ensure_equal(order_->first(), before, "which class is next after ", i, " took more");
        if (is <= was && before == i) ensure_equal(order_->first(), i, "which class is next after ", i, " took less");
        lose_track(i);
        observe();
    }
    void change_weight(std::size_t i, step const& s) {
        weights_[i] = 1 + s.a % weir::fair_class::max_weight;
        std::size_t const before = order_->first();
        order_->change_weight(i, weights_[i]);
        log_.note(i, " has weight ", weights_[i]);
        ensure_equal(order_->first(), before, "which class is next after a change of weight");
        for (std::size_t k = 0; k < Classes; ++k) forget(k);
        lose_track(i);  // what is owed stays, in the old weight's terms
        observe();
    }

    void observe() const {
        std::size_t const f = order_->first();
        ensure_equal(f == order::none, nobody(), "whether a class is next");
        ensure(f == order::none || waits_[f], "the next class does not wait");
        for (std::size_t i = 0; i < Classes; ++i) ensure_equal(order_->waits(i), waits_[i], "whether ", i, " waits");
    }

    struct grant {
        std::uint64_t n;
        integer others;  // granted to others since
    };

    journal& log_;
    std::optional<order> order_;
    std::array<std::uint32_t, Classes> weights_{};
    std::array<bool, Classes> waits_{};
    std::array<bool, Classes> known_ = [] {
        std::array<bool, Classes> a{};
        a.fill(true);
        return a;
    }();
    std::array<std::uint64_t, Classes> largest_{};
    std::array<std::array<std::optional<difference>, Classes>, Classes> since_{};
    std::array<std::optional<grant>, Classes> last_{};
};

inline void fair_order_script(schedule const& s, journal& log) {
    auto const setup = setup_of<2>(s);
    auto const on = [&]<std::size_t Classes>() {
        take_the_rest<2>(fair_order_run<Classes>{setup[0], setup[1], log}, s);
    };
    switch (setup[0].op % 5) {
        case 0: return on.template operator()<1>();
        case 1: return on.template operator()<2>();
        case 2: return on.template operator()<3>();
        case 3: return on.template operator()<5>();
        default: return on.template operator()<8>();
    }
}

}  // namespace script
