"""A small modality of parts for tests: rows (number, category, list of numbers), in two views."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.spec import ProductSpec, TensorSpec

KINDS, LONGEST, BINS = ("red", "green", "blue"), 4, 300


class Rows(Codec):
    """JSON lines {"number": in [0, 1], "kind": a colour, "list": up to 4 numbers}."""

    views = ("parts", "tokens")
    view = "parts"

    def __init__(self) -> None:
        self.use_view("parts")

    @classmethod
    def recognises(cls, source: Path | str) -> Recognition | None:
        return Recognition(0.5, "rows") if str(source).endswith(".rows") else None

    def read(self, source: Path | str, report: Report) -> Iterator[Item]:
        with Path(source).open() as lines:
            for number, line in enumerate(lines):
                report.num_read += 1
                yield Item(json.loads(line), f"{Path(source).name}#{number}")

    def use_view(self, name: str) -> Codec:
        super().use_view(name)
        numbers = TensorSpec("real", (1, LONGEST), layout="sequence")
        parts = {
            "number": TensorSpec.vector(1),
            "kind": TensorSpec.columns((len(KINDS),)),
            "length": TensorSpec.label(LONGEST + 1),
            "list": numbers,
        }
        two = ProductSpec(parts, lengths={"list": "length"})
        self.spec = two if name == "parts" else TensorSpec.columns((BINS, len(KINDS)))
        return self

    def fit(self, items: Iterable[Item]) -> Codec:
        list(items)
        return self

    def encode(self, item: Item) -> Any:
        row = item.value
        number, kind = row["number"] * 2 - 1, KINDS.index(row["kind"])
        if self.view == "tokens":
            return torch.tensor([round(row["number"] * (BINS - 1)), kind])
        values = torch.zeros(1, LONGEST)
        values[0, : len(row["list"])] = torch.tensor(row["list"])
        return {
            "number": torch.tensor([number]),
            "kind": torch.tensor([kind]),
            "length": torch.tensor(len(row["list"])),
            "list": values,
        }

    def decode(self, x: Any) -> dict[str, Any]:
        if self.view == "tokens":
            return {"number": x[0].item() / (BINS - 1), "kind": KINDS[int(x[1])], "list": []}
        numbers = x["list"][0, : int(x["length"])].tolist()
        number = (x["number"].item() + 1) / 2
        return {"number": number, "kind": KINDS[int(x["kind"][0])], "list": numbers}

    def state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
        return cls()


def write_rows(path: Path, num: int, seed: int = 0) -> Path:
    """A file of rows drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    lines = []
    for _ in range(num):
        length = int(torch.randint(LONGEST + 1, (), generator=draw))
        row = {
            "number": float(torch.rand((), generator=draw)),
            "kind": KINDS[int(torch.randint(3, (), generator=draw))],
            "list": (torch.rand(length, generator=draw) * 2 - 1).tolist(),
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return path
