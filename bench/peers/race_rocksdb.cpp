// SPDX-License-Identifier: MIT
// RocksDB's GenericRateLimiter in the race. Its Request waits where others refuse, so it is measured granted only, at a
// rate at which it need not wait; it counts its waits itself, and each is reported as a surprise.
#include <rocksdb/env.h>
#include <rocksdb/rate_limiter.h>
#include <rocksdb/statistics.h>

#include "race.hpp"

#include <cstdint>
#include <memory>

namespace {

struct generic {
    std::unique_ptr<rocksdb::RateLimiter> limiter{rocksdb::NewGenericRateLimiter(1'000'000'000)};
    std::shared_ptr<rocksdb::Statistics> statistics = rocksdb::CreateDBStatistics();

    bool attempt() {
        limiter->Request(1, rocksdb::Env::IO_HIGH, statistics.get(), rocksdb::RateLimiter::OpType::kWrite);
        return true;
    }
    static void drain() {}
    std::uint64_t waits() const { return statistics->getTickerCount(rocksdb::NUMBER_RATE_LIMITER_DRAINS); }
};

}  // namespace

int main() {
    race::field f;
    f.add("rocksdb", [](bool) { return std::make_unique<generic>(); });
    return f.serve();
}
