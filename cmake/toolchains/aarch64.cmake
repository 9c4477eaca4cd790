# SPDX-License-Identifier: MIT
# Debian: g++-aarch64-linux-gnu qemu-user-static
set(weir_cross_processor aarch64)
set(weir_cross_emulator qemu-aarch64-static)
set(weir_cross_triple aarch64-linux-gnu)
include("${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake")
