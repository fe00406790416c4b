r"""How loud a sound is at each pitch and time, and a sound that is so loud.

    X = STFT(s),   v_bt = 10 log10 sum_f M_bf |X_ft|^2          decibels of full scale
    x_bt = -0.8 + 1.8 (v_bt - low_b) / (high_b - low_b)         cut to [-0.8, 1]
    x_bt = -1                                                    after the end

Every band lies in a range of its own, so that a model learns quiet bands as well as loud ones. What
comes after the end is quieter than any sound: the length is part of what is seen, and is read where
it agrees with most frames.

Back: non-negative |X|^2 with M |X|^2 = 10^(v/10), by multiplicative updates (Lee & Seung 2001),
then phases that a sound can have, by the fast form (Perraudin et al. 2013) of Griffin & Lim 1984.
The first phases are random numbers, the same at every call.

Legend: C channels, N samples, B bands, F frequencies, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from morphogen.core.random import generator, rand

AFTER, QUIET = -1.0, -0.8  # what stands after the end of a sound, and the least within it
OVERLAP = 3  # frames that see each sample
FLOOR = -80.0  # decibels of what is quieter
LOWEST = 0.02  # share of a band's frames that count as quiet alike
STEP, MOST = 0.5, 60.0  # decibels: of a histogram, and its upper end
UPDATES, ROUNDS, MOMENTUM = 40, 48, 0.99
TINY = 1e-20  # of a power: far below the floor
FRAMES = 2  # numbers of frames are multiples: networks look at blocks of two


class LogMel:
    """Decibels of a sound by band and frame, and back."""

    def __init__(self, rate: int, num_bands: int, hop_ms: float) -> None:
        self.rate, self.num_bands = rate, num_bands
        self.hop = max(2 * round(rate * hop_ms / 2000), 2)  # samples
        self.size = OVERLAP * self.hop
        self.low = torch.full((num_bands, 1), FLOOR)
        self.high = torch.zeros(num_bands, 1)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a sound of so many samples."""
        return -(-num_samples // self.hop) + 1

    def room(self, num_samples: int) -> int:
        """Frames of an item that holds such sounds."""
        return -(-self.num_frames(num_samples) // FRAMES) * FRAMES

    # -- there -------------------------------------------------------------------------------------

    def decibels(self, samples: Tensor) -> Tensor:
        """(C, N) -> (C, B, T)."""
        power = self.filters @ self._spectrum(self._padded(samples)).abs().square()
        return 10 * power.clamp(min=10 ** (FLOOR / 10)).log10()

    def encode(self, samples: Tensor, room: int) -> Tensor:
        """(C, N) -> (C, B, room), in [-1, 1]."""
        found = self.scaled(self.decibels(samples[:, : (room - 1) * self.hop]))
        x = torch.full((len(samples), self.num_bands, room), AFTER)
        x[..., : found.shape[-1]] = found
        return x

    def fit(self, sounds: Iterable[Tensor]) -> LogMel:
        """Take the range of each band from sounds (C, N)."""
        num_bins = round((MOST - FLOOR) / STEP)
        counts = torch.zeros(self.num_bands, num_bins)
        for samples in sounds:
            decibels = self.decibels(samples).movedim(1, 0).flatten(1)  # (B, C T)
            index = ((decibels - FLOOR) / STEP).long().clamp(0, num_bins - 1)
            counts.scatter_add_(1, index, torch.ones_like(decibels))
        shares = counts.cumsum(1) / counts.sum(1, keepdim=True)
        last = num_bins - 1 - counts.flip(1).ne(0).float().argmax(1, keepdim=True)
        self.low = FLOOR + STEP * (shares < LOWEST).sum(1, keepdim=True)
        self.high = torch.maximum(FLOOR + STEP * (last + 1), self.low + 2 * STEP)
        return self

    def scaled(self, decibels: Tensor) -> Tensor:
        """(C, B, T) -> [-0.8, 1]."""
        share = ((decibels - self.low) / (self.high - self.low)).clamp(0, 1)
        return QUIET + (1 - QUIET) * share

    # -- back --------------------------------------------------------------------------------------

    def decode(self, x: Tensor) -> Tensor:
        """(C, B, room) -> (C, N), of as many frames as are within the sound."""
        x = x[..., : self.length(x)].clamp(QUIET, 1)
        decibels = self.low + (self.high - self.low) * (x - QUIET) / (1 - QUIET)
        return self._sound(self._power(10 ** (decibels / 10)).sqrt())

    def length(self, x: Tensor) -> int:
        """How many frames are within the sound: those up to the end that most frames agree with."""
        inside = x.mean((0, 1)) - (AFTER + QUIET) / 2  # (T,)
        return max(int(inside.cumsum(0).argmax()) + 1, 2)

    def _power(self, bands: Tensor) -> Tensor:
        """(C, B, T) -> |X|^2 (C, F, T), of which the bands are these."""
        filters = self.filters
        power = (filters.T @ bands) / filters.sum(0)[:, None].clamp(min=1e-3)
        for _ in range(UPDATES):
            power = power * (filters.T @ bands) / (filters.T @ (filters @ power)).clamp(min=TINY)
        return power

    def _sound(self, loud: Tensor) -> Tensor:
        """|X| (C, F, T) -> (C, N)."""
        turns = rand(loud.shape[1:], generator(0)) * (2 * math.pi)
        phase, before = torch.polar(torch.ones_like(turns), turns).expand(loud.shape), None
        for _ in range(ROUNDS):
            found = self._spectrum(self._samples(loud * phase))
            ahead = found if before is None else found + MOMENTUM * (found - before)
            phase, before = ahead / ahead.abs().clamp(min=1e-9), found
        return self._samples(loud * phase)

    # -- parts -------------------------------------------------------------------------------------

    @cached_property
    def filters(self) -> Tensor:
        """(B, F): triangles evenly spaced in mel, each of which sums to 1."""
        ends = torch.linspace(0, _mel(self.rate / 2), self.num_bands + 2, dtype=torch.float64)
        ends = 700 * (10 ** (ends / 2595) - 1)  # in Hz
        hertz = torch.linspace(0, self.rate / 2, self.size // 2 + 1, dtype=torch.float64)
        left, centre, right = ends[:-2, None], ends[1:-1, None], ends[2:, None]
        rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
        filters = torch.minimum(rising, falling).clamp(min=0)
        narrow = filters.sum(1) == 0  # than what frames tell apart: the nearest that they do
        nearest = (hertz - centre).abs().argmin(1, keepdim=True)
        lone = torch.zeros_like(filters).scatter(1, nearest, 1.0)
        filters = torch.where(narrow[:, None], lone, filters)
        return (filters / filters.sum(1, keepdim=True)).float()

    @cached_property
    def _window(self) -> Tensor:
        return torch.hann_window(self.size)

    def _spectrum(self, samples: Tensor) -> Tensor:
        """(C, N) -> (C, F, N / hop + 1), of which a sine of full scale is 1."""
        spectrum = torch.stft(
            samples, self.size, self.hop, window=self._window, pad_mode="constant",
            return_complex=True,
        )  # fmt: skip
        return spectrum / (self.size / 4)

    def _samples(self, spectrum: Tensor) -> Tensor:
        """Inverse of `_spectrum`."""
        num = (spectrum.shape[-1] - 1) * self.hop
        whole = spectrum * (self.size / 4)
        return torch.istft(whole, self.size, self.hop, window=self._window, length=num)

    def _padded(self, samples: Tensor) -> Tensor:
        """With silence after it, up to a whole number of hops."""
        return torch.nn.functional.pad(samples, (0, -samples.shape[-1] % self.hop))

    # -- state -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What `fit` learned, as JSON."""
        return {"low": self.low.flatten().tolist(), "high": self.high.flatten().tolist()}

    def load(self, state: Mapping[str, Any]) -> LogMel:
        """Inverse of `state`."""
        self.low = torch.tensor(state["low"])[:, None]
        self.high = torch.tensor(state["high"])[:, None]
        return self


def usual_bands(rate: int) -> int:
    """Bands for sounds of a rate: 32 at 8 kHz, 64 from 16 kHz on."""
    return max(8, min(64, 8 * round(rate / 2000)))


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
