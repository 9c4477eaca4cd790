// SPDX-License-Identifier: MIT
//
// llm::session by a manual_clock, compiled once for all test programs: manual_session.cpp.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/session.hpp>
#include <weir/wait/wait_queue.hpp>

namespace weir::inline v0::llm {

extern template class account_pool<manual_clock&>;
extern template class fallback_chain<account_pool<manual_clock&>>;
extern template class session<account_pool<manual_clock&>, 1>;
extern template class session<account_pool<manual_clock&>, 1>::drive<never_stop>;

}  // namespace weir::inline v0::llm
