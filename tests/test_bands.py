"""Bands of forecasts hold what they promise of items that were not learned from."""

from __future__ import annotations

import torch

from morphogen.core.bands import band
from morphogen.core.random import generator
from morphogen.families._bands import Bands

LENGTH = 32
GROWS = torch.linspace(0.5, 2, LENGTH)  # of the truth, by horizon: what draws know nothing of


def truth(num: int, seed: int) -> torch.Tensor:
    """Tails heavier than those of draws: Student's t with 4 degrees of freedom, of variance 1."""
    normal = torch.randn(num, 5, 1, LENGTH, generator=generator(seed))
    return GROWS * normal[:, 0] / normal[:, 1:].square().mean(1).sqrt() / 2**0.5


def test_a_band_of_eighty_percent_holds_eighty() -> None:
    bands = Bands((1, LENGTH))
    drawn = torch.randn(500, 1, LENGTH, generator=generator(1))
    assert bands.fit(truth(1000, 2), drawn)["band_scale"] > 0
    draws = torch.randn(4000, 19, 1, LENGTH, generator=generator(3))
    y = truth(4000, 4)

    def held(draws: torch.Tensor) -> torch.Tensor:
        low, high = band(draws, 0.8)
        return ((y >= low) & (y <= high)).float().mean((0, 1))  # by horizon

    assert held(draws).max() > 0.9  # as they are, of near steps too much
    assert held(draws).min() < 0.7  # and of far ones too little
    mended = held(bands(draws))
    assert (mended - 0.8).abs().max() < 0.06
    assert abs(mended.mean() - 0.8) < 0.01


def test_few_items_tell_nothing_and_older_weights_are_read() -> None:
    bands = Bands((1, LENGTH))
    assert bands.fit(truth(99, 0), truth(500, 1)) == {}
    assert (bands.scale == 1).all()
    bands.scale.fill_(2.0)
    bands.load_state_dict({})  # as before there were any
    assert (bands.scale == 1).all()
