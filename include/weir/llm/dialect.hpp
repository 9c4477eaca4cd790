// SPDX-License-Identifier: MIT
//
// dialect: whose API a client speaks. Servers use the same words for opposite things, so the meaning of an answer
// depends on it. Most errors are understood in any dialect: those of a compatible endpoint that is not listed in
// dialect::openai, those of an unknown server in dialect::http.
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
    deepseek,
    moonshot,  ///< Moonshot, Kimi
    zhipu,     ///< Zhipu, Z.ai
    minimax,
    siliconflow,
    openrouter,
    xai,
    together,
    fireworks,
    cohere,
    bedrock,       ///< Amazon Bedrock
    hugging_face,  ///< inference providers and text-generation-inference
    ollama,
    vllm,
    new_api,     ///< new-api, one-api
    volcengine,  ///< Ark, Doubao
    qianfan,     ///< Baidu Qianfan
    hunyuan,     ///< Tencent Hunyuan
    spark,       ///< iFlytek Spark
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
        case dialect::deepseek: return "deepseek";
        case dialect::moonshot: return "moonshot";
        case dialect::zhipu: return "zhipu";
        case dialect::minimax: return "minimax";
        case dialect::siliconflow: return "siliconflow";
        case dialect::openrouter: return "openrouter";
        case dialect::xai: return "xai";
        case dialect::together: return "together";
        case dialect::fireworks: return "fireworks";
        case dialect::cohere: return "cohere";
        case dialect::bedrock: return "bedrock";
        case dialect::hugging_face: return "hugging_face";
        case dialect::ollama: return "ollama";
        case dialect::vllm: return "vllm";
        case dialect::new_api: return "new_api";
        case dialect::volcengine: return "volcengine";
        case dialect::qianfan: return "qianfan";
        case dialect::hunyuan: return "hunyuan";
        case dialect::spark: return "spark";
    }
    return "unknown";
}

}  // namespace weir::inline v0::llm
