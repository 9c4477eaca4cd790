#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the four sample batches into this folder; the same bytes every time.

Each lasts three to four minutes of quota: one bound by requests and one bound by tokens for either row of the quota table. What stands
for a long document is short here: "metadata" tells the simulator, and the client's estimate, how many tokens it is meant to have.
"""
import json
import pathlib
import random

TOPICS = ["tides", "glaciers", "bridges", "bees", "volcanoes", "paper", "clocks", "rivers", "salt", "maps", "lighthouses", "bread", "sails",
          "weirs", "canals", "glass", "kites", "owls", "comets", "silk"]
SHORT = [
    "In two sentences: what would a child ask first about {0}, and what is the answer?",
    "Name three facts about {0} that are often told wrongly.",
    "Write a title and one line for an article on {0} and {1}.",
    "What connects {0} with {1}? Answer in at most forty words.",
    "Classify as fact, opinion or question: \"Nobody understands {0} better than {1}.\"",
    "请用两句话说明{0}和{1}有什么关系。",
    "Кратко: чем {0} отличаются от {1}?",
]


def line(number, model, prompt, max_tokens, metadata):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "metadata": metadata}
    request = {"custom_id": f"{number:05d}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")) + "\n"


def by_requests(name, model, count, seed):
    """Short questions, short answers: the limit on requests is reached first."""
    rng = random.Random(seed)
    with open(pathlib.Path(__file__).parent / name, "w", encoding="utf-8", newline="\n") as out:
        for number in range(1, count + 1):
            prompt = rng.choice(SHORT).format(*rng.sample(TOPICS, 2))
            out.write(line(number, model, prompt, 200, {"output_tokens": str(rng.randint(30, 180))}))


def by_tokens(name, model, count, seed, low, high):
    """Long documents, short answers: the limit on tokens is reached first."""
    rng = random.Random(seed)
    with open(pathlib.Path(__file__).parent / name, "w", encoding="utf-8", newline="\n") as out:
        for number in range(1, count + 1):
            prompt = f"Summarise report {number} on {rng.choice(TOPICS)} in three sentences."
            metadata = {"input_tokens": str(rng.randint(low, high)), "output_tokens": str(rng.randint(60, 140))}
            out.write(line(number, model, prompt, 160, metadata))


if __name__ == "__main__":
    by_requests("requests_600.jsonl", "qwen3-max", 1800, 1)
    by_requests("requests_60.jsonl", "qwen3-max-2025-09-23", 200, 2)
    by_tokens("tokens_1m.jsonl", "qwen3-max", 600, 3, 4000, 8000)
    by_tokens("tokens_100k.jsonl", "qwen3-max-2025-09-23", 120, 4, 2000, 4000)
