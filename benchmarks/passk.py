"""How often do completions of a model of code pass tests? pass@k on 20 small problems in Python.

    python benchmarks/passk.py BUNDLE [-n 20]        a model trained here
    python benchmarks/passk.py --self-test           the bundled solutions, and none

    pass@k = mean over problems of  1 - C(n - c, k) / C(n, k),     c of n completions pass

(Chen et al. 2021: without bias, unlike 1 - (1 - c / n)^k.) A completion ends where the function
does. It runs in `evaluation/sandbox.py`, with the standard library and nothing else, and passes
where all tests hold and the last line, a word that it does not know, is written. The problems were
written for this file, so no model has been trained on them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import morphogen as mg
from morphogen.core.codec import Item
from morphogen.core.random import generator
from morphogen.evaluation.sandbox import guards_missing, run_program
from morphogen.tasks.complete import complete

PROBLEMS = Path(__file__).with_name("passk_problems.json")
BEHIND = re.compile(r"\n(?=[^\s#)\]}])")  # where something begins that is not in the function


def pass_at_k(num: int, passed: int, k: int) -> float:
    """The chance that some of k completions pass, of `num` of which so many do."""
    return 1.0 - math.comb(num - passed, k) / math.comb(num, k)


def passes(problem: dict[str, str], completion: str) -> bool:
    """Whether a completion of the prompt passes the tests."""
    word = secrets.token_hex(8)
    body = BEHIND.split(completion)[0]
    program = f"{problem['prompt']}{body}\n\n\n{problem['tests']}\nprint({word!r})\n"
    found = run_program(program, seconds=3)
    return found.status == "passed" and found.output.rstrip().endswith(word)


def completions(bundle: mg.Bundle, prompt: str, num: int, temperature: float) -> Sequence[str]:
    """What a model lets follow a prompt."""
    codec: Any = bundle.codec
    tokens = codec.encode_stream(Item(prompt))[:-1]  # without an end
    found = complete(
        bundle.family, [tokens], codec, generator=generator(0), num=num, temperature=temperature
    )
    texts: Sequence[str] = found.values["text"]
    return texts


def main() -> None:
    """Print pass@1, and pass@10 of enough completions, with how many passed by problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--self-test", action="store_true")
    told = parser.parse_args()
    problems = json.loads(PROBLEMS.read_text())
    print("guards that this machine lacks:", ", ".join(guards_missing()) or "none")
    if told.self_test:
        own = sum(passes(each, each["solution"]) for each in problems)
        none = sum(passes(each, "    return None\n") for each in problems)
        print(f"solutions: {own} of {len(problems)} pass; without one: {none}")
        return
    bundle = mg.open(told.bundle)
    counts = {}
    for each in problems:
        drawn = completions(bundle, each["prompt"], told.n, told.temperature)
        counts[each["name"]] = sum(passes(each, text) for text in drawn)
        print(f"{each['name']:<24} {counts[each['name']]:>3} of {told.n}")
    for k in (1, 10):
        if k <= told.n:
            mean = sum(pass_at_k(told.n, c, k) for c in counts.values()) / len(counts)
            print(f"pass@{k}: {mean:.3f}")


if __name__ == "__main__":
    main()
