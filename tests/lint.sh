#!/bin/sh
# SPDX-License-Identifier: MIT
# lint.sh RULE: reads the sources for what no compiler checks. Prints each breach, and fails when there is one.
set -eu
cd "$(dirname "$0")/.."
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

headers() { find include/weir -name '*.hpp' | sort; }

# A file's code: without its // comments, which may name what the code must not use.
code() { sed 's,//.*,,' "$1"; }

# complain_of FILE TEXT: one breach for every line of standard input
complain_of() { sed "s|^|$1: $2: |" >>"$breaches"; }

case "$1" in
spdx) # every source file names its licence at its top
    find . -path ./build -prune -o -path ./.git -prune -o -type f \( -name '*.?pp' -o -name '*.cmake' -o -name CMakeLists.txt \
        -o -name '*.py' -o -name '*.sh' -o -name '*.pml' -o -path './.ci/*' \) -print | while read -r file; do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT$' || echo "$file: no SPDX line"
    done >>"$breaches"
    ;;
headers) # `#pragma once`; one inline namespace, called after the major version; weir.hpp includes every public header
    major=$(sed -n 's/^#define WEIR_VERSION_MAJOR //p' include/weir/version.hpp)
    for file in $(headers); do
        [ "$(grep -c '^#pragma once$' "$file")" = 1 ] || echo "$file: not one #pragma once" >>"$breaches"
        code "$file" | { grep -E '^ *(inline )?namespace ' || :; } |
            { grep -vE "^namespace (weir::inline v$major(::llm)?(::detail)?|std) \{" || :; } | complain_of "$file" "foreign namespace"
        code "$file" | { grep -E '\busing namespace\b' || :; } | complain_of "$file" "opens a namespace to everybody"
    done
    for file in include/weir/*.hpp; do
        name=$(basename "$file")
        case $name in weir.hpp | llm.hpp | ostream.hpp | format.hpp) continue ;; esac # the last two are for those who print
        grep -qE "^#include [<\"](weir/)?$name[>\"]" include/weir/weir.hpp ||
            echo "include/weir/weir.hpp: does not include $name" >>"$breaches"
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
        case $file in */policy.hpp | */*clock.hpp | */parker.hpp) continue ;; esac
        code "$file" | { grep -nE 'std::atomic' || :; } | complain_of "$file" "not through the policy"
    done
    ;;
orders) # no sequential consistency, said or by default; no fence; after construction no plain store
    for file in $(headers); do
        case $file in */policy.hpp) continue ;; esac
        code "$file" | { grep -nE 'seq_cst|atomic_(thread|signal)_fence|__sync_|__atomic_' || :; } | complain_of "$file" "order"
        code "$file" | tr '\n' ' ' | { grep -oE '\.(load|exchange|fetch_[a-z]+|compare_exchange_(weak|strong))\([^;]*;' || :; } |
            { grep -vE 'memory_order|acquire|release|relaxed|acq_rel|std::exchange' || :; } | complain_of "$file" "seq_cst by default"
        case $file in */*clock.hpp) continue ;; esac
        code "$file" | { grep -nE '\.store\(' || :; } | complain_of "$file" "a plain store"
    done
    ;;
integers) # limiters count in integers
    for file in $(headers); do
        case $file in */*clock.hpp | */backoff.hpp) continue ;; esac
        code "$file" | { grep -nE '\b(float|double|long double)\b' || :; } | complain_of "$file" "floating point"
    done
    ;;
changelog) # the version at hand is in the change log, or its changes are gathered there
    version=$(sed -nE 's/^#define WEIR_VERSION_(MAJOR|MINOR|PATCH) //p' include/weir/version.hpp | paste -sd. -)
    grep -qE "^## (Unreleased|\[?$version\b)" CHANGELOG.md || echo "CHANGELOG.md: neither Unreleased nor $version" >>"$breaches"
    ;;
*)
    echo "lint.sh: no rule called $1" >&2
    exit 2
    ;;
esac

cat "$breaches"
[ ! -s "$breaches" ]
