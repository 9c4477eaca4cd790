// SPDX-License-Identifier: MIT
// A sender that reports nothing: its request would be sent again, and billed again.
// expect: send must return what call.ended
#include <weir/llm/session.hpp>

auto ask(weir::llm::session<>& session) {
    return session.run({.max_tokens = 500}, [](auto& call) {
#ifdef MISUSE
        static_cast<void>(call.key());
#else
        return call.ended({.answer = {.status = 200}});
#endif
    });
}
