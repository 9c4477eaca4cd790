// SPDX-License-Identifier: MIT
#include "svg.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

namespace qwen {

namespace {

constexpr double left = 76, right = 20, top = 44, plot_width = 784, plot_height = 84, panel_height = 132, bottom = 34;
constexpr std::size_t columns = static_cast<std::size_t>(plot_width);

struct panel {
    std::string_view name, colour;
    double window;
    std::uint64_t limit;
    bool tokens;
};

struct curve {
    std::vector<double> greatest;
    double peak = 0;
};

// What the window held at each column: every change of the sum, in order of time, and the greatest sum of each column.
curve sums(std::vector<sent_call> const& calls, panel const& p, double from, double length) {
    std::vector<std::pair<double, double>> changes;
    auto const add = [&](double at, double amount) {
        changes.emplace_back(at, amount);
        changes.emplace_back(at + p.window, -amount);
    };
    for (auto const& call : calls) {
        if (call.refused) continue;
        if (!p.tokens) {
            add(call.sent, 1);
        } else {
            add(call.sent, static_cast<double>(call.input));
            add(std::max(call.done, call.sent), static_cast<double>(call.output));
        }
    }
    std::sort(changes.begin(),
              changes.end());  // at one instant what leaves comes before what arrives: the window is half open
    curve result;
    result.greatest.assign(columns + 1, 0);
    double sum = 0;
    std::size_t next = 0;
    for (std::size_t column = 0; column <= columns; ++column) {
        double const end = from + length * static_cast<double>(column + 1) / static_cast<double>(columns);
        double greatest = sum;
        for (; next < changes.size() && changes[next].first < end; ++next) {
            sum += changes[next].second;
            greatest = std::max(greatest, sum);
        }
        result.greatest[column] = greatest;
        result.peak = std::max(result.peak, greatest);
    }
    return result;
}

std::string number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f", value);
    std::string s = text.data();
    if (s.ends_with(".0")) s.resize(s.size() - 2);
    return s;
}

std::string grouped(std::uint64_t value) {
    std::string s = std::to_string(value);
    for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
    return s;
}

std::string escaped(std::string_view text) {
    std::string s;
    for (char const c : text) {
        switch (c) {
            case '&': s += "&amp;"; break;
            case '<': s += "&lt;"; break;
            case '>': s += "&gt;"; break;
            case '"': s += "&quot;"; break;
            default: s += c;
        }
    }
    return s;
}

std::string label(double x, double y, std::string_view anchor, std::string_view type, std::string const& text) {
    return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + std::string(anchor) +
           "\" class=\"" + std::string(type) + "\">" + text + "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2, std::string_view type) {
    return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2) +
           "\" class=\"" + std::string(type) + "\"/>\n";
}

}  // namespace

std::string draw_windows(std::string const& title, std::vector<sent_call> const& calls, picture_limits const& limits) {
    std::vector<panel> panels;
    if (limits.rpm) panels.push_back({"requests in the last minute", "#3b82f6", 60, *limits.rpm, false});
    if (limits.rps) panels.push_back({"requests in the last second", "#06a3b7", 1, *limits.rps, false});
    if (limits.tpm) panels.push_back({"tokens in the last minute", "#8b5cf6", 60, *limits.tpm, true});
    if (limits.tps) panels.push_back({"tokens in the last second", "#d946a8", 1, *limits.tps, true});

    double from = 0, until = 1;
    if (!calls.empty()) {
        from = calls.front().sent;
        until = from;
        for (auto const& call : calls) {
            from = std::min(from, call.sent);
            until = std::max({until, call.sent, call.done});
        }
    }
    double const length = std::max(until - from, 1e-3);

    double const width = left + plot_width + right,
                 height = top + panel_height * static_cast<double>(panels.size()) + bottom;
    std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(width) + " " +
                      number(height) + "\" width=\"" + number(width) + "\" height=\"" + number(height) +
                      "\" font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n" +
                      // Mid tones, which stand out from white and from black.
                      "<style>\n"
                      ".title { font-size: 15px; font-weight: 600; fill: #7d8590 }\n"
                      ".name { font-size: 12.5px; font-weight: 600; fill: #7d8590 }\n"
                      ".note, .axis { font-size: 11px; fill: #7d8590 }\n"
                      ".over { font-size: 11px; font-weight: 600; fill: #e5534b }\n"
                      ".grid { stroke: #7d8590; stroke-opacity: .35; stroke-width: 1 }\n"
                      ".limit { stroke: #e5534b; stroke-width: 1.5; stroke-dasharray: 6 4 }\n"
                      ".refused { stroke: #e5534b; stroke-width: 1; stroke-opacity: .7 }\n"
                      "</style>\n";
    svg += label(left, 22, "start", "title", escaped(title));

    double y = top;
    for (auto const& p : panels) {
        auto const shown = sums(calls, p, from, length);
        double const limit = static_cast<double>(p.limit);
        double const scale = std::max({limit, shown.peak, 1.0}) * 1.08;
        double const base = y + 24 + plot_height;
        auto const height_of = [&](double value) { return base - plot_height * value / scale; };
        bool const over = shown.peak > limit;

        svg += label(left, y + 12, "start", "name", std::string(p.name));
        svg +=
            label(left + plot_width, y + 12, "end", over ? "over" : "note",
                  "peak " + grouped(static_cast<std::uint64_t>(std::llround(shown.peak))) + " of " + grouped(p.limit));
        std::string path = "M" + number(left) + " " + number(base);
        double last = -1;
        for (std::size_t column = 0; column <= columns; ++column) {
            double const h = height_of(shown.greatest[column]);
            bool const end = column == columns;
            if (h == last && !end) continue;  // NOLINT: equal values give equal heights
            if (column != 0) path += "H" + number(left + static_cast<double>(column));
            if (!end) path += "V" + number(h);
            last = h;
        }
        path += "V" + number(base) + "Z";
        svg += "<path d=\"" + path + "\" fill=\"" + std::string(p.colour) + "\" fill-opacity=\".32\" stroke=\"" +
               std::string(p.colour) + "\" stroke-width=\"1\" stroke-linejoin=\"round\"/>\n";
        svg += line(left, base, left + plot_width, base, "grid");
        svg += line(left, height_of(limit), left + plot_width, height_of(limit), "limit");
        svg += label(left - 8, height_of(limit) + 4, "end", "axis", grouped(p.limit));
        svg += label(left - 8, base + 4, "end", "axis", "0");
        for (auto const& call : calls) {
            if (!call.refused) continue;
            double const x = left + plot_width * (call.sent - from) / length;
            svg += line(x, base, x, base - 7, "refused");
        }
        y += panel_height;
    }

    // Six to twelve marks on the axis of time.
    double step = 1;
    for (double const candidate :
         {1., 2., 5., 10., 15., 30., 60., 120., 300., 600., 1800., 3600., 7200., 14400., 43200., 86400.}) {
        step = candidate;
        if (length / candidate <= 12) break;
    }
    double const axis = y - panel_height + 24 + plot_height;
    if (!panels.empty()) {
        for (double at = 0; at <= length * 1.0001; at += step) {
            double const x = left + plot_width * at / length;
            svg += line(x, axis, x, axis + 4, "grid");
            svg += label(x, axis + 18, "middle", "axis", step >= 60 ? number(at / 60) + " min" : number(at) + " s");
        }
    }
    auto const refused =
        static_cast<std::uint64_t>(std::count_if(calls.begin(), calls.end(), [](auto const& c) { return c.refused; }));
    svg += label(left, height - 10, "start", refused == 0 ? "note" : "over",
                 grouped(calls.size()) + " requests sent, " +
                     (refused == 0 ? std::string("no 429") : grouped(refused) + " refused with 429 (red marks)") +
                     "; dashed: the server's limit");
    svg += "</svg>\n";
    return svg;
}

}  // namespace qwen
