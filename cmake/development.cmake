# SPDX-License-Identifier: MIT
# What weir's own tests, benches and examples are compiled with. Never exported: a user's flags are the user's.
option(WEIR_WERROR "Treat warnings in weir's own programs as errors" "${PROJECT_IS_TOP_LEVEL}")

set(CMAKE_CXX_EXTENSIONS OFF) # weir is standard C++: its own programs hold it to that

find_package(Threads REQUIRED)

add_library(weir_development INTERFACE)
target_link_libraries(weir_development INTERFACE weir::advice Threads::Threads)
target_compile_options(weir_development INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                  -Wsign-conversion $<$<BOOL:${WEIR_WERROR}>:-Werror>)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # gcc's flow analysis is misled by the code that the sanitizers insert.
    target_compile_options(weir_development INTERFACE -Wno-maybe-uninitialized -Wno-tsan)
endif()
