# SPDX-License-Identifier: MIT
# Uses weir as a stranger would, in a scratch folder: cmake -Dway=... -P check.cmake
#   install            configures, installs, moves what was installed elsewhere, compares it with the sources
#   find_package       a CMake project over the installed package
#   pkg_config         a bare compiler over the installed package
#   add_subdirectory, fetch_content    a CMake project over the source folder
# Given: source, scratch, version, compiler, flags, generator, make.
set(prefix "${scratch}/prefix")

function(run)
    execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
    if(NOT result EQUAL 0)
        list(JOIN ARGN " " command)
        message(FATAL_ERROR "${command}\n${text}")
    endif()
endfunction()

set(configure "${CMAKE_COMMAND}" -G "${generator}" "-DCMAKE_MAKE_PROGRAM=${make}" "-DCMAKE_CXX_COMPILER=${compiler}"
              "-DCMAKE_CXX_FLAGS=${flags}" -DCMAKE_BUILD_TYPE=Debug)
set(build "${scratch}/${way}")
file(REMOVE_RECURSE "${build}")

if(way STREQUAL "install")
    file(REMOVE_RECURSE "${prefix}" "${scratch}/first")
    run(${configure} -S "${source}" -B "${build}" "-DCMAKE_INSTALL_PREFIX=${scratch}/first" -DWEIR_BUILD_TESTS=OFF
        -DWEIR_BUILD_EXAMPLES=OFF -DWEIR_BUILD_DEMO=OFF -DWEIR_BUILD_BENCH=OFF)
    run("${CMAKE_COMMAND}" --build "${build}")
    run("${CMAKE_COMMAND}" --install "${build}")
    file(RENAME "${scratch}/first" "${prefix}")
    file(GLOB_RECURSE wanted RELATIVE "${source}/include" "${source}/include/*.hpp")
    file(GLOB_RECURSE found RELATIVE "${prefix}/include" "${prefix}/include/*")
    if(NOT wanted STREQUAL found)
        message(FATAL_ERROR "headers in the sources: ${wanted}\ninstalled: ${found}")
    endif()
elseif(way STREQUAL "pkg_config")
    find_program(pkg_config pkg-config)
    if(NOT pkg_config)
        message("skipped: pkg-config is not installed")
        return()
    endif()
    set(ENV{PKG_CONFIG_PATH} "${prefix}/share/pkgconfig")
    execute_process(COMMAND "${pkg_config}" --modversion weir OUTPUT_VARIABLE stated OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT stated STREQUAL version)
        message(FATAL_ERROR "pkg-config says version '${stated}', not '${version}'")
    endif()
    execute_process(COMMAND "${pkg_config}" --cflags --libs weir OUTPUT_VARIABLE cflags OUTPUT_STRIP_TRAILING_WHITESPACE
                            COMMAND_ERROR_IS_FATAL ANY)
    separate_arguments(cflags UNIX_COMMAND "${cflags}")
    separate_arguments(flags UNIX_COMMAND "${flags}")
    file(MAKE_DIRECTORY "${build}")
    run("${compiler}" -std=c++20 ${flags} ${cflags} "${source}/tests/package/main.cpp" -o "${build}/consumer")
    run("${build}/consumer")
else()
    run(${configure} -S "${source}/tests/package/${way}" -B "${build}" "-DCMAKE_PREFIX_PATH=${prefix}"
        "-Dweir_source=${source}" "-Dwanted_version=${version}")
    run("${CMAKE_COMMAND}" --build "${build}")
    run("${build}/consumer")
    run("${build}/llm_consumer")
    run("${build}/advice_consumer")
endif()
