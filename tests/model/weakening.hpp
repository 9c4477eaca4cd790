// SPDX-License-Identifier: MIT
//
// Whether each memory order of a header is earned: weakened by one step, alone, it must make a case fail.
//
//     for (auto const& e : model::weaken_each("gcra_state.hpp", {{"change", [] { return change_case(); }}, ...})) {
//         EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or the cases are blind";
//     }
#pragma once

#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"

namespace model {

/// A case which passes with the orders as they are.
struct trial {
    std::string name;
    std::function<outcome()> run;
};

struct earned {
    weakening what;
    std::string noticed_by;  // the first case that failed; empty: none
};

/// The accesses in these files that the trials reach with more than relaxed order. A trial that fails by itself comes
/// out in `broken`.
inline std::set<site> sites_of(std::set<std::string> const& files, std::vector<trial> const& trials,
                               std::vector<std::string>* broken = nullptr) {
    std::set<site> all;
    detail::engine::get().set_ambient({}, &all);
    for (auto const& t : trials) {
        auto const o = t.run();
        if (broken == nullptr) continue;
        if (!o.failure.empty()) broken->push_back(t.name + ": " + o.failure);
        if (o.seen == coverage::cut_off) broken->push_back(t.name + ": cut off");
    }
    detail::engine::get().set_ambient({}, nullptr);
    std::erase_if(all, [&](site const& s) { return !files.contains(s.file); });
    return all;
}
inline std::set<site> sites_of(char const* file, std::vector<trial> const& trials) {
    return sites_of(std::set<std::string>{file}, trials);
}

/// One access, weakened one step at a time, and the trial that notices.
inline std::vector<earned> weaken(site const& s, std::vector<trial> const& trials) {
    std::vector<std::memory_order> weaker{std::memory_order_relaxed};
    if (s.order == std::memory_order_acq_rel) weaker = {std::memory_order_acquire, std::memory_order_release};
    std::vector<earned> all;
    for (auto const to : weaker) {
        earned e{{s, to}, {}};
        detail::engine::get().set_ambient(e.what, nullptr);
        for (auto const& t : trials) {
            if (t.run().failure.empty()) continue;
            e.noticed_by = t.name;
            break;
        }
        all.push_back(std::move(e));
    }
    detail::engine::get().set_ambient({}, nullptr);
    return all;
}

/// Every access of `file` above relaxed.
inline std::vector<earned> weaken_each(std::string const& file, std::vector<trial> const& trials) {
    std::vector<earned> all;
    std::vector<std::string> broken;
    for (auto const& s : sites_of(std::set<std::string>{file}, trials, &broken)) {
        for (auto& e : weaken(s, trials)) all.push_back(std::move(e));
    }
    for (auto const& b : broken) all.push_back({{{"a trial fails by itself: " + b}, {}}, {}});
    return all;
}

/// The lines of the header at `path` that name an order above relaxed and which no trial has reached.
inline std::vector<unsigned> unreached(std::string const& path, std::vector<earned> const& all) {
    std::vector<unsigned> lines;
    std::ifstream in{path};
    std::string text;
    for (unsigned n = 1; std::getline(in, text); ++n) {
        std::string const code = text.substr(0, text.find("//"));
        if (code.find("memory_order_acq") == std::string::npos &&
            code.find("memory_order_release") == std::string::npos) {
            continue;
        }
        bool reached = false;
        for (auto const& e : all)
            reached = reached || e.what.where.line == n || e.what.where.line + 1 == n;  // may be broken
        if (!reached) lines.push_back(n);
    }
    if (lines.empty() && !in.eof()) lines.push_back(0);
    return lines;
}

}  // namespace model
