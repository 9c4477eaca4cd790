# SPDX-License-Identifier: MIT
# Debian: g++-riscv64-linux-gnu qemu-user-static
set(weir_cross_processor riscv64)
set(weir_cross_emulator qemu-riscv64-static)
set(weir_cross_triple riscv64-linux-gnu)
include("${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake")
