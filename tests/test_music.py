"""Music: notes on a grid, whatever file they come from, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import morphogen as mg
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError
from morphogen.modalities.music import END, STEP, Music
from morphogen.modalities.music.files import as_midi, opened, rendered
from morphogen.modalities.music.piece import Piece
from morphogen.testing.modalities import check_codec


def scale(start: int, num: int = 12) -> Piece:
    """A scale in thirds with a held bass."""
    return Piece.of([[start - 12, start + i, start + i + 4] for i in range(num)])


@pytest.fixture
def rolls(tmp_path: Path) -> Path:
    """A file of pieces in three parts, as JSON."""
    file = tmp_path / "rolls.json"
    parts = {"train": range(60, 72), "valid": range(72, 74), "test": range(74, 78)}
    told = {
        name: [[list(step) for step in scale(start).steps] for start in starts]
        for name, starts in parts.items()
    }
    file.write_text(json.dumps(told))
    return file


def test_a_codec_keeps_its_contract(rolls: Path) -> None:
    check_codec(Music, rolls)


def test_what_is_written_is_read_again() -> None:
    codec = Music()
    piece = Piece.of([[60, 64, 67], [], [59, 62], [59, 62]])
    codec.fit([Item(piece)])
    x = codec.encode(Item(piece))
    assert x.tolist() == [39, 43, 46, STEP, STEP, 38, 41, STEP, 38, 41, STEP, END]
    assert codec.decode(x) == piece
    assert float(codec.num_units(x[None])) == 4
    short = Music(length=9).fit([Item(piece)])
    assert short.decode(short.encode(Item(piece))).steps == piece.steps[:3]  # whole steps alone


def test_midi_goes_there_and_back() -> None:
    pytest.importorskip("mido")
    piece = Piece.of([[60, 64], [60, 65], [60], [], [72]], per_beat=4)
    again = opened(as_midi(piece))
    assert again.steps == piece.steps
    assert again.per_beat == 4
    assert again.tempo == pytest.approx(90)
    assert piece.notes() == [(60, 0, 3), (64, 0, 1), (65, 1, 1), (72, 4, 1)]
    for damaged in (b"MThd", as_midi(piece)[:30], as_midi(Piece(((),)))):
        with pytest.raises(DataError, match=r"no MIDI|no note"):
            opened(damaged)


def test_a_tempo_that_changes_is_told_and_notes_stay_on_their_beats(tmp_path: Path) -> None:
    mido = pytest.importorskip("mido")
    for name, later in (("steady", 90), ("slower", 45)):
        path = tmp_path / f"{name}.mid"
        path.write_bytes(as_midi(scale(60)))
        song = mido.MidiFile(path)
        song.tracks[0].append(mido.MetaMessage("set_tempo", tempo=round(60e6 / later), time=0))
        song.save(path)
    report = Report("")
    one, other = (item.value for item in Music().read(tmp_path, report))
    assert one == other
    assert one.tempo == pytest.approx(90)
    assert report.facts["tempo_changes_left_out"] == 1


def test_a_rendered_note_has_its_pitch() -> None:
    samples = torch.from_numpy(rendered(Piece.of([[69]] * 4)))[:22_050]
    spectrum = torch.fft.rfft(samples).abs()
    assert int(spectrum.argmax()) == pytest.approx(440, abs=2)


def test_pieces_are_moved_within_the_piano() -> None:
    codec = Music(transpose=5)
    low, high = Piece.of([[21, 40], [22]]), Piece.of([[100, 108]])
    codec.fit([Item(low), Item(high)])
    x = codec.encode_many([Item(low), Item(high)]).repeat(8, 1)
    moved = codec.augmented(x, torch.linspace(0, 0.999, len(x)))
    assert torch.equal(moved >= STEP, x >= STEP)
    for before, after in zip(x, moved, strict=True):
        (shift,) = set((after - before)[before < STEP].tolist())
        assert -5 <= shift <= 5
        codec.decode(after)  # on the piano
    assert len({tuple(row) for row in moved[::2].tolist()}) > 2
    as_it_is = torch.full((len(x),), (codec.as_it_is + 0.5) / codec.variants)
    assert codec.augmented(x, as_it_is).equal(x)
    with pytest.raises(DataError, match="piano"):
        Piece.of([[109]])


def test_what_is_no_music_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "broken.mid").write_bytes(b"MThd nothing")
    (folder / "fine.mid").write_bytes(as_midi(scale(60)))
    report = Report(str(folder))
    (item,) = Music().read(folder, report)
    assert item.value.steps[::4] == scale(60).steps  # on a grid of sixteenths
    assert [problem.name for problem in report.skipped] == ["broken.mid"]
    bad = tmp_path / "bad.json"
    bad.write_text("[[[60, 200]]]")
    with pytest.raises(DataError, match="piano"):
        Music().read_inputs(bad)


def test_the_whole_road(rolls: Path, tmp_path: Path) -> None:
    data = mg.load(rolls)
    assert type(data.codec).__name__ == "Music"
    assert (len(data.train), len(data.test)) == (14, 4)
    bundle = mg.train(
        rolls, budget="30steps", out=tmp_path / "bach",
        settings=["backbone.model_dim=32", "backbone.num_layers=1", "train.batch_size=8"],
    )  # fmt: skip
    drawn = bundle.sample(2, seed=0)
    drawn_pieces = bundle.codec.decode_many(drawn.x)
    assert all(isinstance(piece, Piece) for piece in drawn_pieces)
    drawn.save(tmp_path / "songs.mid")
    assert opened((tmp_path / "songs.mid").read_bytes()).steps
    assert "<svg" in bundle.codec.html(drawn_pieces)
