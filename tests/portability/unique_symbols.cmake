# SPDX-License-Identifier: MIT
# cmake -Dnm=... -Dplugin=... -P unique_symbols.cmake
# A symbol of the kind STB_GNU_UNIQUE keeps its library loaded: static data of inline functions and of class templates.
execute_process(COMMAND "${nm}" -DC --defined-only "${plugin}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[0-9a-f]+ u weir::[^\n]*" unique "${symbols}")
if(unique)
    list(JOIN unique "\n" unique)
    message(FATAL_ERROR "these symbols keep a plugin from unloading:\n${unique}")
endif()
