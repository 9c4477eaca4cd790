#!/bin/sh
# SPDX-License-Identifier: MIT
# lint.sh RULE: reads the sources for what no compiler checks. Prints each breach, and fails when there is one.
set -eu
cd "$(dirname "$0")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches" "$breaches.left"' EXIT

headers() { find include/weir -name '*.hpp' | sort; }

# A file's code: without its // comments, which may name what the code must not use.
code() { sed 's,//.*,,' "$1"; }

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

# complain_of FILE TEXT: one breach for every line of standard input
complain_of() { sed "s|^|$1: $2: |" >>"$breaches"; }

case "$1" in
spdx) # every source file names its licence at its top
    find . -path ./build -prune -o -path ./.git -prune -o -type f \( -name '*.?pp' -o -name '*.cmake' -o -name CMakeLists.txt \
        -o -name '*.py' -o -name '*.sh' -o -name '*.pml' -o -path './.ci/*' \) -print | while read -r file; do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT$' || echo "$file: no SPDX line"
    done >>"$breaches"
    ;;
headers) # `#pragma once`; one inline namespace, called after the major version; weir.hpp and llm.hpp include every public header, and none of detail or advice
    major=$(sed -n 's/^#define WEIR_VERSION_MAJOR //p' include/weir/version.hpp)
    for file in $(headers); do
        [ "$(grep -c '^#pragma once$' "$file")" = 1 ] || echo "$file: not one #pragma once" >>"$breaches"
        code "$file" | { grep -E '^ *(inline )?namespace ' || :; } |
            { grep -vE "^namespace (weir::inline v$major(::llm)?(::detail)?|std) \{" || :; } | complain_of "$file" "foreign namespace"
        code "$file" | { grep -E '\busing namespace\b' || :; } | complain_of "$file" "opens a namespace to all"
    done
    for file in $(headers); do
        name=${file#include/weir/}
        umbrella=weir.hpp
        case $name in
        weir.hpp | llm.hpp) continue ;;
        ostream.hpp | format.hpp) continue ;;                              # for programs that print
        llm/extern_session.hpp | llm/instantiate_session.hpp) continue ;; # in place of session.hpp
        detail/* | llm/detail/* | llm/advice/*)
            for umbrella in weir.hpp llm.hpp; do
                ! grep -qF "#include \"$name\"" include/weir/$umbrella || echo "include/weir/$umbrella: includes $name" >>"$breaches"
            done
            continue
            ;;
        llm/*) umbrella=llm.hpp ;;
        esac
        grep -qF "#include \"$name\"" include/weir/$umbrella || echo "include/weir/$umbrella: does not include $name" >>"$breaches"
        grep -qF "    include/weir/$name" CMakeLists.txt || echo "CMakeLists.txt: does not list $file" >>"$breaches"
    done
    ;;
macros) # no macro outlives its header but the version's
    for file in $(headers); do
        defined=$(code "$file" | sed -nE 's/^ *# *define +([A-Za-z0-9_]+).*/\1/p' | sort -u)
        for macro in $defined; do
            case $macro in WEIR_VERSION | WEIR_VERSION_*) continue ;; esac
            code "$file" | grep -qE "^ *# *undef +$macro\b" || echo "$file: leaks the macro $macro" >>"$breaches"
        done
    done
    ;;
atomics) # a limiter's shared state goes through its policy, so that a checker can stand in for std::atomic
    for file in $(headers); do
        case $file in */atomics.hpp | */*clock.hpp | */parker.hpp) continue ;; esac
        code "$file" | { grep -nE 'std::atomic' || :; } | complain_of "$file" "not through the policy"
    done
    ;;
orders) # no sequential consistency, said or by default; no fence; after construction no plain store
    for file in $(headers); do
        case $file in */atomics.hpp) continue ;; esac
        code "$file" | { grep -nE 'seq_cst|atomic_(thread|signal)_fence|__sync_|__atomic_' || :; } | complain_of "$file" "order"
        code "$file" | tr '\n' ' ' | { grep -oE '\.(load|exchange|fetch_[a-z]+|compare_exchange_(weak|strong))\([^;]*;' || :; } |
            { grep -vE 'memory_order|acquire|release|relaxed|acq_rel|std::exchange' || :; } | complain_of "$file" "seq_cst by default"
        case $file in */*clock.hpp) continue ;; esac
        code "$file" | { grep -nE '\.store\(' || :; } | complain_of "$file" "a plain store"
    done
    ;;
integers) # limiters count in integers
    for file in $(headers); do
        case $file in */*clock.hpp | */backoff.hpp | */detail/saturating.hpp) continue ;; esac
        code "$file" | { grep -nE '\b(float|double|long double)\b' || :; } | complain_of "$file" "floating point"
    done
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
size) # a public header has at most 400 lines and 16 KB, a header of detail 500 lines, a test 600 lines; a line has 120 columns
    ours 'include/*.hpp' 'tests/*_test.cpp' | grep -E '^(include/.*\.hpp|tests/.*_test\.cpp)$' | xargs wc -lc | awk '
        $3 == "total" { next }
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
