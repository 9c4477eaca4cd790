# SPDX-License-Identifier: MIT
# Debian: g++-i686-linux-gnu qemu-user-static
set(weir_cross_processor i686)
set(weir_cross_emulator qemu-i386-static)
set(weir_cross_triple i686-linux-gnu)
include("${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake")
