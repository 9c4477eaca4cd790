# SPDX-License-Identifier: MIT
# What Debian's cross compilers have in common; the programs run under qemu's user mode. Debian: googletest, whose source
# is built along, since libgtest-dev is for the machine itself.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${weir_cross_processor})
set(CMAKE_CXX_COMPILER ${weir_cross_triple}-g++)
# Linked whole: qemu then translates no dynamic loader for each of many short runs.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_CROSSCOMPILING_EMULATOR ${weir_cross_emulator})
set(CMAKE_FIND_ROOT_PATH /usr/${weir_cross_triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
