// SPDX-License-Identifier: MIT
//
// keyed_buckets: a token bucket for each key, in memory that is fixed at construction.
//
// Promise: over the effective times, in any interval of length T in which its plan does not change and it is not reset,
// a key is granted at most burst + rate·T permits of its plan, exactly, whatever the threads do and however many keys
// there are. With full_set::forget, and what was forgotten of it.
// State: 9.2 bytes a slot; 14 slots are a set of 128 bytes, and a key has its slot in the set that its hash selects.
// Lock-free. Protocol and proof: docs/architecture.md. Source: GCRA (detail/gcra.hpp) with TATs in whole ticks.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/keyed_decision.hpp"
#include "detail/keyed_table.hpp"
#include "detail/saturating.hpp"
#include "detail/siphash.hpp"
#include "error.hpp"
#include "keyed_options.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// A token bucket for each key.
///
///     weir::keyed_buckets ips{{.capacity = 1 << 20}, weir::plan{weir::rate{10, 1s}, 20}};
///     if (auto d = ips.try_acquire(client_address)) serve(); else answer_429(d.retry_after_seconds());
///
/// Keys are hashed whole, the empty one too, under a secret of the table; two keys share a bucket with a probability of
/// at most 10^-7. Time counts in the table's ticks, 4 ns for a `longest` of a minute. The effective time of an attempt
/// is its time point, or the start of the set's epoch of 2^34 ticks where that is later. Times ahead are trusted. A
/// denial is the exact bucket's, or its set was full or was being filled by unfinished attempts, or its time point is
/// not after the latest refill of a bucket that was evicted. Memory order: as token_bucket's.
template <class Clock = std::chrono::steady_clock, class Hash = sip_hash, class Atomics = std_atomics>
    requires clock<Clock>
class keyed_buckets {
    using table = detail::keyed_table<Atomics>;
    using set = typename table::set;
    using status = detail::keyed_outcome::status;

public:
    using clock_type = typename detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    using limits_type = plan;
    class decision;
    class reservation;

    /// Allocates all that the table ever uses. Throws std::invalid_argument for what `validate` names, and
    /// std::bad_alloc.
    explicit keyed_buckets(keyed_options const& o, plan const& p)
        requires(!std::is_reference_v<Clock>)
        : keyed_buckets{o, p, Clock{}} {}
    explicit keyed_buckets(keyed_options const& o, plan const& p, Clock c)
        requires std::default_initializable<Hash>
        : keyed_buckets{o, p, static_cast<Clock&&>(c), Hash{}} {}
    explicit keyed_buckets(keyed_options const& o, plan const& p, Clock c, Hash hash)
        : clock_{static_cast<Clock&&>(c)},
          hash_{std::move(hash)},
          table_{o, p, resolution_of(clock_.get())},
          time_{detail::ticks(time_point{clock_.get().now()}), table_.shift()},
          forget_{o.when_full == full_set::forget} {}

    keyed_buckets(plan, keyed_options) = delete;  // the options come first
    keyed_buckets(keyed_buckets const&) = delete;
    keyed_buckets& operator=(keyed_buckets const&) = delete;

    /// What is wrong with these arguments: no slots, or more than 2^40; `longest` not positive; a plan whose burst does
    /// not refill within it, or whose interval is so short that a whole tick would lose more than 1/1000 of the rate; a
    /// burst of 0 or from 2^30 on.
    static constexpr error validate(keyed_options const& o, plan const& p, duration resolution = duration{1}) {
        return detail::check_keyed(o, p, resolution);
    }
    /// A table, or the reason why there is none.
    template <class... Rest>
    static result<keyed_buckets> make(keyed_options const& o, plan const& p, Rest&&... rest) {
        if (auto e = validate(o, p, detail::resolution_among<Clock>(rest...))) return e;
        return result<keyed_buckets>{std::in_place, o, p, std::forward<Rest>(rest)...};
    }

    /// Takes n permits of the key's bucket if they are there, else nothing. n = 0 is granted, and gives the key no
    /// slot; n above the burst is never granted. O(1); one exchange for a key with a slot, four for a new one. A
    /// denial charges nothing. Lock-free: restarts only after another's exchange.
    template <table_key K>
    decision try_acquire(K const& key, permit_count n = 1) noexcept {
        return take(key, {}, n, 0, now());
    }
    template <table_key K>
    decision try_acquire(K const& key, permit_count n, time_point t) noexcept {
        return take(key, {}, n, 0, t);
    }
    template <table_key K>
    decision try_acquire(K const& key, plan_id p, permit_count n = 1) noexcept {
        return take(key, p, n, 0, now());
    }
    template <table_key K>
    decision try_acquire(K const& key, plan_id p, permit_count n, time_point t) noexcept {
        return take(key, p, n, 0, t);
    }

    /// What try_acquire would answer. Writes nothing.
    template <table_key K>
    decision check(K const& key, permit_count n = 1) const noexcept {
        return look(key, {}, n, now());
    }
    template <table_key K>
    decision check(K const& key, plan_id p, permit_count n, time_point t) const noexcept {
        return look(key, p, n, t);
    }
    template <table_key K>
    permits available(K const& key, plan_id p = {}) const noexcept {
        return available(key, p, now());
    }
    template <table_key K>
    permits available(K const& key, plan_id p, time_point t) const noexcept {
        return look(key, p, 0, t).remaining();
    }

    /// Books n permits for the first moment at which they are there, if that is at most `max_wait` from t. Burst and
    /// wait together count up to `keyed_options::longest`, at the least: a longer wait is cut.
    template <table_key K>
    reservation reserve(K const& key, plan_id p, permit_count n, any_duration<duration> max_wait) noexcept {
        return reserve(key, p, n, max_wait, now());
    }
    template <table_key K>
    reservation reserve(K const& key, plan_id p, permit_count n, any_duration<duration> max_wait,
                        time_point t) noexcept {
        auto const wait = max_wait > duration{0} ? static_cast<std::uint64_t>(max_wait.count()) >> table_.shift() : 0;
        return reservation{take(key, p, n, wait, t)};
    }

    /// Charges n permits whether they are there or not, for costs that are known only afterwards. The debt delays later
    /// grants and ends after 2^34 ticks at most. False, with nothing charged: the set is full, the plan not set, n
    /// negative.
    template <table_key K>
    bool charge(K const& key, plan_id p, permit_count n) noexcept {
        return charge(key, p, n, now());
    }
    template <table_key K>
    bool charge(K const& key, plan_id p, permit_count n, time_point t) noexcept {
        return put_debt(detail::place_of(hash_of(key), table_.sets()), p, n, t);
    }

    /// Gives back what a grant or a reservation took, or k permits of it, while no other has charged the key since;
    /// else, and where the key was evicted or reset in its set's last two epochs, nothing. Returns what was given back.
    permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    permits refund(decision& d, permit_count k) noexcept {
        if (!is_of_this(d) || k == 0U || k.invalid()) return 0;
        set& s = *const_cast<set*>(static_cast<set const*>(d.set_));
        auto& o = d.outcome_;
        bool const whole = o.inserted && k >= d.n_;
        permits const gone = d.live_.take(k);
        std::uint64_t const by = gone * d.plan_.interval();
        if (whole ? !s.erase(o.slot, o.word) : !s.undo(o.slot, o.word, by)) {
            d.live_.take_all();
            return 0;
        }
        o.word = detail::keyed_layout<>::lowered(o.word, by);
        o.inserted = false;
        return gone;
    }
    /// Corrects a grant to the permits really used, once: fewer are refunded, more are charged now. False when it was
    /// settled or refunded before.
    template <table_key K>
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        K const& key, decision& d, permit_count actual) noexcept {
        if (!is_of_this(d) || actual.invalid()) return false;
        permits const live = d.live_.count();
        if (actual < live) refund(d, live - actual);
        if (actual > live) charge_word(detail::place_of(hash_of(key), table_.sets()), d.plan_, actual - live, now());
        d.live_.take_all();
        return true;
    }

    /// Forgets the key: it has its whole burst again. False where it had no slot, and so nothing to forget.
    template <table_key K>
    bool reset(K const& key) noexcept {
        auto const at = detail::place_of(hash_of(key), table_.sets());
        return table_.set_at(at.set).reset(at.fingerprint, at.preferred);
    }

    /// Sets a plan, or changes it for all later attempts by one exchange. A debt stays as long as it was. Errors, with
    /// nothing changed: what `validate` names, and an index from 64 on.
    [[nodiscard("an error says that nothing was changed")]] error set_plan(plan_id id, plan const& p) noexcept {
        if (id.index >= table::most_plans) return {"a plan's index must be below 64"};
        detail::keyed_plan_word w;
        if (auto e = detail::make_plan_word(p.rate, p.burst, table_.shift(), resolution_of(clock()), w)) return e;
        table_.set_plan(id.index, w);
        return {};
    }
    [[nodiscard("an error says that nothing was changed")]] error change(plan const& p) noexcept {
        return set_plan({}, p);
    }

    /// A key's hash by this table's secret: hash once, ask several times.
    template <table_key K>
    key_hash hash(K const& key) const noexcept {
        return key_hash{hash_of(key)};
    }
    std::size_t capacity() const noexcept { return table_.sets() * detail::keyed_layout<>::ways; }
    /// Snapshots: slots that hold debt now, estimated from at most 1,024 sets; keys forgotten; attempts denied as full.
    std::uint64_t live() const noexcept { return table_.live(time_.ticks(now())); }
    std::uint64_t forgotten() const noexcept { return table_.forgotten(); }
    std::uint64_t refused() const noexcept { return table_.full(); }
    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    template <table_key K>
    std::uint64_t hash_of(K const& key) const noexcept {
        if constexpr (std::same_as<K, key_hash>) {
            return static_cast<std::uint64_t>(key);
        } else if constexpr (std::integral<K>) {
            return hash_(static_cast<std::uint64_t>(key));
        } else if constexpr (std::convertible_to<K const&, std::string_view>) {
            return hash_(std::as_bytes(std::span<char const>{std::string_view{key}}));
        } else if constexpr (std::convertible_to<K const&, std::span<std::byte const>>) {
            return hash_(std::span<std::byte const>{key});
        } else {
            return hash_(std::as_bytes(std::span<unsigned char const>{key}));
        }
    }
    time_point now() const noexcept { return clock_.get().now(); }

    detail::keyed_request request(detail::keyed_place const& at, detail::keyed_plan_word w, permits n,
                                  std::uint64_t wait, time_point t) const noexcept {
        std::uint64_t const span = w.burst() * w.interval();
        std::uint64_t const most = detail::keyed_layout<>::epoch_ticks - span;
        return {at.fingerprint, at.preferred, time_.ticks(t), n * w.interval(), span + (wait < most ? wait : most),
                false,          forget_};
    }
    template <class K>
    decision take(K const& key, plan_id p, permit_count n, std::uint64_t wait, time_point t) noexcept {
        auto const at = detail::place_of(hash_of(key), table_.sets());
        auto const w = table_.plan(p.index);
        if (n == 0U || !w.is_set() || n > w.burst()) return look_at(at, w, n, t);
        auto const r = request(at, w, n, wait, t);
        auto const o = attempt(at, r);
        return decision{time_, t, n, w, r.room - w.burst() * w.interval(), o, false, &table_.set_at(at.set)};
    }
    template <class K>
    decision look(K const& key, plan_id p, permit_count n, time_point t) const noexcept {
        decision d = look_at(detail::place_of(hash_of(key), table_.sets()), table_.plan(p.index), n, t);
        d.live_.take_all();
        return d;
    }
    decision look_at(detail::keyed_place const& at, detail::keyed_plan_word w, permits n, time_point t) const noexcept {
        bool const never = !w.is_set() || n > w.burst();
        auto o = table_.set_at(at.set).probe(request(at, w, never ? 0 : n, 0, t));
        if (never) o.result = status::denied;
        if (n == 0 && !never) {
            if (o.result == status::full) o.tat = o.at + w.burst() * w.interval();
            o.result = status::granted;
        }
        return decision{time_, t, n, w, 0, o, never, nullptr};
    }
    bool put_debt(detail::keyed_place const& at, plan_id p, permit_count n, time_point t) noexcept {
        auto const w = table_.plan(p.index);
        if (!w.is_set() || n.invalid()) return false;
        return n == 0U || charge_word(at, w, n, t);
    }
    bool charge_word(detail::keyed_place const& at, detail::keyed_plan_word w, permits n, time_point t) noexcept {
        constexpr std::uint64_t most = detail::keyed_layout<>::epoch_ticks;
        auto r = request(at, w, n < most / w.interval() ? n : most / w.interval() + 1, 0, t);
        r.debt = true;
        return attempt(at, r).result == status::granted;
    }
    detail::keyed_outcome attempt(detail::keyed_place const& at, detail::keyed_request const& r) noexcept {
        auto const o = table_.set_at(at.set).attempt(r);
        if (o.forgotten) table_.count_forgotten();
        if (o.result == status::full) table_.count_full();
        return o;
    }
    bool is_of_this(decision const& d) const noexcept {
        return d.live_.count() != 0 && table_.holds(static_cast<set const*>(d.set_));
    }

    [[no_unique_address]] detail::clock_box<Clock> clock_;
    [[no_unique_address]] Hash hash_;
    table table_;
    detail::keyed_time<time_point> time_;
    bool forget_;
};

/// What an attempt returned, and, when granted, the receipt by which it is refunded or settled. It refers to its table.
template <class Clock, class Hash, class Atomics>
    requires clock<Clock>
class [[nodiscard("a dropped decision limits nothing")]] keyed_buckets<Clock, Hash, Atomics>::decision
    : public detail::keyed_decision<time_point> {
    friend class keyed_buckets;
    using detail::keyed_decision<time_point>::keyed_decision;
};

/// Permits booked for starts_at(). retry_at of a denied one: when the same wait would do.
template <class Clock, class Hash, class Atomics>
    requires clock<Clock>
class [[nodiscard(
    "the reservation says when the permits may be used")]] keyed_buckets<Clock, Hash, Atomics>::reservation
    : public decision {
public:
    /// When the permits may be used; the time of the attempt when at once, and when denied.
    time_point starts_at() const noexcept {
        std::uint64_t const span = this->plan_.burst() * this->plan_.interval();
        if (!this->granted() || this->outcome_.tat <= this->outcome_.at + span) return this->t_;
        return this->later(this->outcome_.tat - span);
    }

private:
    friend class keyed_buckets;
    explicit reservation(decision&& d) noexcept : decision{std::move(d)} {}
};

keyed_buckets(keyed_options, plan) -> keyed_buckets<>;
template <detail::clock_or_reference C>
keyed_buckets(keyed_options, plan, C) -> keyed_buckets<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C, class Hash>
keyed_buckets(keyed_options, plan, C, Hash) -> keyed_buckets<detail::clock_argument_t<C>, Hash>;

static_assert(decision<keyed_buckets<>::decision>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
