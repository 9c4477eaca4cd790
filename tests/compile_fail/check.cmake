# SPDX-License-Identifier: MIT
# cmake -Dfile=... -Dcompiler=... -Dflags=... -Dinclude=... -P check.cmake
# The file compiles as it is, and does not with -DMISUSE and the options of its line `// misuse: OPTIONS`, if it has one.
# Then the compiler says what the file's line `// expect: REGEX` says, so that it is refused for that reason and no other.
separate_arguments(flags UNIX_COMMAND "${flags}")
set(compile "${compiler}" -std=c++20 ${flags} "-I${include}" -fsyntax-only)
file(STRINGS "${file}" options REGEX "^// misuse: ")
string(REPLACE "// misuse: " "" options "${options}")
separate_arguments(options UNIX_COMMAND "${options}")

execute_process(COMMAND ${compile} "${file}" RESULT_VARIABLE control ERROR_VARIABLE text)
if(NOT control EQUAL 0)
    message(FATAL_ERROR "the right use does not compile:\n${text}")
endif()

execute_process(COMMAND ${compile} -DMISUSE ${options} "${file}" RESULT_VARIABLE misuse ERROR_VARIABLE text)
if(misuse EQUAL 0)
    message(FATAL_ERROR "the misuse compiles")
endif()
file(STRINGS "${file}" expected REGEX "^// expect: ")
string(REPLACE "// expect: " "" expected "${expected}")
if(expected STREQUAL "" OR NOT text MATCHES "${expected}")
    message(FATAL_ERROR "the misuse is refused, but not with '${expected}':\n${text}")
endif()
