// SPDX-License-Identifier: MIT
//
// WEIR_THREAD_SANITIZER: the program is built with -fsanitize=thread. gcc and clang say it in different ways.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define WEIR_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_THREAD_SANITIZER 1
#endif
#endif
#if !defined(WEIR_THREAD_SANITIZER)
#define WEIR_THREAD_SANITIZER 0
#endif
