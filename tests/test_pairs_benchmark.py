"""Where `benchmarks/pairs.py` leaves its pages."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_model_that_is_only_measured_leaves_the_results_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _pairs import RESULTS, place_of_pages

    assert place_of_pages(Namespace(bundle=None, keep=tmp_path)) == RESULTS
    assert place_of_pages(Namespace(bundle="kept/pictures", keep=tmp_path)) == tmp_path
    assert place_of_pages(Namespace(bundle="kept/pictures", keep=None)) is None
    assert (RESULTS / "captioned-1.png").is_file()
