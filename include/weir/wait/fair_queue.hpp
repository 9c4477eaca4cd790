// SPDX-License-Identifier: MIT
//
// Classes that share a limiter: somebody waits for an agent, a batch runs overnight, and one quota serves both. Each class has a
// waiting line of its own and a weight; whose turn it is among the classes is decided by start-time fair queueing (P. Goyal,
// H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996), with the cost of a call that needs two resources counted as that of
// the one it needs most of (A. Ghodsi and others, "Dominant Resource Fairness", NSDI 2011, and "Multi-Resource Fair Queueing for
// Packet Processing", SIGCOMM 2012).
//
// Why that discipline: it must not know a cost before the call is served (a cost may be a callable), the costs differ by orders of
// magnitude, and a class must be served at once when it comes back. Deficit round robin makes whoever comes back wait for a round, and a
// round is as long as the largest cost; weighted fair queueing orders by the end of service, so that a large call waits for every smaller
// one and idle periods need a simulated fluid server; stride scheduling is the same order as here without a rule for who was idle.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../error.hpp"
#include "wait_queue.hpp"

namespace weir::inline v0 {

/// What a class of callers is entitled to.
struct fair_class {
    std::uint32_t weight =
        1;  ///< 1 to 65,536: while others wait, its part of what is granted is weight / sum of their weights
    wait_queue_options line{};  ///< of the class's own line

    static constexpr std::uint32_t max_weight = 65'536;
    static constexpr error validate(fair_class const& s) noexcept {
        if (s.weight == 0) return {"a class of weight 0 would never be served: leave it out"};
        if (s.weight > max_weight) return {"a weight is 65,536 at most"};
        return {};
    }
};

/// Whose turn it is among classes: the arithmetic of fair_queue, without threads. Each class has the tag at which its next call
/// starts, in permits over its weight; a grant of n moves it on by n / weight; the least is next, of equal ones the class that is
/// listed first. The virtual time is the start of the call served last: a class that was idle comes back there, without credit for
/// what it left to others, and next in turn; and when nobody waits, all are equal again: who used what nobody wanted does not owe for it.
/// O(log classes), and O(classes) once in 2^62 units of work.
template <std::size_t Classes>
    requires(Classes > 0 && Classes <= 65'536)
class fair_schedule {
public:
    static constexpr std::size_t none = Classes;

    constexpr explicit fair_schedule(std::array<std::uint32_t, Classes> const& weights) noexcept : weights_{weights} {
        winner_.fill(none);
    }

    /// The class to be served next; none when nobody waits.
    constexpr std::size_t first() const noexcept { return winner_[1]; }
    constexpr bool waits(std::size_t i) const noexcept { return winner_[leaves + i] == i; }
    /// Whether somebody goes before i, which is idle and would begin to wait now.
    constexpr bool would_be_behind(std::size_t i) const noexcept {
        std::size_t const f = first();
        if (f == none) return false;
        std::uint64_t const tag = (std::max)(tags_[i], now_);
        return tags_[f] < tag || (tags_[f] == tag && f < i);
    }

    /// The first of class i begins to wait.
    constexpr void begins(std::size_t i) noexcept {
        if (first() == none) {
            now_ = latest_;
            ++period_;
        }
        tags_[i] = (std::max)(tags_[i], now_);
        place(i, i);
    }
    /// The number of the time in which somebody has been waiting without a break, 1 the first: what was counted in an earlier one is no
    /// longer owed.
    constexpr std::uint64_t period() const noexcept { return period_; }
    /// Nobody of class i waits any more.
    constexpr void ends(std::size_t i) noexcept { place(i, none); }

    /// One of class i, which waits, was granted n. A cost of nothing counts as one, so that a stream of them cannot starve others.
    constexpr void serve(std::size_t i, std::uint64_t n) noexcept {
        now_ = (std::max)(now_, tags_[i]);
        advance(i, n);
        if (now_ >= renormalize_at) {
            for (auto& t : tags_) t -= (std::min)(t, now_);
            latest_ -= (std::min)(latest_, now_);
            now_ = 0;  // the order is the same: only tags that were below it have become equal
        }
    }
    /// What class i was granted came to more, or less, than was counted. Less is credit down to the virtual time, not below it.
    constexpr void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual) noexcept {
        if (actual > counted) {
            advance(i, actual - counted);
        } else if (tags_[i] > now_) {
            std::uint64_t const back = (std::min)(counted - actual, most) * unit / weights_[i];
            tags_[i] -= (std::min)(back, tags_[i] - now_);
        }
        replay(i);
    }

    /// From the next grant on.
    constexpr void change_weight(std::size_t i, std::uint32_t w) noexcept {
        weights_[i] = w;
        rests_[i] = 0;
    }

private:
    // A permit at weight 1. Weights up to 16 divide it; for the others the rest of each division is carried to the next.
    static constexpr std::uint64_t unit = 720'720;
    // Larger grants count as this: 10^12 permits.
    static constexpr std::uint64_t most = (std::uint64_t{1} << 60) / unit;
    static constexpr std::uint64_t renormalize_at = std::uint64_t{1} << 62;
    static constexpr std::size_t leaves = std::bit_ceil(Classes);

    constexpr void advance(std::size_t i, std::uint64_t n) noexcept {
        std::uint64_t const work = std::clamp(n, std::uint64_t{1}, most) * unit + rests_[i];
        // A tag can grow past the virtual time without end where much more is settled than was counted: it stops, and does not wrap.
        tags_[i] += (std::min)(work / weights_[i], (std::numeric_limits<std::uint64_t>::max)() - tags_[i]);
        rests_[i] = static_cast<std::uint32_t>(work % weights_[i]);
        latest_ = (std::max)(latest_, tags_[i]);
        replay(i);
    }

    constexpr std::size_t better(std::size_t a, std::size_t b) const noexcept {
        if (a == none || b == none) return (std::min)(a, b);
        return tags_[b] < tags_[a] ? b : a;
    }
    constexpr void place(std::size_t i, std::size_t who) noexcept {
        winner_[leaves + i] = who;
        replay(i);
    }
    constexpr void replay(std::size_t i) noexcept {
        for (std::size_t k = (leaves + i) / 2; k != 0; k /= 2) winner_[k] = better(winner_[2 * k], winner_[2 * k + 1]);
    }

    std::array<std::uint32_t, Classes> weights_;
    std::array<std::uint32_t, Classes> rests_{};
    std::array<std::uint64_t, Classes> tags_{};
    std::uint64_t now_ = 0;     // virtual time
    std::uint64_t latest_ = 0;  // no tag is above it
    std::uint64_t period_ = 0;
    std::array<std::size_t, 2 * leaves> winner_{};  // a tournament: the winner of node k, of nodes 2k and 2k + 1
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// What an amount counts as among classes. Where a limiter has limits of requests and of tokens: tokens, and no call less than its
/// request is worth of them, TPM / RPM. That is the part of the limit of which the call takes the greater part, in tokens.
template <class Limiter, class Amount>
std::uint64_t share_of(Limiter const& l, Amount const& a) noexcept {
    std::uint64_t n = 1;
    if constexpr (std::integral<Amount>) {
        n = static_cast<std::uint64_t>(a);
    } else if constexpr (requires {
                             { a.total() } -> std::convertible_to<std::uint64_t>;
                         }) {
        n = a.total();
    }
    if constexpr (requires {
                      l.limits().effective_rpm();
                      l.limits().effective_tpm();
                  }) {
        auto const limits = l.limits();
        auto const requests = limits.effective_rpm();
        auto const tokens = limits.effective_tpm();
        if (!tokens) return 1;
        if (requests) n = (std::max)(n, *tokens / *requests);
    }
    return n;
}

/// The lines of all classes, under one mutex.
template <std::size_t Classes, class Atomics>
class fair_waiters {
public:
    explicit fair_waiters(std::array<std::uint32_t, Classes> const& weights) noexcept : order_{weights} {}

    // Relaxed: as fifo_waiters::empty.
    bool empty() const noexcept { return length() == 0; }
    std::size_t length() const noexcept { return length_.load(std::memory_order_relaxed); }
    std::size_t length(std::size_t i) const noexcept { return lanes_[i].length.load(std::memory_order_relaxed); }

    bool join(std::size_t i, waiter_node& p, std::size_t most) {
        std::lock_guard const lock{mutex_};
        lane& l = lanes_[i];
        if (length(i) >= most) return false;
        bool const begins = l.places.first == nullptr;
        arrivals_.number(p);
        l.places.insert(p);
        // It needs no waking when that makes it first; whom it displaces finds out when it wakes.
        if (begins) order_.begins(i);
        l.length.fetch_add(1, std::memory_order_relaxed);
        length_.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    void leave(std::size_t i, waiter_node& p) {
        std::lock_guard const lock{mutex_};
        remove(i, p);
    }
    /// Leaves with a grant, which is counted in the period that is returned. It was first when it asked, and may have been displaced since.
    std::uint64_t serve(std::size_t i, waiter_node& p, std::uint64_t n) {
        std::lock_guard const lock{mutex_};
        waiter_node* const before = first();
        std::uint64_t const period = order_.period();
        order_.serve(i, n);
        take_out(i, p);
        // The one who was displaced by p, or comes after it; not one who was first already: it is awake, or has its alarm.
        if (first() != before) wake();
        return period;
    }
    bool is_first(waiter_node const& p) const {
        std::lock_guard const lock{mutex_};
        return first() == &p;
    }
    std::uint64_t arrival() const noexcept { return arrivals_.last(); }
    bool is_behind(std::size_t i, waiter_node const& p) const {
        std::lock_guard const lock{mutex_};
        if (!order_.waits(i)) return order_.would_be_behind(i);
        return order_.first() != i || p.arrival == 0 || lanes_[i].places.first->arrival <= p.arrival;
    }
    void wake_first() {
        std::lock_guard const lock{mutex_};
        wake();
    }
    /// The same, and class i's account is set right.
    void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual) {
        std::lock_guard const lock{mutex_};
        order_.correct(i, counted, actual);
        wake();
    }
    /// Where the grant was counted in this period; 0: it was in none.
    void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual, std::uint64_t period) {
        std::lock_guard const lock{mutex_};
        if (period == order_.period()) order_.correct(i, counted, actual);
        wake();
    }
    void change_weight(std::size_t i, std::uint32_t w) {
        std::lock_guard const lock{mutex_};
        order_.change_weight(i, w);
    }

private:
    struct lane {
        waiter_list places;
        typename Atomics::template atomic<std::size_t> length{0};
    };

    waiter_node* first() const noexcept {
        std::size_t const i = order_.first();
        return i == order_.none ? nullptr : lanes_[i].places.first;
    }
    void wake() {
        if (waiter_node* const p = first()) p->wake(*p);
    }
    void remove(std::size_t i, waiter_node& p) {
        bool const was_first = first() == &p;
        take_out(i, p);
        if (was_first) wake();
    }
    void take_out(std::size_t i, waiter_node& p) {
        lane& l = lanes_[i];
        l.places.erase(p);
        if (l.places.first == nullptr) order_.ends(i);
        l.length.fetch_sub(1, std::memory_order_relaxed);
        length_.fetch_sub(1, std::memory_order_relaxed);
    }

    mutable typename mutex_of<Atomics>::type mutex_;
    fair_schedule<Classes> order_;
    std::array<lane, Classes> lanes_{};
    arrivals<Atomics> arrivals_;
    typename Atomics::template atomic<std::size_t> length_{0};
};

/// What the wait_queue of one class sees of it.
template <std::size_t Classes, class Atomics>
class class_queue {
public:
    static constexpr bool by_shares = true;

    constexpr class_queue(fair_waiters<Classes, Atomics>& all, std::size_t i) noexcept : all_{&all}, class_{i} {}

    bool empty() const noexcept { return all_->empty(); }
    std::size_t length() const noexcept { return all_->length(class_); }
    bool join(waiter_node& p, std::size_t most) { return all_->join(class_, p, most); }
    void leave(waiter_node& p) { all_->leave(class_, p); }
    bool is_first(waiter_node const& p) const { return all_->is_first(p); }
    std::uint64_t arrival() const noexcept { return all_->arrival(); }
    bool is_behind(waiter_node const& p) const { return all_->is_behind(class_, p); }
    void wake_first() { all_->wake_first(); }

    template <class Limiter, class Cost>
    void served(waiter_node& p, Limiter& l, Cost const& cost, typename Limiter::decision& d) {
        std::uint64_t n = 1;
        if constexpr (!std::invocable<Cost const&, Limiter&> && !std::invocable<Cost&, Limiter&>) {
            n = share_of(l, cost);
        } else if constexpr (requires { d.asked(); }) {
            n = share_of(l, d.asked());
        }
        std::uint64_t const period = all_->serve(class_, p, n);
        if constexpr (requires { d.counted_in(period); }) d.counted_in(period);
    }
    // What was given back: where the limiter says how much, or what had been asked for.
    template <class Limiter, class Result, class Decision, class... Rest>
    void gave_back(Limiter& l, Result const& r, Decision const& d, Rest const&...) {
        if constexpr (std::same_as<Result, bool>) {
            if constexpr (requires { d.asked(); }) {
                if (r) return correct(d, share_of(l, d.asked()), 0);
            }
        } else if constexpr (std::integral<Result>) {
            return correct(d, static_cast<std::uint64_t>(r), 0);
        }
        all_->wake_first();
    }
    template <class Limiter, class Result, class Decision, class... Rest>
    void settled(Limiter& l, Result const& r, Decision const& d, Rest const&... rest) {
        if constexpr (std::same_as<Result, bool> && sizeof...(Rest) > 0 && requires { d.asked(); }) {
            auto const used = [](auto const& u, auto const&...) -> decltype(auto) { return u; };
            if (r) return correct(d, share_of(l, d.asked()), share_of(l, used(rest...)));
        }
        all_->wake_first();
    }

private:
    // A decision that can is asked whether it was counted at all.
    template <class Decision>
    void correct(Decision const& d, std::uint64_t counted, std::uint64_t actual) {
        if constexpr (requires { d.counted_in(); }) {
            all_->correct(class_, counted, actual, d.counted_in());
        } else {
            all_->correct(class_, counted, actual);
        }
    }

    fair_waiters<Classes, Atomics>* all_;
    std::size_t class_;
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// Several waiting lines in front of one limiter, which it refers to and which must outlive it.
///
///     enum role { agent, batch };
///     weir::fair_queue lines{quota, {weir::fair_class{.weight = 9}, weir::fair_class{.weight = 1}}};
///     auto a = lines[agent].acquire(weir::llm::tokens{500, 800});          // each is a wait_queue: deadlines, stop tokens, coroutines
///     if (a) { auto used = call(); lines[agent].settle(*a, used); }   // through the line of its class, which is then charged what it was
///
/// Let a, b be classes, w their weights, m the largest cost that was granted to one. While calls wait:
/// - FIFO inside a class.
/// - Shares: over any time in which both always have somebody waiting, |granted(a)/w(a) − granted(b)/w(b)| ≤ m(a)/w(a) + m(b)/w(b)
///   (and 2/720,720 more where a weight does not divide that number). So a's reserved share is w(a) / sum of all weights, whatever the others ask for.
/// - At once: a class that comes back after it had nobody waiting is next, before all that wait, if its own last call is paid for; but
///   for one call of each class that came back at the same virtual time and is listed before it. It takes the place of one who stands first and is
///   not served yet. What was lent is not called back: the limiter has charged it, and the permits that come free go to the class.
/// - No starvation: between two grants of a, the first of n, the others get at most sum of m(b) + n·w(b)/w(a) over them.
/// - Lent: an attempt that meets no waiting call is the limiter's own, whatever the class used before, and takes no lock; and nobody waits
///   by his class alone: the one who is next asks as soon as the limiter can grant.
/// One who is overtaken between his turn and his attempt may still be granted: each bound is then off by one call of each thread that did.
///
/// The cost among classes: permits; for a quota of requests and tokens, the dominant of the two: tokens, but at least TPM / RPM for each call. By tokens alone,
/// many small calls would take all requests and pay next to nothing. settle and refund through the class's line correct it:
/// what was held for an output that turned out short is given back. A cost of another type counts its total(), or as 1.
/// An attempt that met no waiting call was not counted, and is not corrected where the limiter's decision can tell: `counted_in(n)` is told the period that
/// it was counted in, `counted_in()` gives that back, or 0. Of others it is not known, and what such an attempt gives back is credit too.
///
/// try_acquire is granted if the limiter grants and nobody goes before. max_waiting is each class's own; with 0 it is served only
/// while nobody waits. O(log classes) under the one mutex; nothing is allocated. Everything else is as at wait_queue.
template <class Limiter, std::size_t Classes, class Atomics = std_atomics>
class fair_queue {
public:
    using limiter_type = Limiter;
    using line = wait_queue<Limiter, Atomics, detail::class_queue<Classes, Atomics>>;

    /// Throws std::invalid_argument for what `validate` names.
    fair_queue(Limiter& limiter, fair_class const (&shares)[Classes])
        : fair_queue{limiter, shares, std::make_index_sequence<Classes>{}} {}
    fair_queue(fair_queue const&) = delete;
    fair_queue& operator=(fair_queue const&) = delete;
    /// Nobody may be waiting.
    ~fair_queue() = default;

    static constexpr error validate(fair_class const (&shares)[Classes]) noexcept {
        for (fair_class const& s : shares) {
            if (auto const e = fair_class::validate(s)) return e;
        }
        return {};
    }

    static constexpr std::size_t classes() noexcept { return Classes; }

    /// The line of a class: a number or an enumerator. Throws std::invalid_argument where there is none.
    template <class Class>
        requires(std::integral<Class> || std::is_enum_v<Class>)
    line& operator[](Class c) {
        return lines_[checked(static_cast<std::size_t>(c))];
    }

    /// From the next grant on; what is owed stays.
    template <class Class>
        requires(std::integral<Class> || std::is_enum_v<Class>)
    error change_weight(Class c, std::uint32_t weight) {
        if (auto const e = fair_class::validate({.weight = weight})) return e;
        queue_.change_weight(checked(static_cast<std::size_t>(c)), weight);
        return {};
    }

    /// Something has made permits available: whoever is next tries anew.
    void notify() { queue_.wake_first(); }

    /// How many wait, in all classes. A moment's view.
    std::size_t waiting() const noexcept { return queue_.length(); }

private:
    template <std::size_t... Index>
    fair_queue(Limiter& limiter, fair_class const (&shares)[Classes], std::index_sequence<Index...>)
        : queue_{(detail::ensure(validate(shares)), std::array<std::uint32_t, Classes>{shares[Index].weight...})},
          lines_{{line{limiter, shares[Index].line, detail::class_queue<Classes, Atomics>{queue_, Index}}...}} {}

    static std::size_t checked(std::size_t c) {
        detail::ensure(c < Classes ? error{} : error{"there is no such class"});
        return c;
    }

    detail::fair_waiters<Classes, Atomics> queue_;
    std::array<line, Classes> lines_;
};

template <class Limiter, std::size_t Classes>
fair_queue(Limiter&, fair_class const (&)[Classes]) -> fair_queue<Limiter, Classes>;

}  // namespace weir::inline v0
