#!/bin/sh
# SPDX-License-Identifier: MIT
# lint.sh RULE: reads the sources for what no compiler checks. Prints each breach, and fails when there is one.
set -eu
cd "$(dirname "$0")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches" "$breaches.left" "$breaches.code"' EXIT

headers() { find include/weir -name '*.hpp' | sort; }

# The headers' code, each line as FILE:LINE:TEXT, without its // comments, which may name what the code must not use.
code() { headers | xargs awk '{ sub(/\/\/.*/, ""); print FILENAME ":" FNR ":" $0 }'; }

# Files of weir's own that a rule reads: ours PATTERN...
ours() { git ls-files -co --exclude-standard -- "$@" 2>/dev/null || find . -path ./build -prune -o -type f -print | sed 's,^\./,,' | sort; }

# Without the breaches of the files that tests/lint_exceptions.txt lists for the rule, one `RULE FILE` a line. The list only
# shrinks: an exception that a file does not need is a breach itself.
except() {
    awk -v rule="$1" '
        FILENAME == ARGV[1] { if ($1 == rule) excepted[$2] = 1; next }
        { file = $0; sub(/:.*/, "", file); if (file in excepted) used[file] = 1; else print }
        END { for (file in excepted) if (!(file in used)) print file ": listed in tests/lint_exceptions.txt for " rule ", without need" }
    ' tests/lint_exceptions.txt "$breaches" >"$breaches.left"
    mv "$breaches.left" "$breaches"
}

# complain TEXT: one breach for every line of standard input, FILE:LINE:TEXT or FILE
complain() { sed -E "s|^([^:]*(:[0-9]+)?):?|\1: $1: |; s|: \$||" >>"$breaches"; }

case "$1" in
spdx) # every source file names its licence at its top
    find . -path ./build -prune -o -path ./.git -prune -o -type f \( -name '*.?pp' -o -name '*.cmake' -o -name CMakeLists.txt \
        -o -name '*.py' -o -name '*.sh' -o -name '*.pml' -o -path './.ci/*' \) -print | xargs awk '
        FNR == 1 { if (file != "" && !seen) print file; file = FILENAME; seen = 0 }
        FNR <= 3 && /SPDX-License-Identifier: MIT$/ { seen = 1 }
        END { if (!seen) print file }' | complain "no SPDX line"
    ;;
headers) # `#pragma once`; one inline namespace, called after the major version; weir.hpp and llm.hpp include every public header, and none of detail or advice
    major=$(sed -n 's/^#define WEIR_VERSION_MAJOR //p' include/weir/version.hpp)
    headers | xargs grep -c '^#pragma once$' | { grep -v ':1$' || :; } | sed 's/:.*//' | complain "not one #pragma once"
    code | { grep -E '^[^:]*:[0-9]*: *(inline )?namespace ' || :; } |
        { grep -vE "^[^:]*:[0-9]*:namespace (weir::inline v$major(::llm)?(::detail)?|std) \{" || :; } | complain "foreign namespace"
    code | { grep -E '\busing namespace\b' || :; } | complain "opens a namespace to all"
    headers | sed 's,^include/weir/,,' | awk '
        BEGIN {
            while ((getline line <"include/weir/weir.hpp") > 0) if (line ~ /^#include "/) { split(line, a, "\""); in_weir[a[2]] = 1 }
            while ((getline line <"include/weir/llm.hpp") > 0) if (line ~ /^#include "/) { split(line, a, "\""); in_llm[a[2]] = 1 }
            while ((getline line <"CMakeLists.txt") > 0) { gsub(/[ )]/, "", line); listed[line] = 1 }
        }
        /^(weir|llm|ostream|format)\.hpp$/ { next }                        # the umbrellas; for programs that print
        /^llm\/(extern|instantiate)_session\.hpp$/ { next }                # in place of session.hpp
        /(^|\/)detail\/|^llm\/advice\// {
            if ($0 in in_weir) print "include/weir/weir.hpp: includes " $0
            if ($0 in in_llm) print "include/weir/llm.hpp: includes " $0
            next
        }
        /^llm\// { if (!($0 in in_llm)) print "include/weir/llm.hpp: does not include " $0 }
        !/^llm\// { if (!($0 in in_weir)) print "include/weir/weir.hpp: does not include " $0 }
        !(("include/weir/" $0) in listed) { print "CMakeLists.txt: does not list include/weir/" $0 }' >>"$breaches"
    ;;
macros) # no macro outlives its header but the version's
    code | awk -F: '
        function key(verb, name) { name = text; sub("^ *# *" verb " +", "", name); sub(/[^A-Za-z0-9_].*/, "", name); return $1 ": leaks the macro " name }
        { text = $0; sub(/^[^:]*:[0-9]*:/, "", text) }
        text ~ /^ *# *define +/ && text !~ /^ *# *define +WEIR_VERSION(_|[^A-Za-z0-9_]|$)/ { defined[key("define")] = 1 }
        text ~ /^ *# *undef +/ { undone[key("undef")] = 1 }
        END { for (leak in defined) if (!(leak in undone)) print leak }' >>"$breaches"
    ;;
atomics) # a limiter's shared state goes through its policy, so that a checker can stand in for std::atomic
    code | { grep -vE '^[^:]*(/atomics|clock|/parker)\.hpp:' || :; } | { grep 'std::atomic' || :; } | complain "not through the policy"
    ;;
orders) # no sequential consistency, said or by default; no fence; after construction no plain store
    code | { grep -v '^[^:]*/atomics\.hpp:' || :; } >"$breaches.code"
    { grep -E 'seq_cst|atomic_(thread|signal)_fence|__sync_|__atomic_' "$breaches.code" || :; } | complain "order"
    # Each file as one text, so that an access of several lines is seen whole.
    awk -F: '
        function judge() {
            while (match(all, /[.](load|exchange|fetch_[a-z]+|compare_exchange_(weak|strong))[(][^;]*;/)) {
                access = substr(all, RSTART, RLENGTH)
                all = substr(all, RSTART + RLENGTH)
                if (access !~ /memory_order|acquire|release|relaxed|acq_rel|std::exchange/) print file ":" access
            }
            all = ""
        }
        { text = $0; sub(/^[^:]*:[0-9]*:/, "", text); if ($1 != file) judge(); file = $1; all = all text " " }
        END { judge() }' "$breaches.code" | complain "seq_cst by default"
    { grep -E '\.store\(' "$breaches.code" || :; } | { grep -v '^[^:]*clock\.hpp:' || :; } | complain "a plain store"
    ;;
integers) # limiters count in integers
    code | { grep -vE '^[^:]*(clock|/backoff|/detail/saturating)\.hpp:' || :; } | { grep -E '\b(float|double|long double)\b' || :; } |
        complain "floating point"
    ;;
changelog) # the version at hand is in the change log, or its changes are gathered there
    version=$(sed -nE 's/^#define WEIR_VERSION_(MAJOR|MINOR|PATCH) //p' include/weir/version.hpp | paste -sd. -)
    grep -qE "^## (Unreleased|\[?$version\b)" CHANGELOG.md || echo "CHANGELOG.md: neither Unreleased nor $version" >>"$breaches"
    ;;
format) # .clang-format, as clang-format 19 reads it
    tool=$(command -v clang-format-19 || command -v clang-format || :)
    case $([ -z "$tool" ] || "$tool" --version) in
    *"version 19."*) ;;
    *)
        echo "skipped: clang-format 19 is not installed (Debian: clang-format-19)"
        exit 0
        ;;
    esac
    ours '*.hpp' '*.cpp' | grep '\.[hc]pp$' | xargs -n 40 -P "$(nproc)" "$tool" --dry-run 2>&1 |
        sed -nE 's/^([^:]+:[0-9]+):[0-9]+: warning: code should be clang-formatted.*/\1: not formatted/p' | sort -u >>"$breaches"
    ;;
size) # a public header has at most 400 lines and 16 KB, a header of detail 500 lines, a test 600, a file of an example 400; a line has 120 columns
    ours 'include/*.hpp' 'tests/*_test.cpp' 'examples/*.?pp' |
        grep -E '^(include/.*\.hpp|tests/.*_test\.cpp|examples/.*\.[hc]pp)$' | xargs wc -lc | awk '
        $3 == "total" { next }
        $3 ~ /^examples\// { if ($1 > 400) print $3 ": " $1 " lines, more than 400"; next }
        $3 ~ /_test\.cpp$/ { if ($1 > 600) print $3 ": " $1 " lines, more than 600"; next }
        $3 ~ /\/detail\// { if ($1 > 500) print $3 ": " $1 " lines, more than 500"; next }
        $1 > 400 { print $3 ": " $1 " lines, more than 400" }
        $2 > 16384 { print $3 ": " $2 " bytes, more than 16384" }' >>"$breaches"
    ours '*.hpp' '*.cpp' | grep '\.[hc]pp$' | LC_ALL=C.UTF-8 xargs grep -HnE '^.{121,}' | # characters; mawk would count bytes
        sed -E 's/^([^:]+):([0-9]+):.*/\1: line \2 has more than 120 columns/' >>"$breaches" || :
    except size
    ;;
english) # words that say it in another way than the rest of the field does
    ours include tests bench examples docs cmake .ci README.md CONTRIBUTING.md SECURITY.md CMakeLists.txt | {
        grep -vE '^(tests/lint\.sh|tests/lint_exceptions\.txt|docs/.*\.svg|tests/fuzz/corpus/.*|examples/qwen/samples/.*)$' || :; } |
        grep -E '^(include|tests|bench|examples|docs|cmake|\.ci)/|^[A-Za-z]+\.(md|txt)$' |
        xargs grep -noiwE 'who|whom|whoever|whither|thereof|anew|beside|in vain|for ever|in the midst|to be had' |
        sed -E 's/^([^:]+:[0-9]+):(.*)/\1: "\2"/' >>"$breaches" || :
    except english
    ;;
names) # a test's name is a sentence of at most 70 characters
    ours tests | grep '_test\.cpp$' | xargs grep -noE '^(TYPED_)?TEST(_F|_P)?\([A-Za-z0-9_]+, *[A-Za-z0-9_]{71,}' | sed -E 's/, */: more than 70 characters: /' >>"$breaches" || :
    except names
    ;;
readme) # at most 900 words that are not code
    words=$(awk '/^```/ { code = !code; next } !code { n += NF } END { print n }' README.md)
    [ "$words" -le 900 ] || echo "README.md: $words words, more than 900" >>"$breaches"
    ;;
*)
    echo "lint.sh: no rule called $1" >&2
    exit 2
    ;;
esac

cat "$breaches"
[ ! -s "$breaches" ]
