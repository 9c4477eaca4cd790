// SPDX-License-Identifier: MIT
//
// The windows of a quota_limiter and what a call does to them, in ticks and without a clock. A call is prepared and
// committed: every window is first looked at with one time point, and then charged. If one refuses then, having lost a
// race, the earlier ones are given back, exactly.
//
// A token limit is two windows that share the limit: what counts, and `held`, what calls in flight hold, which is the
// same for both token limits. detail/window_counter.hpp proves that two windows can share one limit.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "../../detail/saturating.hpp"
#include "../../detail/window_counter.hpp"
#include "../../error.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"
#include "quota_layout.hpp"

namespace weir::inline v0::llm::detail {

template <class Atomics>
class quota_windows {
public:
    using window = weir::detail::window_counter<Atomics>;
    using usage = weir::detail::window_usage;
    using receipt = weir::detail::window_receipt;
    /// One for each window. After an attempt each has the word of its window's head, whether it was charged or not.
    using receipts = std::array<receipt, window_index::size>;

    template <class Duration>
    quota_windows(quota_layout<Duration> const& all, quota_options const& o, std::int64_t origin) : options_{o} {
        for (std::size_t i = 0; i < window_index::size; ++i) {
            auto const& w = all.windows[i];
            if (w.limit == 0) continue;
            windows_[i].emplace(w.layout, w.limit, w.taken, origin);
            present_ |= 1U << i;
        }
        if (all.held_at_start != 0) at(window_index::held).restore(all.held_at_start, origin);
    }
    quota_windows(quota_windows const&) = delete;
    quota_windows& operator=(quota_windows const&) = delete;
    ~quota_windows() = default;

    quota_options const& options() const noexcept { return options_; }
    [[gnu::__always_inline__]] bool has(std::size_t i) const noexcept { return (present_ >> i & 1U) != 0; }
    window& at(std::size_t i) noexcept { return *windows_[i]; }
    window const& at(std::size_t i) const noexcept { return *windows_[i]; }

    // ---- a call ----

    /// What each window would do, of one time point.
    struct prepared {
        std::array<token_charge, 2> tokens{};  // by tpm and tps
        permits hold = 0;
        std::array<typename window::prepared, quota_limits> windows{};
        bool granted = false;
    };

    using forecasts = std::array<typename window::forecast, quota_limits>;

    /// Phase one. Nothing is changed.
    [[gnu::__always_inline__]] prepared prepare(tokens n, std::int64_t t, forecasts& f) const noexcept {
        prepared p;
        if (n.invalid()) [[unlikely]]
            return p;
        bool const requests = request_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            return !has(Which) || (p.windows[Which] = at(Which).prepare(1, t, f[Which])).granted();
        });
        if (!requests) return p;
        if (n.input == 0 && n.output == 0) {
            p.granted = true;
            return p;
        }
        p.hold = hold_of(n);
        usage others{};
        if (has(window_index::held)) others = at(window_index::held).used_at(t);
        p.granted = token_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            if (!has(Which)) return true;
            auto const& c = p.tokens[Which - window_index::tpm] = charge(Which, n, p.hold, at(Which).limit());
            return !c.never && (c.count == 0 ||
                                (p.windows[Which] = prepare_tokens(Which, c, p.hold, others, t, f[Which])).granted());
        });
        return p;
    }

    /// Phase two: charges what was prepared, or nothing.
    [[gnu::__always_inline__]] bool commit(prepared const& p, forecasts const& f, std::int64_t t,
                                           receipts& r) noexcept {
        bool const counts = p.tokens[0].count != 0 || p.tokens[1].count != 0;
        if (has(window_index::held) && counts) at(window_index::held).advance_to(t);
        bool const requests = request_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            return !has(Which) || at(Which).commit(p.windows[Which], f[Which], 1, t, r[Which]);
        });
        if (requests && (!counts || commit_tokens(p, f, t, r))) [[likely]]
            return true;
        return undo(r);
    }

    /// Completes the receipts by the words of the windows that were not charged.
    [[gnu::__always_inline__]] void note_heads(receipts& r) const noexcept {
        all_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            if (has(Which) && r[Which].head() == 0) r[Which] = receipt{at(Which).head(), 0};
            return true;
        });
    }

    /// The reply was read. What moves is counted in the one window before it is given back in the other: the hold ends
    /// last.
    void settle(receipts& r, tokens used, std::int64_t now) noexcept {
        bool const holds = has(window_index::held);
        permits const counts = holds ? used.input.value() : used.total();
        for (std::size_t i : {window_index::tpm, window_index::tps}) {
            if (!has(i)) continue;
            permits const charged = r[i].live();
            permits const late = (holds ? used.output.value() : 0) + (counts > charged ? counts - charged : 0);
            if (late != 0) (void)at(i).force_acquire(late, now);
            if (counts < charged) (void)at(i).refund(r[i], charged - counts);
        }
        if (holds) (void)at(window_index::held).refund_visible(r[window_index::held]);
    }
    [[gnu::__noinline__]] void give_back(receipts& r) noexcept {
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if (has(i)) (void)at(i).refund(r[i]);
        }
        if (has(window_index::held)) (void)at(window_index::held).refund_visible(r[window_index::held]);
    }
    void give_back(receipts& r, tokens some) noexcept {
        permits const counted = has(window_index::held) ? some.input.value() : some.total();
        for (std::size_t i : {window_index::tpm, window_index::tps}) {
            if (has(i)) (void)at(i).refund(r[i], counted);
        }
        if (has(window_index::held)) (void)at(window_index::held).refund_visible(r[window_index::held], some.output);
    }

    /// Before the limiter is shared: a call of an earlier run, which is in flight unless it has ended, at `end`.
    void restore(tokens n, std::int64_t sent, bool ended, std::int64_t end) noexcept {
        for (std::size_t i : {window_index::rpm, window_index::rps}) {
            if (has(i)) at(i).restore(1, sent);
        }
        for (std::size_t i : {window_index::tpm, window_index::tps}) {
            if (!has(i)) continue;
            at(i).restore(has(window_index::held) ? n.input.value() : n.total(), sent);
            if (has(window_index::held) && ended) at(i).restore(n.output, end);
        }
        if (has(window_index::held) && !ended) at(window_index::held).restore(n.output, sent);
    }

    // ---- looking ----

    /// What is held first: a settlement between the looks is then counted in both, else in neither.
    permits used(std::size_t i, std::int64_t t) const noexcept {
        permits const hold = shares(i) ? at(window_index::held).used(t) : 0;
        return weir::detail::saturating_sum(at(i).used(t), hold);
    }
    permits available(std::size_t i, std::int64_t t) const noexcept {
        permits const free = at(i).available(t);
        permits const hold = shares(i) ? at(window_index::held).used(t) : 0;
        return free > hold ? free - hold : 0;
    }
    permits max_limit(std::size_t i) const noexcept {
        permits const own = at(i).max_limit();
        return shares(i) ? (std::min)(own, at(window_index::held).max_limit()) : own;
    }

    // ---- looking back at an attempt, by its receipts ----

    /// A call of n is larger than a limit, and such calls are refused; or a number is negative.
    bool never_after(receipts const& r, tokens n) const noexcept {
        if (n.invalid()) return true;
        return !token_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            return !has(Which) || !charge(Which, n, hold_of(n), at(Which).limit_after(r[Which].head())).never;
        });
    }

    permits available_after(receipts const& r, std::size_t i, std::int64_t t) const noexcept {
        permits const limit = at(i).limit_after(r[i].head());
        permits const used =
            weir::detail::saturating_sum(at(i).used_after(r[i].head(), t), shares(i) ? held_after(r, t) : 0);
        return used < limit ? limit - used : 0;
    }
    std::int64_t empty_after(receipts const& r, std::int64_t t) const noexcept {
        std::int64_t last = t;
        for (std::size_t i = 0; i < window_index::size; ++i) {
            if (has(i)) last = (std::max)(last, at(i).first_fit_after(r[i].head(), 0, t));
        }
        return last;
    }
    /// The first tick from t on at which a call of n fits window i, if nothing is taken or settled; the greatest number
    /// where it never does. Without holds: if all that is in flight were settled at nothing.
    std::int64_t first_fit_after(receipts const& r, std::size_t i, tokens n, std::int64_t t,
                                 bool with_holds = true) const noexcept {
        constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::max)();
        permits const limit = at(i).limit_after(r[i].head());
        if (!counts_tokens(i)) return at(i).first_fit_after(r[i].head(), limit - 1, t);
        permits const hold = hold_of(n);
        auto const c = charge(i, n, hold, limit);
        permits const needed = c.alone ? limit : c.count + (hold - c.own);
        if (c.never || needed > limit) return never;
        permits const budget = limit - needed;
        if (!with_holds || !shares(i)) return at(i).first_fit_after(r[i].head(), budget, t);
        // Both windows only fall, so the first fit is found by halving where holds age out meanwhile.
        auto const& holds = at(window_index::held);
        std::int64_t low = holds.first_fit_after(r[window_index::held].head(), budget, t);
        if (low == never) return low;
        permits const first = held_after(r, low);
        std::int64_t high = at(i).first_fit_after(r[i].head(), budget - (std::min)(first, budget), low);
        if (high == never || held_after(r, high) == first) return high;
        while (low < high) {
            std::int64_t const mid = low + (high - low) / 2;
            permits const h = held_after(r, mid);
            if (h <= budget && at(i).used_after(r[i].head(), mid) <= budget - h) {
                high = mid;
            } else {
                low = mid + 1;
            }
        }
        return high;
    }

private:
    using all_windows =
        window_set<window_index::rpm, window_index::rps, window_index::tpm, window_index::tps, window_index::held>;

    bool shares(std::size_t i) const noexcept { return counts_tokens(i) && has(window_index::held); }
    static usage with(usage u, permits more, permits less) noexcept {
        u.used = weir::detail::saturating_sum(u.used > less ? u.used - less : 0, more);
        return u;
    }
    permits held_after(receipts const& r, std::int64_t t) const noexcept {
        return at(window_index::held).used_after(r[window_index::held].head(), t);
    }

    /// What a call of n holds until it is settled. Beyond the greatest limit that `change` accepts it makes no
    /// difference.
    [[gnu::__always_inline__]] permits hold_of(tokens n) const noexcept {
        if (!has(window_index::held) || n.output == 0) return 0;
        permits const most = at(window_index::held).max_limit();
        return (std::min)(n.input == 0 ? n.output - 1 : n.output.value(), most);
    }
    [[gnu::__always_inline__]] token_charge charge(std::size_t i, tokens n, permits hold,
                                                   permits limit) const noexcept {
        return charge_of(n, hold, has(window_index::held), limit, at(i).max_limit(), options_);
    }

    [[gnu::__always_inline__]] typename window::prepared prepare_tokens(std::size_t i, token_charge const& c,
                                                                        permits hold, usage others, std::int64_t t,
                                                                        typename window::forecast& f) const noexcept {
        auto const with_own = with(others, hold - c.own, 0);
        if (c.alone) [[unlikely]]
            return at(i).prepare_alone(c.count, t, with_own);
        if (!has(window_index::held)) return at(i).prepare(c.count, t, f);
        return at(i).prepare_shared(c.count, t, [&] { return with_own; }, f);
    }

    /// Without holds, one exchange each. With them the hold comes first, then what counts, then one look at what is
    /// held, for both token limits. Where that does not do, another call came between: they are charged one by one.
    [[gnu::__always_inline__]] bool commit_tokens(prepared const& p, forecasts const& f, std::int64_t t,
                                                  receipts& r) noexcept {
        bool const alone = p.tokens[0].alone || p.tokens[1].alone;
        if (!has(window_index::held) && !alone) {
            return token_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
                permits const n = p.tokens[Which - window_index::tpm].count;
                return n == 0 || at(Which).commit(p.windows[Which], f[Which], n, t, r[Which]);
            });
        }
        if (p.hold != 0) r[window_index::held] = at(window_index::held).force_acquire(p.hold, t);
        if (!alone && commit_shared(p, t, r)) [[likely]]
            return true;
        return commit_slowly(p.tokens, t, r);
    }
    [[gnu::__always_inline__]] bool commit_shared(prepared const& p, std::int64_t t, receipts& r) noexcept {
        bool const charged = token_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            permits const n = p.tokens[Which - window_index::tpm].count;
            return n == 0 || at(Which).commit_shared(p.windows[Which], n, r[Which]);
        });
        if (!charged) return false;
        usage const held = at(window_index::held).used_at(t);
        return token_windows::all([&]<std::size_t Which>() __attribute__((__always_inline__)) {
            auto const& c = p.tokens[Which - window_index::tpm];
            return c.count == 0 || at(Which).verify_shared(r[Which], with(held, 0, c.own));
        });
    }
    [[gnu::__noinline__]] bool commit_slowly(std::array<token_charge, 2> tokens, std::int64_t t, receipts& r) noexcept {
        for (std::size_t i : {window_index::tpm, window_index::tps}) {
            if (has(i)) (void)at(i).refund(r[i]);
        }
        for (std::size_t i : {window_index::tpm, window_index::tps}) {
            auto const& c = tokens[i - window_index::tpm];
            if (c.count != 0 && !charge_one(i, c, t, r[i])) return false;
        }
        return true;
    }
    bool charge_one(std::size_t i, token_charge const& c, std::int64_t t, receipt& r) noexcept {
        auto const others = [&] {
            return has(window_index::held) ? with(at(window_index::held).used_at(t), 0, c.own) : usage{};
        };
        if (!c.alone) return at(i).try_acquire_shared(c.count, t, others, r);
        auto const a = at(i).template try_acquire<true>(c.count, t);
        r = receipt{a.head, a.taken};
        if (!a.granted || others().used == 0) return a.granted;
        (void)at(i).refund(r);
        return false;
    }

    [[gnu::__noinline__]] bool undo(receipts& r) noexcept {
        give_back(r);
        r = receipts{};
        return false;
    }

    quota_options options_;
    unsigned present_ = 0;
    std::array<std::optional<window>, window_index::size> windows_{};
};

}  // namespace weir::inline v0::llm::detail
