r"""A mark that is not heard: keyed tones, 1 Hz apart, that repeat every second.

    w(t) = sum over k of cos(2 pi k t + phi_k),   300 <= k <= 3400 Hz

In every short piece of the sound each frequency gets some of it in proportion to how loud the sound
is there, so that it is masked by what is heard anyway. To find it the sound is brought to 8 kHz,
its spectrum is made flat, it is folded onto one second, and its phases are compared with those of
the key at every shift (see `provenance.phases`). MP3, Ogg, telephones and other rates keep what is
between 300 and 3400 Hz. A sound that is played faster or slower is not looked for.

Legend: C channels, N samples, F frequencies, T pieces.
"""

from __future__ import annotations

import numpy as np

from morphogen.modalities.sound.files import Waveform, mixed, resampled
from morphogen.provenance.phases import chance, phases, unit

LOWEST, HIGHEST = 300, 3400  # Hz
RATE = 8000  # at which it is looked for
PIECE = 0.064  # seconds of sound that are looked at together
STRENGTH = 0.1  # of the loudness at a frequency: 20 dB below it
SMOOTH = 7  # frequencies over which loudness is taken
FLOOR = 1e-3  # of the loudest: what is quieter counts as quiet as this


def watermarked(sound: Waveform, key: bytes) -> Waveform:
    """A sound with the mark of a key, the same in all channels."""
    num = sound.samples.shape[1]
    tones = _tones(key, sound.rate)
    whole = np.tile(tones, -(-num // sound.rate))[:num]
    made = [_added(channel.astype(np.float64), whole, sound.rate) for channel in sound.samples]
    samples = np.clip(sound.samples + np.stack(made), -1, 1).astype(np.float32)
    return Waveform(samples, sound.rate)


def chance_of(sound: Waveform, key: bytes) -> float:
    """How probable it is that a sound without the mark would sound as marked as this."""
    samples = resampled(mixed(sound, 1), RATE).samples[0].astype(np.float64)
    if len(samples) < RATE // 10:
        return 1.0
    flat = _flat(samples, RATE)
    folded = np.pad(flat, (0, -len(flat) % RATE)).reshape(-1, RATE).sum(0)
    own = unit(np.fft.fft(folded)[LOWEST : HIGHEST + 1])
    agree = np.zeros(RATE, complex)
    agree[LOWEST : HIGHEST + 1] = own * np.exp(-1j * _phases(key))
    evidence = float(np.fft.ifft(agree).real.max() * RATE)
    return chance(evidence, HIGHEST + 1 - LOWEST, RATE)


def _added(samples: np.ndarray, tones: np.ndarray, rate: int) -> np.ndarray:
    """What is added to samples (N,): the tones, as loud as the sound allows (N,)."""
    _, loudness = _spectrum(samples, rate)
    own, _ = _spectrum(tones, rate)
    band = slice(round(LOWEST * PIECE), round(HIGHEST * PIECE) + 1)
    level = np.sqrt(np.mean(np.abs(own[band]) ** 2))
    added = own / max(level, 1e-12) * loudness * STRENGTH
    return _sound(added, rate, len(samples))


def _flat(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (N,) whose spectrum is about as loud everywhere, all the time: (N,)."""
    spectrum, loudness = _spectrum(samples, rate)
    return _sound(spectrum / (loudness + FLOOR * loudness.max() + 1e-12), rate, len(samples))


def _spectrum(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Short pieces of samples (N,) by frequency (F, T), and how loud each is with its
    neighbours (F, T)."""
    from scipy.ndimage import uniform_filter1d  # type: ignore[import-untyped]
    from scipy.signal import stft  # type: ignore[import-untyped]

    size = _size(rate)
    _, _, spectrum = stft(samples, rate, nperseg=size, boundary="zeros", padded=True)
    around = uniform_filter1d(np.abs(spectrum) ** 2, SMOOTH, axis=0)
    return spectrum, np.sqrt(np.maximum(around, 0))


def _sound(spectrum: np.ndarray, rate: int, num: int) -> np.ndarray:
    from scipy.signal import istft  # type: ignore[import-untyped]

    _, samples = istft(spectrum, rate, nperseg=_size(rate), boundary=True)
    return np.pad(samples, (0, max(num - len(samples), 0)))[:num]


def _size(rate: int) -> int:
    return max(2 * round(PIECE * rate / 2), 8)


def _phases(key: bytes) -> np.ndarray:
    return phases(key, "tones in sounds", HIGHEST + 1 - LOWEST)


def _tones(key: bytes, rate: int) -> np.ndarray:
    """One second of the tones of a key, those below half the rate: (rate,)."""
    spectrum = np.zeros(rate // 2 + 1, complex)
    last = min(HIGHEST, (rate - 1) // 2)
    if last < LOWEST:
        return np.zeros(rate)
    spectrum[LOWEST : last + 1] = np.exp(1j * _phases(key)[: last + 1 - LOWEST])
    tones = np.fft.irfft(spectrum, rate)
    return tones / tones.std()
