"""A codec around another: what it does not do itself, the one inside does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from morphogen.core.capability import HasFeatures, HasStageFeatures, missing
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.family import weights_digest


class CodecAround(Codec):
    """Reads, writes and shows items as `inner` does; `encode`, `decode` and `spec` are its own."""

    inner: Codec
    model: Any = None  # a trained one that it encodes by, if it does
    makes: ClassVar[str] = "latents"  # what that makes of items

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.suffix = inner.suffix  # type: ignore[misc]
        self.unit = inner.unit  # type: ignore[misc]

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        """Never: a codec around another is asked for."""
        return None

    def read(self, source: Path | str, report: Report) -> Iterator[Item]:
        """The items of `source`, as the inner codec reads them."""
        return self.inner.read(source, report)

    def read_inputs(self, source: Path | str) -> list[Item]:
        """The items of a task's input, as the inner codec reads them."""
        return self.inner.read_inputs(source)

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        """A piece of a page, as the inner codec makes it."""
        return self.inner.html(values, columns)

    def brief(self, value: Any, most: int = 40) -> str:
        """A value in a few words, as the inner codec puts it."""
        return self.inner.brief(value, most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        """Write raw values as the inner codec does."""
        return self.inner.write(values, path, columns)

    def write_part(
        self,
        values: Sequence[Any],
        path: Path,
        first: int,
        total: int,
        columns: int | None = None,
    ) -> Path:
        """Write a part of many values as the inner codec does."""
        return self.inner.write_part(values, path, first, total, columns)

    def write_map(self, values: Sequence[Any], positions: Tensor, path: Path) -> Path:
        """Draw a map as the inner codec does."""
        return self.inner.write_map(values, positions, path)

    def mark(self, path: Path, facts: Mapping[str, str], numbers: Sequence[int]) -> None:
        """Put `facts` into the files that `write` made, where the inner codec does."""
        if hasattr(self.inner, "mark"):
            self.inner.mark(path, facts, numbers)

    def odd(self, item: Item) -> tuple[str, str] | None:
        """What is odd about an item, as the inner codec sees it."""
        return self.inner.odd(item)

    @property
    def digest(self) -> str:
        """A hash of the weights of `model`."""
        return weights_digest(self.model)


def seen_in(model: Any, x: Any, *, stages: bool = True) -> Tensor:
    """What a model sees in items (B, *), each as a whole: what its stages see, where it tells that
    and is to, else its features, else its latents. (B, D), on the CPU."""
    if stages and not missing(model, HasStageFeatures):
        look = model.stage_features
    else:
        look = model.encode if missing(model, HasFeatures) else model.features
    found: Tensor = look(x.to(model.device)).flatten(1).float().cpu()
    return found
