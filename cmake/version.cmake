# SPDX-License-Identifier: MIT
# weir_read_version(variable): the version that include/weir/version.hpp states, as MAJOR.MINOR.PATCH.
function(weir_read_version variable)
    set(header "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../include/weir/version.hpp")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
    file(STRINGS "${header}" lines REGEX "^#define WEIR_VERSION_(MAJOR|MINOR|PATCH) [0-9]+$")
    list(TRANSFORM lines REPLACE "^.* " "")
    list(LENGTH lines count)
    if(NOT count EQUAL 3)
        message(FATAL_ERROR "${header} does not define WEIR_VERSION_MAJOR, _MINOR and _PATCH")
    endif()
    list(JOIN lines "." version)
    set(${variable} "${version}" PARENT_SCOPE)
endfunction()
