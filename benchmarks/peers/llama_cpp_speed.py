"""Seconds that llama.cpp takes for a token of a text, as it tells them itself.

python llama_cpp_speed.py FILE.gguf THREADS
"""

from __future__ import annotations

import sys

import xllamacpp

MOST = 48  # tokens that come


def main() -> None:
    """Write the number."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], 512, 1
    params.cpuparams.n_threads, params.verbosity = int(sys.argv[2]), 0
    server = xllamacpp.Server(params)
    asked = {"prompt": list(range(24)), "n_predict": MOST, "temperature": 0, "ignore_eos": True}
    told = server.handle_completions({**asked, "timings_per_token": True})
    print(told["timings"]["predicted_per_token_ms"] / 1000)


if __name__ == "__main__":
    main()
