// SPDX-License-Identifier: MIT
//
// index_set: a set of small numbers without a bound. The first 64 are held in place; the first insertion of a larger
// one allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weir::inline v0::detail {

class index_set {
public:
    bool contains(std::size_t i) const noexcept {
        std::size_t const word = i / 64;
        std::uint64_t const bits = word == 0 ? first_ : word <= rest_.size() ? rest_[word - 1] : 0;
        return (bits >> i % 64 & 1U) != 0;
    }
    void insert(std::size_t i) {
        std::size_t const word = i / 64;
        if (word > rest_.size()) rest_.resize(word);
        (word == 0 ? first_ : rest_[word - 1]) |= std::uint64_t{1} << i % 64;
    }
    void clear() noexcept {
        first_ = 0;
        rest_.clear();
    }

private:
    std::uint64_t first_ = 0;
    std::vector<std::uint64_t> rest_{};
};

}  // namespace weir::inline v0::detail
