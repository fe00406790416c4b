"""What a signed statement says of a file, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ALONE = "a self-made certificate: it shows who signed only to those who know its fingerprint"


@dataclass(frozen=True)
class Credential:
    """A statement, as it was found."""

    kind: str  # "C2PA" or "side-car"
    problems: tuple[str, ...]  # what does not hold; none: nothing was changed since it was signed
    signer: str  # the name in its certificate, which may be anyone's
    known: str  # who that is, where its key is known here; else nothing
    says: Mapping[str, str]
    fingerprint: str = ""  # of the certificate, where it can be told
    ingredients: tuple[str, ...] = ()  # what it was made from, each with whether that holds
    signed: str = ""  # when, by the clock of whoever signed

    @property
    def is_valid(self) -> bool:
        """Whether file and statement are as they were signed; by whom is another question."""
        return not self.problems

    def lines(self) -> Iterator[str]:
        """For people."""
        if not self.is_valid:
            yield f"{self.kind} credential, which does NOT hold: {'; '.join(self.problems)}"
        else:
            by = self.known or f"{self.signer!r}, whose key is not known here: {ALONE}"
            yield f"{self.kind} credential, valid, signed by {by}"
        if self.signed:
            yield f"signed at {self.signed}"
        if self.says:
            yield "it says: " + ", ".join(f"{name}: {fact}" for name, fact in self.says.items())
        for each in self.ingredients:
            yield f"made from: {each}"
