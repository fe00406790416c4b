"""The contract of the driver axis: a model that another library runs, behind capabilities.

    drivers/whisper.py    a folder as `transformers` writes it   ->  CanTranscribe

What our own networks do not cover is not written anew: a driver holds the library's modules, says
which folders it takes (`recognises`), opens one (`opened`), and has the capabilities that tasks ask
for. Its configuration is JSON and stands in the bundle's recipe, in the table [driver]; its weights
lie in model.safetensors as any model's do, and so do small files that the library wants beside them
(vocabularies), as bytes. It is rebuilt without the folder that it came from, and is not trained.
"""

from __future__ import annotations

import hashlib
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from morphogen.core.border import read_json
from morphogen.core.codec import Codec
from morphogen.core.errors import BundleError
from morphogen.core.family import Family
from morphogen.core.schema import options
from morphogen.core.spec import TensorSpec

HELD = "held."  # begins the names of tensors that are `Files`: a driver keeps them as `held`
MOST_NAMED = 8  # weights of each kind in a message


class Driver(Family):
    """A model that another library runs.

    Subclasses take `(spec, conditions, *, options...)`, where the options are JSON, keep each under
    its own name, and have capabilities. They build modules without weights: these come after.
    """

    # What config.json of a folder calls such models, for who asks what is known.
    model_types: ClassVar[tuple[str, ...]] = ()
    any_size: ClassVar[bool] = False  # whether it sees pictures of any size: `opened` takes it

    def __init__(self, spec: Any, conditions: Mapping[str, TensorSpec]) -> None:
        super().__init__(spec, conditions, None)  # type: ignore[arg-type]

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Whether this driver opens the folder: here, whether its config.json names one of the
        `model_types`. Nothing heavy is imported for it."""
        file = folder / "config.json"
        return file.is_file() and read_json(file).get("model_type") in cls.model_types

    @classmethod
    @abstractmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        """The model in a folder, with its weights in float32, and the codec of its items.

        Raises `BundleError` for what is missing, damaged or pickled.
        """

    def described(self) -> dict[str, Any]:
        """The options that build it anew, as JSON."""
        return {name: getattr(self, name) for name in options(type(self))}

    @property
    def device(self) -> torch.device:
        """Where its weights live, or what it keeps in their place."""
        return next((tensor.device for tensor in self.state_dict().values()), torch.device("cpu"))

    @property
    def num_bytes(self) -> int:
        """What its weights and files weigh."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())


class Files(nn.Module):
    """Small files that a library wants, as bytes among the weights: name -> number of bytes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self._made: tuple[str, Any] | None = None  # of which files, and what was made of them
        for name, size in self.sizes.items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ValueError(f"a file called {name!r} lies elsewhere")
            self.register_buffer(_key(name), torch.zeros(size, dtype=torch.uint8))

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Files:
        """Files that hold this."""
        files = cls({name: len(content) for name, content in contents.items()})
        for name, content in contents.items():
            held: Tensor = getattr(files, _key(name))
            held.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        return files

    def content(self, name: str) -> bytes:
        """The bytes of a file."""
        held: Tensor = getattr(self, _key(name))
        return held.cpu().numpy().tobytes()

    def digest(self) -> str:
        """What tells these files from others: they may have come after the module was built."""
        told = hashlib.sha256()
        for name in sorted(self.sizes):
            told.update(name.encode() + b"\0" + self.content(name))
        return told.hexdigest()

    def made(self, make: Callable[[Path], Any]) -> Any:
        """What `make` makes of a folder with these files: kept for as long as they are the same,
        of one maker."""
        digest = self.digest()
        if self._made is None or self._made[0] != digest:
            with self.unpacked() as folder:
                self._made = digest, make(folder)
        return self._made[1]

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """A folder with these files, for as long as they are read."""
        with tempfile.TemporaryDirectory(prefix="morphogen-") as folder:
            for name in self.sizes:
                file = Path(folder, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.content(name))
            yield Path(folder)


def _key(name: str) -> str:
    return name.replace(".", "_")  # no name of a tensor has a point


def contents_of(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Those of these files that are in the folder, by their names."""
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def check_loaded(told: Mapping[str, Any], what: str, where: object) -> None:
    """Raise `BundleError` unless a library says that it found all weights of a model, and no more.

    `told` is what `from_pretrained(output_loading_info=True)` gives, of either library.
    """
    misfits = {
        "missing": sorted(told.get("missing_keys") or ()),
        "too many": sorted(told.get("unexpected_keys") or ()),
        "of another shape": sorted(
            f"{name} {tuple(found)} in place of {tuple(wanted)}"
            for name, found, wanted in told.get("mismatched_keys") or ()
        ),
    }
    if found := [listed(kind, names) for kind, names in misfits.items() if names]:
        raise BundleError(
            f"the weights are not those of this {what}", found="; ".join(found), where=where
        )


def listed(kind: str, names: list[str]) -> str:
    """How many weights of a kind there are, and the first of them."""
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} {kind}: {', '.join(names[:MOST_NAMED])}{more}"
