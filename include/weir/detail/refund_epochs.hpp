// SPDX-License-Identifier: MIT
//
// The epochs of refunds: what keeps a refund that stalls between its load of gcra_state's word_ and its exchange from
// succeeding on a word that other refunds have brought back to an old value. word_ names one of four epochs.
//
// refunding_ counts the refunds in progress in each epoch, 16 bits each. A refund
//   a. reads the epoch of word_ and adds itself to it in refunding_; it *sees* the refunds counted there before it;
//   b. reads word_ again; if the epoch is another one by now, it moves its count there and repeats b;
//   c. chooses another epoch, one in which it saw no refund. If stopped refunds hold all three, it gives nothing back;
//   d. exchanges the word of b for one in the chosen epoch: it *leaves* the one epoch and *begins* the other;
//   e. subtracts itself from refunding_.
// "Before" and "after" order the additions and subtractions by the modification order of refunding_, and words by that
// of word_. The addition that counts is a refund's last one.
// Lemma 1. If Y is counted in epoch e when X adds itself, X does not begin e. Proof: X sees Y; step c.
// Lemma 2. If X begins e, and Y is the refund that next leaves e, then X added itself before Y. Proof: otherwise Y was
//   counted in e when X added itself, since Y subtracts itself after its exchange, which comes after X's. Then X does
//   not begin e, by lemma 1.
// Lemma 3. If Y adds itself after X has subtracted itself, Y reads X's word or a newer one in b. Proof: (10) and (11).
// Theorem. While a refund R that read word S of epoch v is in progress, no refund begins v. So R's exchange succeeds
//   only if no refund has changed the word since. Proof: suppose that Q begins v, and that it leaves u.
//   1. R added itself after Q. Otherwise R was counted in v when Q added itself, against lemma 1.
//   2. Let P be the refund that began u before Q left it. Its word is newer than S, which is of epoch v, not u.
//   3. P added itself before Q, by lemma 2.
//   4. P had not subtracted itself when Q added itself. Otherwise R read P's word or a newer one (1, lemma 3), not S.
//   5. So P was counted, when Q added itself, in the epoch p that P left. p is not v, by lemma 1.
//   6. So after S some refund began p and P left it. Let that refund be P in 2 to 5: it added itself before the last P
//      (lemma 2), and so before Q; 4 and 5 hold for it.
//   7. Each such word is older than the one before and newer than S, so one of them is the first after S. That refund
//      left the epoch of S, which is v, against 5. ∎
//
//     pair               protects
//     (10) and (11)      word_: a refund that no longer finds another one in refunding_ sees that one's exchange
#pragma once

#include <atomic>
#include <cstdint>

namespace weir::inline v0::detail {

template <class Atomics>
class refund_epochs {
public:
    static constexpr unsigned none = 4;

    /// Where a refund is counted, and what it saw when it was added there.
    struct stay {
        std::uint64_t mine = 0;
        std::uint64_t others = 0;
        int looks = 16;  ///< for an epoch that is free
    };

    /// Step a: counts the refund in `epoch`.
    constexpr void enter(stay& s, unsigned epoch) noexcept {
        if (s.mine != one_in(epoch)) join(s, one_in(epoch));
    }
    /// Step c: another epoch, in which no refund was seen; none where stopped refunds hold all.
    constexpr unsigned another(stay& s, unsigned epoch) noexcept {
        while (true) {
            unsigned next = 0;
            while (next != none && (next == epoch || (s.others >> 16U * next & 0xffffU) != 0)) ++next;
            if (next != none || --s.looks == 0) return next;
            join(s, s.mine);
        }
    }
    /// Step e.
    constexpr void leave(stay const& s) noexcept {
        refunding_.fetch_sub(s.mine, std::memory_order_release);  // (11) pairs with (10)
    }

private:
    static constexpr std::uint64_t one_in(unsigned epoch) noexcept { return std::uint64_t{1} << 16U * epoch; }

    constexpr void join(stay& s, std::uint64_t in) noexcept {
        s.others = refunding_.fetch_add(in - s.mine, std::memory_order_acquire) - s.mine;  // (10) pairs with (11)
        s.mine = in;
    }

    typename Atomics::template atomic<std::uint64_t> refunding_{0};
};

}  // namespace weir::inline v0::detail
