// SPDX-License-Identifier: MIT
//
// Other libraries define some names as macros. Each of those names is defined here as a token that compiles nowhere,
// and every header of weir is included after them. The test passes when this file compiles.

// What weir includes must come first, since the standard library itself may use some of the names.
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <compare>
#include <concepts>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ostream>
#include <queue>
#include <random>
#include <ratio>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#if __has_include(<stop_token>)  // libc++ 14 has none
#include <stop_token>
#endif
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>
#include <version>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#endif

// windows.h, and what it includes
#define min(a, b) @
#define max(a, b) @
#define far @
#define near @
#define small @
#define hyper @
#define interface @
#define pascal @
#define cdecl @
#define IN @
#define OUT @
#define OPTIONAL @
#define CONST @
#define VOID @
#define ERROR @
#define DELETE @
#define STRICT @
#define ABSOLUTE @
#define RELATIVE @
#define IGNORE @
#define INFINITE @
#define TRUE @
#define FALSE @
#define GetMessage @
#define Yield @

// Qt
#define slots @
#define signals @
#define emit @
#define foreach @

// AssertMacros.h of older macOS SDKs
#define check(assertion) @
#define require(assertion, label) @
#define verify(assertion) @
#define check_noerr(error) @

// sys/cdefs.h, sys/types.h and other headers of C libraries; complex.h; modes of gcc that are not ISO C++
#define major(device) @
#define minor(device) @
#define unix @
#define linux @
#define complex @
#define imaginary @
#define I @
#define BLOCK_SIZE @
#define PAGE_SIZE @
#define OVERFLOW @
#define UNDERFLOW @
#define DOMAIN @
#define B0 @

// short names for attributes: Linux, BSD, embedded toolchains
#define packed @
#define aligned @
#define always_inline @
#define noinline @
#define cold @
#define hot @
#define weak @
#define pure @

// X11
#define None @
#define Status @
#define Bool @
#define Success @
#define Always @
#define True @
#define False @

// build flags and logging
#define DEBUG @
#define INFO @
#define OK @
#define FAIL @
#define CHECK(x) @
#define REQUIRE(x) @
#define LOG(x) @
#define VERSION @

#include "every_header.hpp"
