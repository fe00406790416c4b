"""Models that others made, as bundles: what `morphogen import` does.

    a folder of transformers    config.json, safetensors, tokenizer.json         `load.py`
    a folder of other models    Whisper, CLIP, Stable Diffusion, ..              `driven.py`
    a GGUF file                 as llama.cpp runs them                           `llama_cpp.py`
    a .bin file of llama2.c     with its vocabulary beside it                    `llama2c.py`
    owner/name                  of the Hugging Face Hub, fetched at that moment

Where it came from travels with it: hashes of the files, the licence, the chat template. Nothing is
unpickled, and no code of a model runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from morphogen.core.border import read_json, read_text
from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, MorphogenError, RecipeError
from morphogen.core.extras import extra
from morphogen.core.folder import FORMAT, MODEL
from morphogen.core.storage import expanded, sha256
from morphogen.core.visible import in_shell
from morphogen.interop import llama_cpp
from morphogen.interop.driven import TAKEN, drive, driver_of, wanted
from morphogen.interop.gguf import GGUF, MAGIC, read_gguf
from morphogen.interop.gguf_tokens import OWN, tokenizer_json
from morphogen.interop.llama2c import read_llama2c
from morphogen.interop.load import LONGEST, Use, build, load
from morphogen.modalities.text.tokenizers import Library

HUB = re.compile(r"(hf://)?(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
PICKLES = {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
TOLD = {"package?": str, "licence?": str, "what?": str}  # of origin.json, beside what wheels had
MARKS = ("bos_token", "eos_token", "unk_token", "pad_token")


def import_model(
    source: Path | str, *, length: int | None = None, size: int | None = None
) -> Bundle:
    """The published model in a file or folder, or of that name in the Hugging Face Hub, in float32,
    for texts of up to `length` tokens (unless told, as many as it can have, up to 4,096), or for
    pictures with sides of `size` (unless told, as it was trained).

    Raises `BundleError` for what cannot be opened, and `MorphogenError` where the Hub is not
    reached.
    """
    place, told = expanded(source), str(source)
    if not place.exists():
        match = HUB.fullmatch(told)
        if match is None:
            raise BundleError(
                "there is no such model", found=f"nothing at {told}",
                expected="a folder, a .gguf file, or owner/name of the Hugging Face Hub",
            )  # fmt: skip
        place = _fetched(match["name"], match["revision"])
        told = f"hf://{match['name']}@{place.name}"
    else:
        told = place.resolve().name
    place = _the_model(place)
    if (driver := driver_of(place)) is not None:
        if length is not None:
            raise RecipeError(
                "only models of texts have a length",
                found=f"--length {length}",
                hint="leave it out",
            )
        bundle = drive(driver, place, size)
        bundle.origin = _of_driven(place)
    elif size is not None:
        raise RecipeError(
            "only models of pictures have a size", found=f"--size {size}", hint="leave it out"
        )
    elif place.is_dir():
        bundle = load(place, length=length)
        bundle.origin = _of_folder(place)
    else:
        file = read_gguf(place) if _begins(place, MAGIC) else read_llama2c(place)
        bundle = _of_file(file, length)
        bundle.origin = {**_of_facts(file), **_beside(place.parent), **_hashed([place])}
    bundle.origin = {"source": told, **bundle.origin}
    bundle.data = {"source": told}
    return bundle


def opened_or_imported(place: Path | str, *, trust: bool = False, device: str = "cpu") -> Bundle:
    """The bundle in a folder; or a published model as it lies there, imported, and kept in memory
    alone."""
    if not _is_published(expanded(place)) and not str(place).startswith("hf://"):
        return Bundle.open(place, trust=trust, device=device)
    bundle = import_model(place)
    bundle.family.to(device)
    return bundle


def _is_published(place: Path) -> bool:
    """Whether a model lies there that is no bundle."""
    if not place.is_dir():
        return place.is_file()
    if driver_of(place) is not None or any(place.glob("*.gguf")):
        return True
    config = place / "config.json"
    return config.is_file() and "model_type" in read_json(config)


def _the_model(place: Path) -> Path:
    """The file or folder that holds a model, `place` or in it. Raises `BundleError`."""
    if place.is_file():
        if _is_pickle(place):
            _refuse_pickle(place)
        if not _begins(place, MAGIC) and place.suffix != ".bin":
            raise BundleError(
                "this is no model that can be imported", found=place.name,
                expected="a .gguf file, a .bin file of llama2.c, or a folder of transformers, "
                "diffusers or faster-whisper",
            )  # fmt: skip
        return place
    if driver_of(place) is not None:
        return place
    config = place / "config.json"
    if config.is_file():
        if read_json(config).get("format") == FORMAT:
            raise BundleError(
                "this is a bundle already", where=place, hint=f"morphogen show {in_shell(place)}"
            )
        if (place / MODEL).is_file() or list(place.glob("*.safetensors*")):
            return place
    files = sorted(place.glob("*.gguf")) or [
        file for file in sorted(place.glob("*.bin")) if (place / f"tok{_vocab(file)}.bin").is_file()
    ]
    if len(files) > 1:
        raise BundleError(
            "there are several models in this folder", found=", ".join(f.name for f in files),
            where=place, hint=f"morphogen import {files[0]} --out models/NAME",
        )  # fmt: skip
    for file in sorted(place.iterdir()) if not files else ():
        if file.suffix in {*PICKLES, ".bin"} and _is_pickle(file):
            _refuse_pickle(file)
    if not files:
        raise BundleError(
            "there is no model in this folder that can be imported",
            expected="config.json with safetensors, or a .gguf file", where=place,
        )  # fmt: skip
    return files[0]


def _vocab(file: Path) -> int:
    """The size of the vocabulary, as a file of llama2.c would say it."""
    with file.open("rb") as opened:
        return abs(int.from_bytes(opened.read(24)[20:24], "little", signed=True))


def _is_pickle(file: Path) -> bool:
    return file.suffix in PICKLES or _begins(file, b"PK\x03\x04", b"\x80")


def _begins(file: Path, *signs: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(4).startswith(signs)


def _refuse_pickle(file: Path) -> None:
    raise BundleError(
        "these weights are pickled: opening them would run whatever code is in the file",
        found=file.name,
        expected="safetensors or GGUF",
        where=file.parent,
        hint="look for a .safetensors of it; or, if you trust who made it, convert it where it does"
        " no harm: safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)",
    )


# -- files ---------------------------------------------------------------------------------------


def _of_file(file: GGUF, length: int | None) -> Bundle:
    """The bundle of a GGUF file, or of one that was read as if it were."""
    layout = llama_cpp.layout_of(file)
    facts = llama_cpp.facts_of(file, layout)
    if length is not None or "rotary_base" in facts:
        facts["length"] = min(facts["length"], length or LONGEST)
    end = file.facts.get(OWN + "eos_token_id")
    if not isinstance(end, int):
        raise BundleError("nothing says which token ends a text", where=file.path,
                          expected=f"{OWN}eos_token_id")  # fmt: skip
    start = file.facts.get(OWN + "bos_token_id", end)
    told = json.dumps(tokenizer_json(file), ensure_ascii=False)
    tokenizer = Library(told, end=end, vocab_size=facts["vocab_size"])
    their = {name: stored.tensor() for name, stored in file.tensors.items()}
    return build(layout, facts, their, tokenizer, Use(start), where=file.path)


def _of_facts(file: GGUF) -> dict[str, Any]:
    """What a GGUF file says of itself."""
    facts = file.facts
    found = {"name": facts.get("general.name"), "licence": facts.get("general.license")}
    found["chat_template"] = facts.get("tokenizer.chat_template")
    tokens: list[str] = facts[OWN + "tokens"]
    numbers = {mark: facts.get(f"{OWN}{mark}_id") for mark in MARKS}
    marks = {mark: tokens[n] for mark, n in numbers.items() if isinstance(n, int)}
    kinds = sorted({stored.kind for stored in file.tensors.values()} - {"F32"})
    found |= {"marks": marks, "quantised": ", ".join(kinds)}
    return _said(found)


# -- folders -------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> dict[str, Any]:
    """What a folder of transformers says of where it came from."""
    told = folder / "tokenizer_config.json"
    said = read_json(told) if told.is_file() else {}
    marks = {mark: _content(said[mark]) for mark in MARKS if _content(said.get(mark))}
    own = folder / "chat_template.jinja"
    template = read_text(own) if own.is_file() else _template_in(said.get("chat_template"))
    found = {"chat_template": template, "licence": _licence(folder), "marks": marks}
    files = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".json")]
    return {**_said(found), **_beside(folder), **_hashed(files)}


def _of_driven(folder: Path) -> dict[str, Any]:
    """What a folder that another library runs says of where it came from; it may have folders."""
    files = [
        file for file in folder.rglob("*")
        if file.is_file() and file.suffix in TAKEN and file.name != "origin.json"
    ]  # fmt: skip
    hashes = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}
    return {**_said({"licence": _licence(folder)}), **_beside(folder), "files": hashes}


def _content(mark: Any) -> str:
    """The name of a mark, which is told by itself or in a record."""
    name = mark.get("content") if isinstance(mark, dict) else mark
    return name if isinstance(name, str) else ""


def _template_in(told: Any) -> str | None:
    """A template, or of several that are named the usual one."""
    if isinstance(told, list):
        named = {each.get("name"): each.get("template") for each in told if isinstance(each, dict)}
        told = named.get("default")
    return told if isinstance(told, str) else None


def _licence(folder: Path) -> str | None:
    """As the front matter of a model card says it."""
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else None


def _beside(folder: Path) -> dict[str, Any]:
    """What `make models` wrote beside what it took out of a wheel."""
    file = folder / "origin.json"
    told = read_json(file, TOLD) if file.is_file() else {}
    return {name: told[name] for name in ("package", "licence") if name in told}


def _hashed(files: Iterable[Path]) -> dict[str, Any]:
    return {"files": {file.name: sha256(file) for file in sorted(files)}}


def _said(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value}


# -- the Hub -------------------------------------------------------------------------------------


def _fetched(name: str, revision: str | None) -> Path:
    """The files of a model of the Hub, in the folder where its own library keeps them."""
    huggingface_hub = extra("huggingface_hub", "published", "models of the Hub are fetched")
    try:
        there = huggingface_hub.HfApi().list_repo_files(name, revision=revision)
        place = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=wanted(there)
        )
    except Exception as error:  # the package raises dozens of kinds, from HTTP to the disk
        raise MorphogenError(
            f"{name} cannot be fetched: {str(error).strip().partition(chr(10))[0]}",
            found=type(error).__name__,
            expected=f"a folder of that name here, or https://huggingface.co/{name}",
            hint="check the name and the network; or copy the model's folder here from a machine "
            f"that has it, and: morphogen import FOLDER --out models/{name.partition('/')[2]}",
        ) from error
    return Path(place)
