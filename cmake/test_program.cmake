# SPDX-License-Identifier: MIT
# A test program is made of all *_test.cpp of one folder. One compiler run for several files, one link and one process for
# each suite: a program for each file would compile the same headers, link, start and list a hundred times as much.
#
# Files are found by pattern, with CONFIGURE_DEPENDS: a new test file is built and run without a change of any CMake
# file, and the build system looks at the folders each time it runs. The library's own lists of headers are written out,
# because an installation depends on them.

# Optimisation; empty: the build type's. A HOT program takes longer to run than to compile.
set(WEIR_COLD_TEST_FLAGS "" CACHE STRING "Compiler flags of the test programs that spend little time running")
set(WEIR_HOT_TEST_FLAGS "" CACHE STRING "Compiler flags of the test programs that spend much time running")
set(WEIR_SKIP_TESTS "" CACHE STRING "GoogleTest patterns, separated by colons, of tests that are not run")
# Each file has a namespace of its own, of its name. Off: a file that lacks an include fails.
option(WEIR_TEST_UNITY "Compile several test files in one run" ON)

# weir_cold(target): compiled with WEIR_COLD_TEST_FLAGS
function(weir_cold target)
    separate_arguments(cold UNIX_COMMAND "${WEIR_COLD_TEST_FLAGS}")
    target_compile_options(${target} PRIVATE ${cold})
endfunction()

# weir_test_options(target [HOT] [OPTIONS option...]): what a target with GoogleTest is compiled with.
function(weir_test_options target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "HOT" "" "OPTIONS")
    set(heat COLD)
    if(arg_HOT)
        set(heat HOT)
    endif()
    separate_arguments(options UNIX_COMMAND "${WEIR_${heat}_TEST_FLAGS}")
    list(APPEND options ${arg_OPTIONS})
    target_compile_options(${target} PRIVATE ${options})
    target_compile_definitions(${target} PRIVATE WEIR_TESTS="${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(${target} PRIVATE weir_development GTest::gtest)
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

# weir_test_units(variable name file...): sources that include the files, neighbours together, about 40 KB each.
function(weir_test_units variable name)
    set(units)
    set(text)
    set(bytes 0)
    foreach(file IN LISTS ARGN ITEMS "")
        if(file)
            file(SIZE "${file}" size)
        endif()
        if(text AND (NOT file OR bytes GREATER 40000))
            list(LENGTH units number)
            set(unit "${CMAKE_CURRENT_BINARY_DIR}/${name}_${number}.cpp")
            file(CONFIGURE OUTPUT "${unit}" CONTENT "${text}" @ONLY)
            list(APPEND units "${unit}")
            set(text)
            set(bytes 0)
        endif()
        if(file)
            string(APPEND text "#include \"${file}\"\n")
            math(EXPR bytes "${bytes} + ${size}")
        endif()
    endforeach()
    set(${variable} "${units}" PARENT_SCOPE)
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
        if(NOT WEIR_TEST_UNITY)
            target_sources(${name} PRIVATE $<TARGET_OBJECTS:${target}_object>)
        endif()
    endforeach()
    if(WEIR_TEST_UNITY AND arg_FILES)
        weir_test_units(units ${name} ${arg_FILES})
        target_sources(${name} PRIVATE ${units})
        weir_test_options(${name} ${hot} OPTIONS ${arg_OPTIONS})
        # gcc warns of coroutines that hold a lambda of an included file, as if each file were a header.
        target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
    endif()
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
