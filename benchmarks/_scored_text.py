"""A text learned by Morphogen's own command, and another scored by what was learned."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def learned(train: str, held: str, budget: float | str, settings: Sequence[str]) -> tuple[Any, str]:
    """Bits of all of `held` (an `evaluation.corpus.Scored`), after training on `train` for so many
    seconds, or for a budget in words, and facts of the run."""
    budget = budget if isinstance(budget, str) else f"{budget:.0f}s"
    with trained(train, held, budget, settings) as (bundle, data, took):
        scored = bits_of(bundle, data)
    reading = getattr(bundle.family, "log_prob_is", "")
    return scored, f"{reading}; {bundle.run['steps']:,} steps, {took:.0f} s, {data.spec}"


@contextmanager
def trained(
    train: str, held: str, budget: str, settings: Sequence[str]
) -> Iterator[tuple[Any, Any, float]]:
    """The bundle after training on `train` by `morphogen train`, without the previews that a person
    would look at; both texts as data; how long the command took."""
    from morphogen import Bundle, load

    with tempfile.TemporaryDirectory() as root:
        for split, part in (("train", train), ("test", held)):
            Path(root, "data", split).mkdir(parents=True)
            Path(root, "data", split, "text.txt").write_text(part)
        command = [sys.executable, "-m", "morphogen.cli.app", "train", f"{root}/data"]
        command += ["--budget", budget, "--out", f"{root}/model"]
        for setting in ("train.num_previews=0", *settings):
            command += ["--set", setting]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begun
        device = "cuda" if torch.cuda.is_available() else "cpu"
        bundle = Bundle.open(f"{root}/model", device=device)
        yield bundle, load(f"{root}/data", codec=bundle.codec), took


@torch.no_grad()
def bits_of(bundle: Any, data: Any, most: int | None = None) -> Any:
    """Bits of the held-out text, of all of it or of `most` bytes."""
    from morphogen.evaluation.corpus import Corpus, score_corpus, units_of_tokens

    corpus = Corpus(data.test, units_of_tokens(data.codec, data.spec))
    blocks = corpus.spans(corpus.ranges(most or corpus.num_units))
    return score_corpus(bundle.family.eval(), corpus, blocks, 0)
