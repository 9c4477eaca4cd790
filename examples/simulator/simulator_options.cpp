// SPDX-License-Identifier: MIT
#include "simulator_options.hpp"

#include <cstddef>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "option_table.hpp"

namespace qwen {

namespace {

using namespace simulated;

[[noreturn]] void complain(std::string const& what) { throw std::invalid_argument(what); }

option const* find(std::string_view name) {
    for (auto const& g : option_groups())
        for (auto const& o : g.options)
            if (o.name == name) return &o;
    return nullptr;
}

}  // namespace

simulator_options parse_simulator_options(std::vector<std::string> const& arguments) {
    options_so_far r;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        auto const& text = arguments[i];
        given_option g{text == "-h" ? "--help" : text.substr(0, text.find('=')), {}};
        bool has_value = g.flag.size() < text.size() && text != "-h";
        auto const* o = find(g.flag);
        if (o == nullptr) complain("no such option: " + text + " (--help lists them)");
        bool const takes = *o->argument != '\0';
        if (has_value && !takes) complain(g.flag + ": takes no value");
        if (has_value) g.value = text.substr(g.flag.size() + 1);
        if (takes && !has_value) {
            if (++i >= arguments.size()) complain(g.flag + ": needs a value");
            g.value = arguments[i];
        }
        o->take(r, g);
    }

    auto& s = r.s();
    if (!r.models.empty()) s.models = std::move(r.models);
    for (auto const& change : r.for_all_models)
        for (auto& m : s.models) change(m);
    if (!r.keys.empty()) s.accounts.clear();
    for (auto const& [key, name] : r.keys) account_named(s, name).keys.push_back(key);
    for (auto const& change : r.last) change(s);
    s.keep_records = r.out.log;
    return std::move(r.out);
}

std::vector<option_shown> simulator_option_list() {
    std::vector<option_shown> out;
    for (auto const& g : option_groups())
        for (auto const& o : g.options) out.push_back({o.name, o.argument});
    return out;
}

}  // namespace qwen
