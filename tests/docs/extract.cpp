// SPDX-License-Identifier: MIT
//
// extract OUTPUT PENDING PAGE...: writes one C++ file with every ```cpp block of the pages, so that what the documents
// print is compiled as it is printed. A block that has a main() is a program: its includes go to the top, and main is a
// function of the block's own namespace. Any other block is the body of a function. A comment on the line before the
// block can say more:
//     <!-- compile: prelude=NAME -->     the names of docs::NAME (prelude.hpp) are in scope, not docs::server's
//     <!-- compile: scope=namespace -->  the block is declarations
// PENDING lists blocks that are not compiled yet, one PAGE:NUMBER a line. One that is not needed any more must be
// removed.
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

namespace {

struct block {
    std::string page;
    std::size_t first_line = 0;
    std::string prelude = "server";
    bool declarations = false;
    std::string code;
    std::string includes;
};

std::string option(std::string const& comment, std::string_view name, std::string const& otherwise) {
    auto const at = comment.find(std::string{name} + "=");
    if (at == std::string::npos) return otherwise;
    auto const from = at + name.size() + 1;
    return comment.substr(from, comment.find_first_of(" -", from) - from);
}

void write(std::ostream& out, block const& b, std::size_t number) {
    out << b.includes << "namespace sample_" << number << " {\n";
    bool const program = b.code.find("int main()") != std::string::npos;
    if (!program)
        out << "using namespace docs;\nusing namespace docs::" << b.prelude
            << ";\nusing namespace std::chrono_literals;\n";
    if (!program && !b.declarations) out << "[[maybe_unused]] void body() {\n";
    out << "#line " << b.first_line << " \"" << b.page << "\"\n" << b.code;
    if (!program && !b.declarations) out << "}\n";
    out << "}\n";
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::cerr << "usage: extract OUTPUT PENDING PAGE...\n";
        return 2;
    }
    std::set<std::string> pending;
    std::ifstream list{argv[2]};
    for (std::string line; std::getline(list, line);) {
        if (!line.empty() && line.front() != '#') pending.insert(line);
    }
    std::ostringstream out;
    out << "#include \"prelude.hpp\"\n";
    std::size_t number = 0;
    for (int i = 3; i < argc; ++i) {
        std::string const path = argv[i];
        std::ifstream in{path};
        if (!in) {
            std::cerr << path << ": cannot be read\n";
            return 1;
        }
        std::string const name = path.substr(path.find_last_of('/') + 1);
        std::string before;
        std::size_t at = 0;
        std::size_t of_page = 0;
        for (std::string line; std::getline(in, line); before = line) {
            ++at;
            if (!line.starts_with("```") || line == "```") continue;
            bool const cpp = line == "```cpp";
            bool const told = before.starts_with("<!-- compile:");
            block b{.page = path,
                    .first_line = at + 1,
                    .prelude = told ? option(before, "prelude", "server") : "server",
                    .declarations = told && option(before, "scope", "") == "namespace",
                    .code = {},
                    .includes = {}};
            while (std::getline(in, line) && line != "```") {
                ++at;
                // An include is not within a namespace; its line stays, so that errors point to the page's own lines.
                bool const include = line.starts_with("#include ");
                if (include) b.includes += line + "\n";
                b.code += (include ? "" : line) + "\n";
            }
            ++at;
            if (!cpp) continue;
            ++of_page;
            ++number;
            auto const entry = name + ":" + std::to_string(of_page);
            if (pending.erase(entry) != 0) continue;
            write(out, b, number);
        }
    }
    for (auto const& entry : pending) {
        std::cerr << argv[2] << ": " << entry << " is no block of the pages\n";
        return 1;
    }
    if (number == 0) {
        std::cerr << "no block found\n";
        return 1;
    }
    std::ofstream{argv[1]} << out.str();
}
