// SPDX-License-Identifier: MIT
//
// instantiate_session: the code that extern_session.hpp leaves out of the files that include it. Include it in exactly
// one source file of a program.
#pragma once

#include "../wait/wait_queue.hpp"
#include "account_pool.hpp"
#include "fallback_chain.hpp"
#include "session.hpp"

namespace weir::inline v0::llm {

template class account_pool<>;
template class fallback_chain<account_pool<>>;
template class session<account_pool<>, 1>;
template class session<account_pool<>, 1>::drive<never_stop>;

}  // namespace weir::inline v0::llm
