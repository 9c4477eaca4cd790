// SPDX-License-Identifier: MIT
//
// Catching an exception in code that is the same in translation units with and without exceptions. A unit with
// exceptions contributes the function that catches; in a program that has no such unit, nothing is thrown.
#pragma once

#include <exception>

// Calls call(context); what it throws becomes *caught, a std::exception_ptr. As in error.hpp, the body of the first
// is the same in every unit, and where weak references exist, a unit with exceptions contributes the second, which
// catches.
extern "C" [[gnu::__weak__, gnu::__noinline__]] void weir_call_guarded(void (*call)(void*), void* context,
                                                                       void* caught);

#if defined(__ELF__)
extern "C" [[gnu::__weak__]] void weir_call_and_catch(void (*call)(void*), void* context, void* caught);

extern "C" [[gnu::__weak__, gnu::__noinline__]] void weir_call_guarded(void (*call)(void*), void* context,
                                                                       void* caught) {
    if (&weir_call_and_catch != nullptr) {
        weir_call_and_catch(call, context, caught);
    } else {
        call(context);
    }
}

#if defined(__cpp_exceptions)
extern "C" [[gnu::__weak__, gnu::__noinline__]] void weir_call_and_catch(void (*call)(void*), void* context,
                                                                         void* caught) {
    try {
        call(context);
    } catch (...) {
        *static_cast<std::exception_ptr*>(caught) = std::current_exception();
    }
}
#endif
#else
extern "C" [[gnu::__weak__, gnu::__noinline__]] void weir_call_guarded(void (*call)(void*), void* context,
                                                                       void* caught) {
#if defined(__cpp_exceptions)
    try {
        call(context);
    } catch (...) {
        *static_cast<std::exception_ptr*>(caught) = std::current_exception();
    }
#else
    static_cast<void>(caught);
    call(context);
#endif
}
#endif

namespace weir::inline v0::detail {

/// What f() threw; empty when it returned.
template <class F>
std::exception_ptr caught(F f) {
    std::exception_ptr thrown;
    weir_call_guarded([](void* p) { (*static_cast<F*>(p))(); }, &f, &thrown);
    return thrown;
}

}  // namespace weir::inline v0::detail
