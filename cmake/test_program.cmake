# SPDX-License-Identifier: MIT
# A test program is made of all *_test.cpp of one folder. One compiler run for each file, one link and one process for
# each suite: a program for each file would link, start and list a hundred times as much.
#
# Files are found by pattern, with CONFIGURE_DEPENDS: a new test file is built and run without a change of any CMake
# file, and the build system looks at the folders each time it runs. The library's own lists of headers are written out,
# because an installation depends on them.

# Optimisation; empty: the build type's. A HOT program takes longer to run than to compile.
set(WEIR_COLD_TEST_FLAGS "" CACHE STRING "Compiler flags of the test programs that spend little time running")
set(WEIR_HOT_TEST_FLAGS "" CACHE STRING "Compiler flags of the test programs that spend much time running")
set(WEIR_SKIP_TESTS "" CACHE STRING "GoogleTest patterns, separated by colons, of tests that are not run")
# ccache does not find again what was compiled with a precompiled header of another folder.
set(pch_by_default ON)
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache")
    set(pch_by_default OFF)
endif()
option(WEIR_TEST_PCH "Precompile GoogleTest and the standard headers for the tests" ${pch_by_default})

# weir_cold(target): compiled with WEIR_COLD_TEST_FLAGS
function(weir_cold target)
    separate_arguments(cold UNIX_COMMAND "${WEIR_COLD_TEST_FLAGS}")
    target_compile_options(${target} PRIVATE ${cold})
endfunction()

# weir_test_options(target [HOT] [OPTIONS option...]): what a target with GoogleTest is compiled with. Targets with the same
# options share a precompiled header.
function(weir_test_options target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "HOT" "" "OPTIONS")
    set(heat COLD)
    if(arg_HOT)
        set(heat HOT)
    endif()
    separate_arguments(options UNIX_COMMAND "${WEIR_${heat}_TEST_FLAGS}")
    list(APPEND options ${arg_OPTIONS})
    target_compile_options(${target} PRIVATE ${options})
    target_link_libraries(${target} PRIVATE weir_development GTest::gtest)
    if(WEIR_TEST_PCH)
        string(MD5 key "${options}")
        set(pch weir_test_pch_${key})
        if(NOT TARGET ${pch})
            set(unit "${PROJECT_BINARY_DIR}/tests/pch.cpp")
            file(CONFIGURE OUTPUT "${unit}" CONTENT "")
            add_library(${pch} OBJECT EXCLUDE_FROM_ALL "${unit}")
            target_compile_options(${pch} PRIVATE ${options})
            target_link_libraries(${pch} PRIVATE weir_development GTest::gtest)
            target_precompile_headers(
                ${pch} PRIVATE <gtest/gtest.h> <algorithm> <array> <atomic> <chrono> <condition_variable> <cstdint> <deque> <functional>
                <latch> <limits> <map> <memory> <mutex> <optional> <random> <stop_token> <string> <string_view> <thread> <tuple>
                <utility> <variant> <vector>)
        endif()
        target_precompile_headers(${target} REUSE_FROM ${pch})
    endif()
endfunction()

# weir_test_file(target file [HOT] [OPTIONS option...] [LIBRARIES target...])
# The objects of one file, target_object, and a program of it alone, target. Neither is part of `all`.
function(weir_test_file target file)
    cmake_parse_arguments(PARSE_ARGV 2 arg "HOT" "" "OPTIONS;LIBRARIES")
    set(hot)
    if(arg_HOT)
        set(hot HOT)
    endif()
    add_library(${target}_object OBJECT EXCLUDE_FROM_ALL "${file}")
    weir_test_options(${target}_object ${hot} OPTIONS ${arg_OPTIONS})
    target_link_libraries(${target}_object PRIVATE ${arg_LIBRARIES})
    add_executable(${target} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${target}_object>)
    target_link_libraries(${target} PRIVATE weir_development weir_test_support ${arg_LIBRARIES} GTest::gtest GTest::gtest_main)
endfunction()

# weir_test_program(name FILES file... [OBJECTS target...] [PREFIX prefix] [HOT] [LABEL label] [TIMEOUT seconds]
#                   [OPTIONS option...] [LIBRARIES target...])
# The program `name`, of all the files and objects. CTest runs each suite by itself; a suite whose name ends in _slow has the
# label slow, one whose name ends in _long the label full, all others LABEL (unit). PREFIX_NAME_test is the program of
# NAME_test.cpp alone.
function(weir_test_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "HOT" "PREFIX;LABEL;TIMEOUT" "FILES;OBJECTS;OPTIONS;LIBRARIES")
    if(NOT arg_FILES AND NOT arg_OBJECTS)
        return()
    endif()
    set(hot)
    if(arg_HOT)
        set(hot HOT)
    endif()
    add_executable(${name})
    target_link_libraries(${name} PRIVATE weir_development weir_test_support ${arg_LIBRARIES} GTest::gtest GTest::gtest_main)
    foreach(object IN LISTS arg_OBJECTS)
        target_sources(${name} PRIVATE $<TARGET_OBJECTS:${object}>)
    endforeach()
    foreach(file IN LISTS arg_FILES)
        get_filename_component(stem "${file}" NAME_WE)
        set(target ${arg_PREFIX}${stem})
        weir_test_file(${target} "${file}" ${hot} OPTIONS ${arg_OPTIONS} LIBRARIES ${arg_LIBRARIES})
        target_sources(${name} PRIVATE $<TARGET_OBJECTS:${target}_object>)
    endforeach()
    if(NOT arg_LABEL)
        set(arg_LABEL unit)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
    endif()
    string(REGEX REPLACE "_tests$" "" prefix "${name}")
    set(script "${CMAKE_CURRENT_BINARY_DIR}/${name}.cmake")
    file(GENERATE OUTPUT "${script}" CONTENT
"set(program \"$<TARGET_FILE:${name}>\")
set(emulator \"${CMAKE_CROSSCOMPILING_EMULATOR}\")
set(prefix \"${prefix}\")
set(folder \"${CMAKE_CURRENT_SOURCE_DIR}\")
set(label \"${arg_LABEL}\")
set(timeout \"${arg_TIMEOUT}\")
set(skip \"${WEIR_SKIP_TESTS}\")
include(\"${PROJECT_SOURCE_DIR}/cmake/test_suites.cmake\")
")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${script}")
endfunction()

# weir_find_tests(variable folder [EXCLUDE regex]): the folder's *_test.cpp
function(weir_find_tests variable folder)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "EXCLUDE" "")
    file(GLOB files CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cpp")
    if(arg_EXCLUDE)
        list(FILTER files EXCLUDE REGEX "${arg_EXCLUDE}")
    endif()
    set(${variable} "${files}" PARENT_SCOPE)
endfunction()
