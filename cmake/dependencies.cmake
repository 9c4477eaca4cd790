# SPDX-License-Identifier: MIT
# What the tests, benches and examples stand on; the library itself needs nothing. Each macro leaves one target behind:
# the system's package where it is installed, else a pinned release fetched from its repository.
include(FetchContent)

set(WEIR_GOOGLETEST_SOURCE "" CACHE PATH
    "Build GoogleTest from this folder (Debian: /usr/src/googletest), as a standard library other than the system's needs")

# A folder of sources that was fetched, without adding its own build to ours.
function(weir_fetch_headers name variable)
    FetchContent_GetProperties(${name})
    if(NOT ${name}_POPULATED)
        FetchContent_Populate(${name})
    endif()
    set(${variable} "${${name}_SOURCE_DIR}" PARENT_SCOPE)
endfunction()

# GTest::gtest and GTest::gtest_main
macro(weir_require_googletest)
    if(NOT TARGET GTest::gtest_main)
        if(NOT WEIR_GOOGLETEST_SOURCE)
            find_package(GTest 1.12 QUIET)
        endif()
        if(NOT GTest_FOUND)
            set(INSTALL_GTEST OFF)
            set(BUILD_GMOCK OFF)
            if(WEIR_GOOGLETEST_SOURCE)
                FetchContent_Declare(googletest SOURCE_DIR "${WEIR_GOOGLETEST_SOURCE}" SYSTEM)
            else()
                message(STATUS "weir: GoogleTest is not installed (Debian: libgtest-dev); fetching it")
                FetchContent_Declare(googletest GIT_REPOSITORY https://github.com/google/googletest.git
                                     GIT_TAG 58d77fa8070e8cec2dc1ed015d66b454c8d78850) # 1.12.1
            endif()
            FetchContent_MakeAvailable(googletest)
        endif()
    endif()
endmacro()

# benchmark::benchmark and benchmark::benchmark_main
macro(weir_require_benchmark)
    if(NOT TARGET benchmark::benchmark)
        find_package(benchmark 1.7 QUIET)
        if(NOT benchmark_FOUND)
            message(STATUS "weir: Google Benchmark is not installed (Debian: libbenchmark-dev); fetching it")
            set(BENCHMARK_ENABLE_TESTING OFF)
            set(BENCHMARK_ENABLE_INSTALL OFF)
            FetchContent_Declare(benchmark GIT_REPOSITORY https://github.com/google/benchmark.git
                                 GIT_TAG d572f4777349d43653b21d6c2fc63020ab326db2) # 1.7.1
            FetchContent_MakeAvailable(benchmark)
        endif()
    endif()
endmacro()

# nlohmann_json::nlohmann_json
macro(weir_require_json)
    if(NOT TARGET nlohmann_json::nlohmann_json)
        find_package(nlohmann_json 3.11 QUIET)
        if(NOT nlohmann_json_FOUND)
            message(STATUS "weir: nlohmann/json is not installed (Debian: nlohmann-json3-dev); fetching it")
            FetchContent_Declare(json GIT_REPOSITORY https://github.com/nlohmann/json.git
                                 GIT_TAG bc889afb4c5bf1c0d8ee29ef35eaaf4c8bef8a5d) # 3.11.2
            FetchContent_MakeAvailable(json)
        endif()
    endif()
endmacro()

# weir_httplib. Debian's is a compiled library whose macros change the layout of its types, so its own flags count.
macro(weir_require_httplib)
    if(NOT TARGET weir_httplib)
        add_library(weir_httplib INTERFACE)
        find_package(PkgConfig QUIET)
        if(PkgConfig_FOUND)
            pkg_check_modules(weir_cpp_httplib QUIET IMPORTED_TARGET cpp-httplib<0.12)
        endif()
        if(weir_cpp_httplib_FOUND)
            target_link_libraries(weir_httplib INTERFACE PkgConfig::weir_cpp_httplib)
        else()
            message(STATUS "weir: cpp-httplib is not installed (Debian: libcpp-httplib-dev, pkg-config); fetching it")
            FetchContent_Declare(
                cpp_httplib URL https://github.com/yhirose/cpp-httplib/archive/refs/tags/v0.11.4.zip
                URL_HASH SHA256=9d884bee50ded17de3a51d673bb9c2d7d11f101c595b0891830ba9d02e0cc368)
            weir_fetch_headers(cpp_httplib weir_httplib_folder)
            target_include_directories(weir_httplib SYSTEM INTERFACE "${weir_httplib_folder}")
        endif()
        find_package(Threads REQUIRED)
        target_link_libraries(weir_httplib INTERFACE Threads::Threads)
    endif()
endmacro()

# weir_asio: the standalone, header-only one
macro(weir_require_asio)
    if(NOT TARGET weir_asio)
        add_library(weir_asio INTERFACE)
        find_path(WEIR_ASIO_INCLUDE_DIR asio.hpp DOC "The folder of the standalone asio.hpp")
        if(WEIR_ASIO_INCLUDE_DIR)
            target_include_directories(weir_asio SYSTEM INTERFACE "${WEIR_ASIO_INCLUDE_DIR}")
        else()
            message(STATUS "weir: Asio is not installed (Debian: libasio-dev); fetching it")
            FetchContent_Declare(
                asio URL https://github.com/chriskohlhoff/asio/archive/refs/tags/asio-1-22-1.tar.gz
                URL_HASH SHA256=30cb54a5de5e465d10ec0c2026d6b5917f5e89fffabdbabeb1475846fc9a2cf0)
            weir_fetch_headers(asio weir_asio_folder)
            target_include_directories(weir_asio SYSTEM INTERFACE "${weir_asio_folder}/asio/include")
        endif()
        find_package(Threads REQUIRED)
        target_compile_definitions(weir_asio INTERFACE ASIO_STANDALONE ASIO_NO_DEPRECATED)
        target_link_libraries(weir_asio INTERFACE Threads::Threads)
    endif()
endmacro()

# CURL::libcurl: of the system, there is no small release of it to fetch
macro(weir_require_curl)
    find_package(CURL REQUIRED)
endmacro()
