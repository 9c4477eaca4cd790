// SPDX-License-Identifier: MIT
#include "streaming.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cstddef>
#include <utility>

namespace qwen::simulated {

namespace {

using ordered_json = nlohmann::ordered_json;

// Four bytes, so that a client that counts ASCII bytes / 4 counts right.
constexpr char const* token_text = "weir";

std::string repeated(std::uint64_t tokens) {
    std::string out;
    out.reserve(tokens * 4);
    for (std::uint64_t i = 0; i < tokens; ++i) out += token_text;
    return out;
}

// Writes the events of one stream, in its dialect.
class writer {
public:
    explicit writer(stream_facts const& f) : f_{f} {}

    // The text made since the last piece; `reason` where it is the last.
    std::string piece(std::string const& text, std::uint64_t tokens, char const* reason, bool first) {
        return f_.speaks == dialect::native ? native(text, tokens, reason) : compatible(text, reason, first);
    }

    std::string usage(std::uint64_t input, std::uint64_t output) const {
        auto j = frame(ordered_json::array());
        j["usage"] = {{"prompt_tokens", input},
                      {"completion_tokens", output},
                      {"total_tokens", input + output},
                      {"prompt_tokens_details", {{"cached_tokens", 0}}}};
        return data(j.dump());
    }

    // The error's body is native in either dialect.
    std::string error(chance& rng) {
        auto const e =
            render({failure::allocation_quota}, {dialect::native, error_shape::mixed, false, f_.request_id}, rng);
        return "id:" + std::to_string(++id_) + "\nevent:error\n:HTTP_STATUS/" + std::to_string(e.status) +
               "\ndata:" + e.body + "\n\n";
    }

    std::string nonsense(chance& rng) {
        auto const g = garbage(64, rng);
        return f_.speaks == dialect::native ? head() + "data:" + g + "\n\n" : data(g);
    }

private:
    static std::string data(std::string const& text) { return "data: " + text + "\n\n"; }
    std::string head() { return "id:" + std::to_string(++id_) + "\nevent:result\n:HTTP_STATUS/200\n"; }

    ordered_json frame(ordered_json choices) const {
        return {{"choices", std::move(choices)},
                {"object", "chat.completion.chunk"},
                {"usage", nullptr},
                {"created", f_.created_s},
                {"system_fingerprint", nullptr},
                {"model", f_.model},
                {"id", "chatcmpl-" + std::string{f_.request_id}}};
    }

    std::string compatible(std::string const& text, char const* reason, bool first) const {
        ordered_json delta{{"content", text}};
        if (first) delta["role"] = "assistant";
        return data(frame(ordered_json::array({{{"delta", std::move(delta)},
                                                {"finish_reason", reason == nullptr ? ordered_json(nullptr) : reason},
                                                {"index", 0},
                                                {"logprobs", nullptr}}}))
                        .dump());
    }

    std::string native(std::string const& text, std::uint64_t tokens, char const* reason) {
        all_ += text;
        auto const input = f_.befalls == mishap::soft_failure ? 0 : f_.input;
        ordered_json const j{
            {"output",
             {{"choices",
               ordered_json::array({{{"message", {{"content", f_.incremental ? text : all_}, {"role", "assistant"}}},
                                     {"finish_reason", reason == nullptr ? "null" : reason}}})}}},
            {"usage", {{"total_tokens", input + tokens}, {"output_tokens", tokens}, {"input_tokens", input}}},
            {"request_id", f_.request_id}};
        return head() + "data:" + j.dump() + "\n\n";
    }

    stream_facts const& f_;
    std::string all_;
    std::uint64_t id_ = 0;
};

}  // namespace

std::vector<stream_event> stream_events(stream_facts const& f, chance& rng) {
    std::vector<stream_event> out;
    writer w{f};
    bool const soft = f.befalls == mishap::soft_failure;
    auto const size = std::max<std::uint64_t>(1, f.chunk_tokens);
    auto const pieces = soft ? 1 : std::max<std::uint64_t>(1, (f.output + size - 1) / size);
    // Where it breaks off or goes wrong: after the first piece, before the last, if there are two.
    auto const turn = pieces < 2 ? 1 : 1 + rng.below(static_cast<std::size_t>(pieces - 1));
    auto const slow = f.befalls == mishap::slow_body ? f.slow_ns : 0;

    for (std::uint64_t i = 1; i <= pieces; ++i) {
        auto const made = soft ? 0 : std::min(f.output, i * size);
        auto const before = soft ? 0 : std::min(f.output, (i - 1) * size);
        // The first token at first_ns, the last at last_ns, the others evenly between.
        auto const share =
            f.output < 2 || made == 0 ? 0 : static_cast<double>(made - 1) / static_cast<double>(f.output - 1);
        auto const late = pieces < 2 ? 1 : static_cast<double>(i - 1) / static_cast<double>(pieces - 1);
        auto const due = f.first_ns + static_cast<std::int64_t>(share * static_cast<double>(f.last_ns - f.first_ns)) +
                         static_cast<std::int64_t>(late * static_cast<double>(slow));
        auto const text = soft ? text_of(failure::burst_rate, rng) : repeated(made - before);
        auto const* reason = i < pieces ? nullptr : f.limited ? "length" : "stop";
        stream_event e{due, made, w.piece(text, made, reason, i == 1)};
        if (i == turn) {
            switch (f.befalls) {
                case mishap::midstream_error:
                    e.text += w.error(rng);
                    out.push_back(std::move(e));
                    return out;
                case mishap::truncated_body:
                    e.text.resize(e.text.size() / 2);
                    e.breaks_off = true;
                    out.push_back(std::move(e));
                    return out;
                case mishap::garbage_body: e.text += w.nonsense(rng); break;
                default: break;
            }
        }
        out.push_back(std::move(e));
    }
    if (f.speaks == dialect::compatible) {
        auto& last = out.back().text;
        if (f.include_usage) last += soft ? w.usage(0, 0) : w.usage(f.input, f.output);
        last += "data: [DONE]\n\n";
    }
    return out;
}

}  // namespace qwen::simulated
