# SPDX-License-Identifier: MIT
# Debian: g++-s390x-linux-gnu qemu-user-static
set(weir_cross_processor s390x)
set(weir_cross_emulator qemu-s390x-static)
set(weir_cross_triple s390x-linux-gnu)
include("${CMAKE_CURRENT_LIST_DIR}/debian-cross.cmake")
