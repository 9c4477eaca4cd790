# SPDX-License-Identifier: MIT
# Installs the headers, a CMake package and a pkg-config file. All of it is independent of the architecture and can be
# moved as a whole: nothing in it names the prefix.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(weir_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/weir")
set(weir_pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(TARGETS weir weir_llm weir_advice EXPORT weir-targets FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT weir-targets NAMESPACE weir:: FILE weir-config.cmake DESTINATION "${weir_package_dir}")

# While the major version is 0, a minor version may break the API.
if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(weir_compatibility SameMinorVersion)
else()
    set(weir_compatibility SameMajorVersion)
endif()
write_basic_package_version_file("${PROJECT_BINARY_DIR}/weir-config-version.cmake" COMPATIBILITY ${weir_compatibility}
                                 ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/weir-config-version.cmake" DESTINATION "${weir_package_dir}")

if(IS_ABSOLUTE "${weir_pkgconfig_dir}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    set(weir_pc_prefix "${CMAKE_INSTALL_PREFIX}")
    set(weir_pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
    file(RELATIVE_PATH weir_pc_up "/prefix/${weir_pkgconfig_dir}" "/prefix")
    string(REGEX REPLACE "/$" "" weir_pc_up "${weir_pc_up}")
    set(weir_pc_prefix "\${pcfiledir}/${weir_pc_up}")
    set(weir_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file("${CMAKE_CURRENT_LIST_DIR}/weir.pc.in" "${PROJECT_BINARY_DIR}/weir.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/weir.pc" DESTINATION "${weir_pkgconfig_dir}")
