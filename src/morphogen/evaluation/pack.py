"""What of a bundle is safe to give away, and what it still tells of the data.

Weights, config, scores, the card and the judge go; the log, checkpoints and previews stay. The page
of the evaluation shows real items, of the training split among them, and goes only when asked for.
What is left of the data in the rest is listed: nobody should have to find out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.config import read_config
from morphogen.core.errors import BundleError
from morphogen.core.folder import CODEC, MODEL, SCHEDULE
from morphogen.core.storage import write_atomic
from morphogen.data.listing import read_hashes
from morphogen.data.places import name_of
from morphogen.evaluation.card import write_card

PAGE, CARD = "evaluation.html", "README.md"
FILES = (MODEL, CODEC, SCHEDULE, "metrics.json", CARD, "curves.png", "data_files.json.gz")
JUDGES = "features-*.safetensors"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bundle gives the same archive
NAMED = 20  # classes that are listed by name


@dataclass
class Packed:
    """An archive, and what it holds of the data."""

    path: str
    files: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{len(self.files)} files in {self.path}", "it holds of the data:"]
        lines += [f"  {each}" for each in self.holds]
        return "\n".join([*lines, f"left out: {', '.join(self.left_out) or 'nothing'}"])


def pack(
    bundle: Path | str, out: Path | str | None = None, *, items: bool = False, trust: bool = False
) -> Packed:
    """Write what is safe to give away of a bundle into a zip archive, beside it unless told.

    With `items`, the page of its evaluation goes along, which shows real items. Raises
    `BundleError` when the folder holds no whole bundle, or the archive exists.
    """
    folder = Path(bundle)
    opened = Bundle.open(folder, trust=trust)  # whole, and what its hashes say
    out = Path(out) if out is not None else folder.resolve().with_suffix(".zip")
    if out.exists():
        raise BundleError(
            "the archive exists and is not overwritten", where=out, hint="--out another.zip"
        )
    write_card(folder, trust=trust)
    wanted = [*FILES, *([PAGE] if items else [])]
    chosen = [folder / name for name in wanted if (folder / name).is_file()]
    chosen += sorted(folder.glob(JUDGES))
    texts = {"config.json": json.dumps(_told(read_config(folder)), indent=2) + "\n"}

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(zipfile.ZipInfo(f"{out.stem}/{name}", EPOCH), text)
            for file in chosen:
                info = zipfile.ZipInfo(f"{out.stem}/{file.name}", EPOCH)
                archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)

    write_atomic(out, write)
    files = sorted([*texts, *(file.name for file in chosen)])
    kept = sorted(each.name for each in folder.iterdir() if each.name not in files)
    return Packed(str(out), files, list(_holds(opened, folder, items)), kept)


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without what only this machine needs."""
    data = dict(config["data"])
    if "source" in data:
        data["source"] = Path(name_of(data["source"])).name if "://" not in data["source"] else (
            name_of(data["source"])
        )  # fmt: skip
    return {**config, "data": data}


def _holds(bundle: Bundle, folder: Path, items: bool) -> Iterator[str]:
    """What a reader of the archive learns of the data, in sentences."""
    data = bundle.data
    num_train, num_test = data.get("num_train", 0), data.get("num_test", 0)
    yield f"the name of its source, {data.get('source', 'not recorded')!r}, and a digest of it"
    yield f"counts: {num_train:,} training items, {num_test:,} held out"
    for name in bundle.codec.conditions:
        if names := bundle.codec.class_names(name):
            more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            yield f"{name}: {', '.join(names[:NAMED])}{more}" + (
                ", with their frequencies" if name in bundle.priors else ""
            )
    for tag, counts in data.get("tags", {}).items():
        yield f"{tag}: {', '.join(map(str, counts))}"
    if hashes := read_hashes(folder):
        yield f"hashes of {len(hashes):,} files, no names: who has a file can tell that it is one"
    for file in sorted(folder.glob(JUDGES)):
        yield f"{file.name}: a classifier of the data, which judges the samples"
    copying = bundle.metrics.get("evaluation", {}).get("copying")
    verdict = copying["verdict"] if copying else "not judged: morphogen evaluate would"
    yield f"the weights, which may have learned items by heart; copying: {verdict}"
    if items and (folder / PAGE).is_file():
        yield f"{PAGE}: copies of real items, of training items among them"
