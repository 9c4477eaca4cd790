// SPDX-License-Identifier: MIT
// All of weir. A program that minds its compile time includes the one header it uses instead.
#pragma once

#include <weir/version.hpp>
