"""The tensors in a folder of `transformers`: one file, or several with an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from morphogen.core.border import read_json
from morphogen.core.errors import BundleError
from morphogen.core.folder import MODEL
from morphogen.core.storage import read_tensors

INDEX = f"{MODEL}.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # of 2018


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors in float32, whatever they were stored as. Raises `BundleError`."""
    if (folder / MODEL).is_file():
        return _plain(read_tensors(folder / MODEL))
    if (folder / INDEX).is_file():
        return _of_several(folder)
    if any((folder / name).is_file() for name in PICKLED):
        raise BundleError(
            "the weights are pickled, and opening a pickle runs whatever code is in it",
            found=PICKLED[0], expected=MODEL, where=folder,
            hint="in Python, if you trust it: transformers.AutoModel.from_pretrained(FOLDER)"
            ".save_pretrained(FOLDER)",
        )  # fmt: skip
    raise BundleError(
        "there are no weights", expected=f"{MODEL}, or {INDEX} with the files that it names",
        where=folder,
    )  # fmt: skip


def _of_several(folder: Path) -> dict[str, Tensor]:
    files: Mapping[str, str] = read_json(folder / INDEX, {"weight_map": {str: str}})["weight_map"]
    names = sorted({*files.values()})
    if strange := [name for name in names if Path(name).name != name]:
        raise BundleError("a file of the weights lies elsewhere", found=strange[0], where=folder)
    if gone := [name for name in names if not (folder / name).is_file()]:
        raise BundleError(
            "files of the weights are missing",
            found=", ".join(gone[:8]), expected=f"{len(names)} files", where=folder,
        )  # fmt: skip
    found: dict[str, Tensor] = {}
    for name in names:
        found |= _plain(read_tensors(folder / name))
    return found


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        for old, new in OLD.items():
            name = name.replace(old, new)
        found[name] = tensor.float()
    return found
