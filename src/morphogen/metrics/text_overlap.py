r"""Generated texts held to the one that each was asked for: translations, captions, summaries.

    bleu        geometric mean of the precisions of runs of 1 to 4 words, with a penalty for texts
                that are too short, over all texts together              (Papineni et al. 2002)
    chrf        F-score of runs of 1 to 6 characters, recall counted twice          (Popovic 2015)
    rouge_1, rouge_2, rouge_l      F-score of words, of pairs of words, of the longest common
                subsequence of words, on average over texts                            (Lin 2004)

0 to 100 the first two, 0 to 1 the others, as in the papers. They are counted by sacrebleu (Post
2018) and by Google's rouge-score; the signature of either is a part of the protocol.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.extras import extra
from morphogen.core.metric import TextReferences, scores

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def signatures() -> dict[str, str]:
    """How each is counted, to the version."""
    bleu, chrf = (str(each.get_signature()) for each in _sacrebleu())
    return {
        "bleu": bleu,
        "chrf": chrf,
        "rouge": f"rouge-score {version('rouge-score')}, no stemmer",
    }


@scores(
    ratios=False,
    protocol=signatures,
    bleu=True,
    chrf=True,
    rouge_1=True,
    rouge_2=True,
    rouge_l=True,
)
def text_overlap(
    texts: TextReferences, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """Words and characters that generated texts share with those that they were asked for."""
    pairs = list(zip(*texts.values(), strict=True))
    found = {
        name: _score(metric, [_counts(number, *pair) for pair in pairs])
        for number, (name, metric) in enumerate(zip(("bleu", "chrf"), _sacrebleu(), strict=True))
    }
    rouge = np.mean([_rouge(*pair) for pair in pairs], axis=0)
    return found | dict(zip(ROUGE, rouge.tolist(), strict=True))


@functools.cache
def _sacrebleu() -> tuple[Any, Any]:
    library = extra("sacrebleu.metrics", "text", "texts are compared", raises=MeasurementError)
    bleu, chrf = library.BLEU(), library.CHRF()
    for each in (bleu, chrf):
        each.corpus_score(["a"], [["a"]])  # a signature says how many references there were
    return bleu, chrf


@functools.lru_cache(maxsize=1 << 14)  # every pair is counted once, however many halves it is in
def _counts(metric: int, text: str, reference: str) -> tuple[float, ...]:
    found = _sacrebleu()[metric]._extract_corpus_statistics([text], [[reference]])
    return tuple(found[0])


def _score(metric: Any, counts: Sequence[Sequence[float]]) -> float:
    return float(metric._aggregate_and_compute([list(each) for each in counts]).score)


@functools.lru_cache(maxsize=1 << 14)
def _rouge(text: str, reference: str) -> tuple[float, ...]:
    found = _scorer().score(reference, text)
    return tuple(found[name].fmeasure for name in ROUGE.values())


@functools.cache
def _scorer() -> Any:
    library = extra(
        "rouge_score.rouge_scorer", "text", "texts are compared", raises=MeasurementError
    )
    return library.RougeScorer(list(ROUGE.values()))
