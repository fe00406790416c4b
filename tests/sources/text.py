"""A small clean source of texts: a folder of notes, one of them with bytes beyond ASCII."""

from __future__ import annotations

from pathlib import Path

NOTES = (
    "The ferry leaves at nine.\nBring the blue folder.\n",
    "Soup: leeks, potatoes, cream.\n\n\tSalt at the end.  \n",
    "Crème brûlée for six, \u20ac 4.50 each \U0001f36e\n",
    "short",
)


def write(folder: Path) -> Path:
    """Four text files."""
    place = folder / "notes"
    place.mkdir(parents=True)
    for number, note in enumerate(NOTES):
        (place / f"note{number}.txt").write_text(note, encoding="utf-8")
    return place
