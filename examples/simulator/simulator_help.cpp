// SPDX-License-Identifier: MIT
// dashscope_simulator --help: the manual page, from the table of options and the list of changes.
#include <cstddef>
#include <string>
#include <string_view>

#include "option_table.hpp"
#include "runtime_changes.hpp"
#include "simulator_options.hpp"

namespace qwen {

namespace {

// Wrapped at 80 columns, each line indented.
std::string wrapped(std::string_view text, std::size_t indent) {
    constexpr std::size_t width = 80;
    std::string out, line;
    auto const flush = [&] {
        if (!line.empty()) out += std::string(indent, ' ') + line + "\n";
        line.clear();
    };
    while (!text.empty()) {
        auto const end = text.find(' ');
        auto const word = text.substr(0, end);
        if (!line.empty() && indent + line.size() + 1 + word.size() > width) flush();
        if (!line.empty()) line += ' ';
        line += word;
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    flush();
    return out;
}

}  // namespace

std::string simulator_help() {
    std::string out =
        "NAME\n"
        "    dashscope_simulator - enforces the quota of Qwen on DashScope, refuses as it\n"
        "    does\n"
        "\n"
        "SYNOPSIS\n"
        "    dashscope_simulator [OPTION]...\n"
        "\n"
        "DESCRIPTION\n";
    out += wrapped(
        "An HTTP server on 127.0.0.1 that speaks OpenAI's dialect and DashScope's own, in one piece and in streams. "
        "Without options it has the international models with their limits, and prints the address that it listens "
        "on. Ctrl-C ends it and prints what it counted: refusals by limit, the peak of every window, and the delays of "
        "requests that carry X-Weir-Stamp. GET /simulator/report shows the same as JSON while it runs.",
        4);
    out += "\n";
    out += wrapped(
        "What the vendor does not publish is an option, and what is not a limit of every account is off until its "
        "option "
        "is given.",
        4);
    out += "\n";
    out += wrapped(
        "A request may say in its \"metadata\" what it costs, {\"input_tokens\": \"1200\", \"output_tokens\": "
        "\"300\"}, "
        "or how it fails, {\"simulate_error\": \"internal_error\"} or {\"simulate_mishap\": \"truncated_body\"}. With "
        "X-DashScope-Wait-Timeout: 1 ... 120 it waits so many seconds in line where burst protection would refuse it.",
        4);
    out += "\nOPTIONS\n";
    for (auto const& g : simulated::option_groups()) {
        out += "  " + std::string{g.title} + "\n";
        for (auto const& o : g.options) {
            out += "    " + std::string{o.name} + (*o.argument == '\0' ? "" : " ") + o.argument + "\n";
            out += wrapped(o.text, 8);
        }
        out += "\n";
    }
    out += "CHANGES WHILE IT RUNS\n";
    out += wrapped(
        "POST /simulator/CHANGE with a JSON object as body, or --at. Members in brackets may be absent. Each holds "
        "from "
        "the next request; a call that was admitted runs on.",
        4);
    for (auto const& c : runtime_changes()) {
        out += "    " + std::string{c.name} + "\n" + wrapped(c.members, 8) + wrapped(std::string{c.meaning} + ".", 8);
    }
    out +=
        "\n"
        "EXAMPLES\n"
        "    dashscope_simulator --rpm 600 --rps 10 --tpm 1000000 --port 8080 --log\n"
        "    export DASHSCOPE_BASE_URL=http://127.0.0.1:8080/compatible-mode/v1\n"
        "    export DASHSCOPE_API_KEY=sk-simulator\n"
        "\n"
        "    dashscope_simulator --key a=first --key b=second \\\n"
        "        --model qwen3-max=600,,1000000 \\\n"
        "        --limits second:qwen3-max=60,1,100000 --burst --midstream-429 0.01 \\\n"
        "        --at '30:outage={\"seconds\": 5}'\n"
        "    curl -d '{\"model\": \"qwen3-max\", \"rpm\": 300}' localhost:8080/simulator/limits\n"
        "\n"
        "EXIT STATUS\n"
        "    0   It was ended by Ctrl-C or SIGTERM, or printed this page.\n"
        "    1   It could not listen, or its settings make no sense together.\n"
        "    2   An option was wrong.\n";
    return out;
}

}  // namespace qwen
