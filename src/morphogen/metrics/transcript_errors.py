r"""Errors of texts that were written down, held to the one that each was asked for with.

    word_error_rate   (words put in + left out + exchanged) / words of what was said, over all texts
    char_error_rate   the same of characters

0 is without a fault; more than 1 where more is put in than was said. Case and punctuation count as
they stand. Counted by jiwer.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from morphogen.core.errors import MeasurementError
from morphogen.core.extras import extra
from morphogen.core.metric import TextReferences, scores


def _counted_by() -> dict[str, str]:
    return {"error_rates": f"jiwer {version('jiwer')}, as written"}


@scores(ratios=False, protocol=_counted_by, word_error_rate=False, char_error_rate=False)
def transcript_errors(
    texts: TextReferences, *, generator: torch.Generator | None = None
) -> Mapping[str, float]:
    """Words and characters that are wrong, for each that was said."""
    library = _jiwer()
    said, written = [], []
    for text, reference in zip(*texts.values(), strict=True):
        if reference.strip():
            said.append(reference)
            written.append(text)
    if not said:
        raise MeasurementError("no text has a word", expected="texts that something is said in")
    return {
        "word_error_rate": float(library.wer(said, written)),
        "char_error_rate": float(library.cer(said, written)),
    }


def _jiwer() -> Any:
    return extra("jiwer", "text", "errors of transcripts are counted", raises=MeasurementError)
