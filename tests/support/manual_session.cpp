// SPDX-License-Identifier: MIT
#include "manual_session.hpp"

namespace weir::inline v0::llm {

template class account_pool<manual_clock&>;
template class fallback_chain<account_pool<manual_clock&>>;
template class session<account_pool<manual_clock&>, 1>;
template class session<account_pool<manual_clock&>, 1>::drive<never_stop>;

}  // namespace weir::inline v0::llm
