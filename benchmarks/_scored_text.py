"""A text learned by Morphogen's own command, and another scored by what was learned."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def learned(train: str, held: str, seconds: float, settings: Sequence[str]) -> tuple[Any, str]:
    """Bits of all of `held` (an `evaluation.corpus.Scored`), after training on `train` for so long,
    without the previews that a person would look at; and facts of the run."""
    from morphogen import Bundle, load
    from morphogen.evaluation.corpus import Corpus, score_corpus, units_of_tokens

    with tempfile.TemporaryDirectory() as root:
        for split, part in (("train", train), ("test", held)):
            Path(root, "data", split).mkdir(parents=True)
            Path(root, "data", split, "text.txt").write_text(part)
        command = [sys.executable, "-m", "morphogen.cli.app", "train", f"{root}/data"]
        command += ["--budget", f"{seconds:.0f}s", "--out", f"{root}/model"]
        for setting in ("train.num_previews=0", *settings):
            command += ["--set", setting]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begun
        bundle = Bundle.open(f"{root}/model")
        data = load(f"{root}/data", codec=bundle.codec)
        corpus = Corpus(data.test, units_of_tokens(data.codec, data.spec))
        with torch.no_grad():
            blocks = corpus.spans(corpus.ranges(corpus.num_units))
            scored = score_corpus(bundle.family.eval(), corpus, blocks, 0)
    reading = getattr(bundle.family, "log_prob_is", "")
    return scored, f"{reading}; {bundle.run['steps']:,} steps, {took:.0f} s, {data.spec}"
