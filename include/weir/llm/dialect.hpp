// SPDX-License-Identifier: MIT
//
// dialect: whose API a client speaks. Servers use the same words for opposite things, so the meaning of an answer
// depends on it.
#pragma once

#include "../detail/cpp20.hpp"

#include <string_view>

namespace weir::inline v0::llm {

enum class dialect : unsigned char {
    http,       ///< an unknown server: HTTP only
    dashscope,  ///< Alibaba Cloud Model Studio, native and compatible mode
    openai,
    azure,  ///< Azure OpenAI
    anthropic,
    gemini,
    groq,
    mistral,
    llama_cpp,  ///< llama.cpp's server
};

constexpr std::string_view to_string(dialect d) noexcept {
    switch (d) {
        case dialect::http: return "http";
        case dialect::dashscope: return "dashscope";
        case dialect::openai: return "openai";
        case dialect::azure: return "azure";
        case dialect::anthropic: return "anthropic";
        case dialect::gemini: return "gemini";
        case dialect::groq: return "groq";
        case dialect::mistral: return "mistral";
        case dialect::llama_cpp: return "llama_cpp";
    }
    return "unknown";
}

}  // namespace weir::inline v0::llm
