r"""A checker: whether a claim follows from a sentence, by a small model that was trained here.

It is a `Reader` that reads the claim where a reader reads the question: p(follows | source, claim).
It joins the rules of `verifying`, and does not take their place:

    no number, name, denial or opposite is against it, but too few words are shared
        supported where p >= sure
    the rules support it
        supported unless p < doubt

What is there of facts stays with the rules. Both bounds are chosen on documents that it did not
learn from (`learn_checker`). The same texts have the same verdict: nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from morphogen.core.errors import BundleError
from morphogen.systems.knowledge.reader import Reader

NEVER = 2.0  # no probability reaches it
WHAT = "checker"  # in the facts of a reader that is one


@dataclass(frozen=True)
class Checker:
    """A reader of claims, and its two bounds."""

    reader: Reader
    sure: float = NEVER
    doubt: float = 0.0

    def follows(self, claim: str, sources: Sequence[str]) -> list[float]:
        """How probable it is that each source says so."""
        return self.reader.scores(claim, sources)

    def save(self, folder: Path | str) -> Path:
        """Write it, as a reader that says what it is."""
        self.reader.bound = self.sure
        self.reader.facts = {**self.reader.facts, "what": WHAT, "doubt": self.doubt}
        return self.reader.save(folder)

    @classmethod
    def open(cls, folder: Path | str) -> Checker:
        """Raises `BundleError` for a folder that holds none."""
        reader = Reader.open(folder)
        doubt = reader.facts.get("doubt")
        if reader.facts.get("what") != WHAT or not isinstance(doubt, float):
            raise BundleError(
                "this reader answers questions, and was not taught to check claims", where=folder,
                hint=f"morphogen learn checker INDEX --out {folder}",
            )  # fmt: skip
        return cls(reader, reader.bound, doubt)
