"""What llama.cpp makes of prompts, as a program of its own: a file that it cannot read ends it, and
not who asked.

It reads one JSON, {"file", "prompts": [text, ..], "most": tokens to come, "never": [token, ..]},
and answers with one:
{"runs": [{"num_read", "tokens": [..], "log_probs": [..]}, ..]}. It imports nothing but xllamacpp.
"""

from __future__ import annotations

import json
import sys
from typing import Any

ROOM = 256  # tokens of a prompt and what comes


def run(
    file: str, prompts: list[str | list[int]], most: int, never: list[int]
) -> list[dict[str, Any]]:
    """The likeliest tokens after each prompt, one by one, with their log probabilities."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = file, ROOM, 1
    params.cpuparams.n_threads, params.warmup, params.verbosity = 1, False, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)
    runs = []
    for prompt in prompts:
        told = server.handle_completions(
            {"prompt": prompt, "n_predict": most, "temperature": 0, "n_probs": 1,
             "cache_prompt": False, "logit_bias": [[token, False] for token in never],
             "return_tokens": True, "verbose": True}
        )  # fmt: skip
        tokens = told["__verbose"]["tokens"]
        content = (told["choices"][0]["logprobs"] or {"content": []})["content"]
        runs.append(
            {
                "num_read": told["usage"]["prompt_tokens"],
                "tokens": tokens,
                "log_probs": beside(tokens, [(each["id"], each["logprob"]) for each in content]),
            }
        )
    return runs


def beside(tokens: list[int], told: list[tuple[int, float]]) -> list[float | None]:
    """The log probability of each token; None where nothing is told: of the first bytes of a
    character of several tokens, only the last is."""
    found: list[float | None] = [None] * len(tokens)
    left = list(told)
    for place in reversed(range(len(tokens))):
        if left and left[-1][0] == tokens[place]:
            found[place] = left.pop()[1]
    return found


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    found = run(asked["file"], asked["prompts"], asked["most"], asked["never"])
    print(json.dumps({"runs": found}))
