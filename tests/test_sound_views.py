"""Sounds as they are learned: bands of pitch, tokens, samples; and what is odd in them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import morphogen as mg
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.data.inspect import inspect
from morphogen.modalities.sound import Sound, codes
from morphogen.modalities.sound.files import Waveform, as_wav, opened
from morphogen.modalities.sound.mel import AFTER, QUIET, LogMel
from morphogen.modalities.sound.page import spectrogram

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 8000


def tone(seconds: float = 0.3, pitch: float = 440.0, height: float = 0.5) -> np.ndarray:
    """(1, N) a sine that swells and fades."""
    time = np.arange(int(seconds * RATE)) / RATE
    rise = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    return (height * rise * np.sin(2 * np.pi * pitch * time))[None].astype(np.float32)


def sounds(num: int = 6) -> list[Item]:
    return [Item(Waveform(tone(0.1 + 0.04 * i, 300 + 200 * i), RATE), f"{i}") for i in range(num)]


# -- bands ----------------------------------------------------------------------------------------


def test_bands_are_those_of_a_reference_library() -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils")
    mel = LogMel(16_000, 64, 16.0)
    expected = audio_utils.mel_filter_bank(
        mel.size // 2 + 1, 64, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk"
    ).T
    expected = expected / expected.sum(1, keepdims=True)
    np.testing.assert_allclose(mel.filters.numpy(), expected, atol=1e-5)


def test_frames_are_those_of_a_reference_library() -> None:
    signal = pytest.importorskip("scipy.signal")
    mel, x = LogMel(RATE, 40, 16.0), torch.from_numpy(tone(0.32))
    _, _, expected = signal.stft(
        x[0].numpy(), RATE, nperseg=mel.size, noverlap=mel.size - mel.hop, boundary="zeros"
    )
    found = mel._spectrum(x)[0].abs().numpy() / 2
    np.testing.assert_allclose(found, np.abs(expected)[:, : found.shape[1]], atol=1e-5)


def test_every_band_sums_to_one_however_narrow() -> None:
    for rate, bands, hop in ((8000, 40, 16.0), (1000, 64, 2.0), (44_100, 64, 8.0), (11, 8, 16.0)):
        sums = LogMel(rate, bands, hop).filters.sum(1)
        assert torch.allclose(sums, torch.ones(bands), atol=1e-5)


@pytest.mark.parametrize("pitch", [250.0, 1000.0, 3000.0])
def test_a_tone_comes_back_with_its_pitch_loudness_and_length(pitch: float) -> None:
    sound = tone(0.4, pitch)
    codec = Sound().fit([Item(Waveform(sound, RATE)), *sounds()])
    back = codec.decode(codec.encode(Item(Waveform(sound, RATE)))).samples
    assert 0 <= back.shape[1] - sound.shape[1] < 2 * codec.mel.hop
    peaks = [np.abs(np.fft.rfft(each[0], RATE)).argmax() for each in (sound, back)]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05, abs=30)  # half a band
    loud = [20 * math.log10(float(np.sqrt(np.square(each).mean()))) for each in (sound, back)]
    assert loud[1] == pytest.approx(loud[0], abs=2.0)
    again = codec.decode(codec.encode(Item(Waveform(sound, RATE)))).samples
    assert np.array_equal(again, back)


def test_what_is_heard_again_is_what_was_seen() -> None:
    """Bands of the decoded sound are those that it was decoded from, to a few decibels."""
    time, draw = np.arange(2400) / RATE, np.random.default_rng(0)
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    voice = 0.2 * buzz * np.sin(np.pi * time / 0.3) + 0.002 * draw.standard_normal(len(time))
    items = [Item(Waveform(voice[None].astype(np.float32), RATE))]
    codec = Sound().fit(items)
    x = codec.encode_many(items)
    again = codec.encode_many([Item(value) for value in codec.decode_many(x)])
    decibels = (codec.mel.high - codec.mel.low) / (1 - QUIET)  # of a unit of x
    loud = (x > 0) & (again > AFTER)
    assert float(((again - x).abs() * decibels)[loud].mean()) < 2.0


@pytest.mark.parametrize("num", [2, 9, 24])
def test_the_length_is_read_through_noise(num: int) -> None:
    mel = LogMel(RATE, 40, 16.0)
    x = torch.full((1, 40, 24), AFTER)
    x[..., :num] = torch.linspace(QUIET, 0.9, 40)[:, None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(num))
    assert mel.length(x) == num
    assert mel.length(x + 0.3 * noise) == num
    assert mel.length(torch.full_like(x, AFTER)) == 2  # there is always something to hear


def test_stereo_keeps_its_sides() -> None:
    pair = Waveform(np.concatenate([tone(0.2, 400), tone(0.2, 1500)]), RATE)
    codec = Sound().fit([Item(pair)])
    assert codec.spec.shape[0] == 2
    left, right = codec.decode(codec.encode(Item(pair))).samples
    peaks = [int(np.abs(np.fft.rfft(side, RATE)).argmax()) for side in (left, right)]
    assert peaks == pytest.approx([400, 1500], rel=0.05)


# -- tokens ---------------------------------------------------------------------------------------


def test_codes_are_finer_where_it_is_quiet() -> None:
    every = torch.arange(256)
    values = codes.from_codes(every, 1)
    assert torch.equal(codes.to_codes(values), every)
    assert bool((values.diff() > 0).all())
    x = torch.linspace(-1, 1, 4001)[None]
    error = (codes.from_codes(codes.to_codes(x), 1) - x).abs()
    assert float((error / (x.abs() + 1 / 255)).max()) < 0.025
    two = torch.tensor([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    told = codes.to_codes(two)
    assert told.shape == (6,)
    assert torch.allclose(codes.from_codes(told, 2), two, atol=0.01)
    cut = torch.cat([told[:5], torch.tensor([codes.END, 3])])
    assert codes.from_codes(cut, 2).shape == (2, 2)  # half of a sample is none


def test_items_of_tokens_end_where_sounds_do() -> None:
    codec = Sound().fit(sounds()).use_view("codes")
    x = codec.encode_many(sounds())
    assert codec.spec.is_ragged
    lengths = [item.value.samples.shape[1] for item in sounds()]
    assert (x != codes.END).sum(1).tolist() == lengths
    assert [value.samples.shape[1] for value in codec.decode_many(x)] == lengths


# -- what is odd ----------------------------------------------------------------------------------


def test_silent_and_clipped_sounds_are_named_and_rates_told(tmp_path: Path) -> None:
    made = {
        "fine": tone(), "silent": np.zeros((1, 800), np.float32),
        "clipped": np.clip(8 * tone(), -1, 1), "loud": tone(height=1.0),
    }  # fmt: skip
    for name, samples in made.items():
        (tmp_path / f"{name}.wav").write_bytes(as_wav(Waveform(samples, RATE)))
    (tmp_path / "slow.wav").write_bytes(as_wav(Waveform(tone(), RATE // 2)))
    (tmp_path / "wide.wav").write_bytes(as_wav(Waveform(np.repeat(0.9 * tone(), 2, 0), RATE)))
    report = Report(str(tmp_path))
    items = list(Sound().read(tmp_path, report))
    assert len(items) == len(made) + 2
    said = {problem.name: problem.reason for problem in report.problems}
    assert said.keys() == {"silent.wav", "clipped.wav"}
    assert "silent" in said["silent.wav"]
    assert "cut off at full scale" in said["clipped.wav"]
    found = inspect(tmp_path)
    assert found.facts["rates"] == {"8,000 Hz": 5, "4,000 Hz": 1}
    assert "become 8,000 Hz" in found.facts["resampled"]
    named = inspect(tmp_path, file_names="{speaker}", bands=16).next_command
    assert "--set 'modality.file_names={speaker}' --set modality.bands=16" in named
    codec = Sound().fit(items)
    assert codec.facts["mixed"] == "1 of 6 sounds become mono"
    silence = codec.encode(items[[item.name for item in items].index("silent.wav")])
    assert bool(((silence == AFTER) | (silence == QUIET)).all())


def test_every_byte_of_a_header_may_be_wrong() -> None:
    """A file is read, or it says why not; nothing else is raised."""
    whole = as_wav(Waveform(tone(0.02), RATE))
    for place in range(44):
        for value in (0, 255):
            broken = whole[:place] + bytes([value]) + whole[place + 1 :]
            try:
                found = opened(broken)
            except DataError as error:
                assert error.hint  # noqa: PT017
            else:
                assert found.samples.size
                assert np.isfinite(found.samples).all()


def test_the_longest_in_a_hundred_does_not_make_all_items_long() -> None:
    many = [Item(Waveform(tone(0.1), RATE)) for _ in range(150)]
    codec = Sound().fit([*many, Item(Waveform(tone(4.0), RATE))])
    assert codec.num_samples < RATE // 4
    assert codec.facts["cut"].startswith("1 of 151 sounds")
    assert Sound(seconds=4).fit(many).num_samples == 4 * RATE
    few = Sound().fit([*many[:9], Item(Waveform(tone(4.0), RATE))])
    assert "room for 4.00 s, and half of the sounds take 0.10" in few.facts["mostly_empty"]
    assert "mostly_empty" not in codec.facts


@pytest.mark.parametrize("wrong", [{"bands": 2}, {"hop": 0.0}, {"seconds": 0.0}, {"rate": 0}])
def test_options_that_do_not_fit_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(wrong))} does not fit"):
        Sound(**wrong)  # type: ignore[arg-type]


# -- for people, and the road ---------------------------------------------------------------------


def test_a_picture_shows_pitch_upwards() -> None:
    from PIL import Image

    picture = Image.open(io.BytesIO(spectrogram(Waveform(tone(0.3, 3500), RATE))))
    rows = np.asarray(picture).astype(float).mean(1)
    assert rows.argmax() < len(rows) / 4
    shown = Sound().fit(sounds()).html([item.value for item in sounds(2)], 8)
    assert shown.count("<audio") == shown.count("<img") == 2
    assert "Spectrogram: 0.10 s, 8 kHz, mono" in shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """High and low tones, whose names say so."""
    place = tmp_path_factory.mktemp("tones")
    draw = np.random.default_rng(0)
    for i in range(48):
        low = i % 2
        pitch = draw.uniform(200, 300) if low else draw.uniform(1500, 2500)
        sound = Waveform(tone(draw.uniform(0.08, 0.12), pitch), RATE)
        (place / f"{('high', 'low')[low]}_{i % 3}_{i}.wav").write_bytes(as_wav(sound))
    return place


def test_the_whole_road(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, drawn by label, filled, varied, cleaned, judged, shown."""
    monkeypatch.setattr("morphogen.training.curves.MOST_PANELS", 1)
    monkeypatch.setattr("morphogen.evaluation.features.FEWEST_STEPS", 5)
    monkeypatch.setattr("morphogen.evaluation.features.MOST_STEPS", 5)
    settings = [
        "modality.file_names={label}_{test=0}_{}", "modality.bands=8", "modality.hop=32",
        "family.num_steps=2",
        "backbone.model_dim=8", "train.batch_size=16", "train.num_previews=1",
    ]  # fmt: skip
    bundle = mg.train(folder, budget="4steps", out=tmp_path / "model", settings=settings)
    assert bundle.recipe.family["name"] == "flow_matching"
    drawn = bundle.sample(2, cond={"label": "low"}, seed=0)
    assert opened(drawn.save(tmp_path / "low.wav").read_bytes()).rate == RATE
    some = [str(path) for path in sorted(folder.glob("*.wav"))[:2]]
    for name in ("fill", "vary", "denoise"):
        steps = {"num_steps": 3} if name != "denoise" else {}
        result = bundle.task(name, *some, seed=0, **steps)
        assert result.save(tmp_path / f"{name}.wav").stat().st_size > 44
    told = mg.evaluate(bundle, num=20)
    assert told["copying"]["verdict"]
    assert "<audio" in (tmp_path / "model" / "evaluation.html").read_text()


def test_texts_are_learned_given_their_sounds_and_sounds_given_texts(
    folder: Path, tmp_path: Path
) -> None:
    names = "{caption}_{test=0}_{}"
    data = mg.load(folder, file_names=names, given="sound")
    assert type(data.codec).__name__ == "Text"
    assert set(data.conditions) == {"sound"}
    assert (len(data.train), len(data.test)) == (32, 16)
    assert data.report.problems == []  # the same word, said anew, is no copy
    small = ["backbone.name=rnn", "backbone.model_dim=8", "train.num_previews=0"]
    bundle = mg.train(data, budget="3steps", out=tmp_path / "hears", settings=small)
    heard = bundle.sample(2, cond={"sound": str(folder / "high_0_0.wav")}, seed=0)
    assert all(isinstance(text, str) for text in bundle.codec.decode_many(heard.x))
    assert mg.load(folder, **bundle.data["options"]).digest == data.digest
    spoken = mg.load(folder, file_names=names, conditions="caption")
    assert spoken.codec.class_names("caption") == ["high", "low"]  # so few are told apart by name
    with pytest.raises(DataError, match="nothing is said of any sound"):
        mg.load(folder, given="sound")
