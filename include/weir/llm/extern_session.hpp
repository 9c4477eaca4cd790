// SPDX-License-Identifier: MIT
//
// extern_session: llm::session by the steady clock, compiled once in a program instead of in each file that uses it.
// A file that includes this header instead of session.hpp compiles about four times as fast. Then exactly one source
// file of the program includes instantiate_session.hpp:
//
//     // session.cpp
//     #include <weir/llm/instantiate_session.hpp>
//
// Without that file the program does not link. For another clock, write the same four lines for your own types: here as
// `extern template`, in one source file without `extern`.
#pragma once

#include "../wait/wait_queue.hpp"
#include "account_pool.hpp"
#include "fallback_chain.hpp"
#include "session.hpp"

namespace weir::inline v0::llm {

extern template class account_pool<>;
extern template class fallback_chain<account_pool<>>;
extern template class session<account_pool<>, 1>;
extern template class session<account_pool<>, 1>::drive<never_stop>;

}  // namespace weir::inline v0::llm
