// SPDX-License-Identifier: MIT
//
// What qwen_demo prints after a run: the table, the comparison, the picture.
#pragma once

#include <weir/llm/quota.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "batch.hpp"
#include "batch_run.hpp"
#include "demo_options.hpp"

namespace qwen::demo {

class report {
public:
    /// `sent` is the number of requests in the batch that the run was to send.
    report(settings const& s, batch const& b, weir::llm::quota const& q, std::size_t sent)
        : s_{s}, batch_{b}, quota_{q}, sent_{sent} {}

    void print_table(run_result const& r) const;
    void print_comparison(std::vector<run_result> const& results) const;
    void write_picture(run_result const& r) const;

private:
    [[nodiscard]] std::string cost(run_result const& r) const;

    settings const& s_;
    batch const& batch_;
    weir::llm::quota quota_;
    std::size_t sent_;
};

}  // namespace qwen::demo
