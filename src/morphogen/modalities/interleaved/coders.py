"""What gives the parts of an item their tokens: a trained bundle for files, BPE for texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec
from morphogen.core.errors import DataError, RefusedPair

TEXT = "text"


class Coders:
    """Codecs that encode to tokens, by the kind of what they read: `image`, `sound`, `text`.

    `told` names bundles with commas between, which are opened when the first file is. Raises
    `RefusedPair` for one whose latents are no tokens, and for two of one kind.
    """

    def __init__(self, told: str = "") -> None:
        self.told, self._by_kind = told, dict[str, Codec]()
        self._by_suffix: dict[str, Codec] = {}  # who was surest of a file that is called so
        self._left = [each.strip() for each in told.split(",") if each.strip()]

    def __getitem__(self, kind: str) -> Codec:
        return self._known()[kind]

    def add(self, kind: str, coder: Codec) -> None:
        """Take a fitted codec for a kind."""
        self._by_kind[kind] = coder

    def opened(self, name: str, path: Path) -> Any:
        """What a file holds, read by the coder that recognises it."""
        coder = self._by_suffix.get(path.suffix)
        if coder is None:
            coder = self._surest(lambda codec: type(codec).recognises(path), name, path.name)
            self._by_suffix[path.suffix] = coder
        items = coder.read_inputs(path)
        if len(items) != 1:
            raise DataError(
                "a part is one item", found=f"{len(items):,} in {path.name}", expected="one"
            )
        return items[0].value

    def kind_of_values(self, name: str, values: Sequence[Any]) -> str:
        """The kind of raw values that are no texts."""
        found = self._surest(
            lambda codec: type(codec).recognises_cells(values), name, type(values[0]).__name__
        )
        return next(kind for kind, coder in self._known().items() if coder is found)

    def _surest(self, ask: Any, name: str, found: str) -> Codec:
        asked = [(ask(coder.innermost), coder) for kind, coder in self._known().items()
                 if kind != TEXT]  # fmt: skip
        sure = [(told.sure, n) for n, (told, _) in enumerate(asked) if told is not None]
        if not sure:
            raise RefusedPair(
                f"nothing gives tokens to what stands in {name!r}",
                found=found,
                expected="a bundle that was trained on such files and encodes to tokens"
                + (f"; there is {self.told}" if self.told else ""),
                hint="morphogen train FILES --family vq_vae --out models/codes, then "
                "--set modality.coders=models/codes",
            )
        return asked[max(sure)[1]][1]

    def _known(self) -> dict[str, Codec]:
        while self._left:
            path = self._left.pop(0)
            bundle = Bundle.open(path)
            coder: Codec = discover.find("wrapper", "latent_codec").from_bundle(bundle)
            kind = discover.name_of(type(coder.innermost))
            spec = coder.spec
            if spec.kind != "token" or len(spec.shape) != 1 or spec.sizes is not None:
                raise RefusedPair(
                    f"the latents of {path} are no tokens",
                    found=str(spec),
                    expected="a vq_vae",
                    hint="morphogen train FILES --family vq_vae --out models/codes",
                )
            if kind in self._by_kind:
                raise RefusedPair(
                    f"two bundles give codes to what is read by {kind}",
                    found=self.told,
                    expected="one for each kind of file",
                )
            self._by_kind[kind] = coder.fit([])
        return self._by_kind


def kind_of(name: str, values: Sequence[Any], coders: Coders) -> str:
    """What a part is: text, or what a coder reads. Raises `RefusedPair` where none does, and
    `DataError` where some of it is text."""
    texts = sum(isinstance(value, str) for value in values)
    if texts == len(values):
        return TEXT
    if texts:
        raise DataError(
            f"{name!r} holds files and texts",
            found=next(value for value in values if isinstance(value, str))[:60],
            expected="files that are there, or texts",
            hint="correct the paths: they are looked for in the folder of the table and below it",
        )
    return coders.kind_of_values(name, values)
