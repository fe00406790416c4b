"""Tokenizers that others trained: GPT-2's two files, or a `tokenizer.json` of byte-level BPE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from morphogen.core.border import COUNT, read_json, read_text
from morphogen.core.errors import DataError
from morphogen.core.storage import expanded
from morphogen.modalities.text.tokenizers.bpe import BPE, MOST_TOKENS, check_parts

WHOLE = "tokenizer.json"
PAIRED = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # the second: OpenAI's
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
ADDED = {"id": COUNT, "content": str, "special": bool}
MODEL = {"type": "BPE", "vocab": {str: COUNT}, "merges": list}
SHAPE = {"model": dict, "added_tokens?": ([ADDED], None)}


def read_tokenizer(path: Path | str) -> BPE:
    """The tokenizer in a folder, or in one of its files.

    Raises `DataError` for any that is no byte-level BPE: such change or lose some texts.
    """
    place = expanded(path)
    if place.is_file() and place.suffix == ".json" and place.name not in dict(PAIRED):
        return _of_whole(place)
    folder = place.parent if place.is_file() else place
    for vocabulary, merges in PAIRED:
        if (folder / vocabulary).is_file() and (folder / merges).is_file():
            return _of_pair(folder / vocabulary, folder / merges)
    if (folder / WHOLE).is_file():
        return _of_whole(folder / WHOLE)
    raise DataError(
        "there is no tokenizer",
        found=str(place) if place.exists() else f"{place} does not exist",
        expected="vocab.json with merges.txt, or tokenizer.json; else byte, char, bpe or auto",
        hint="--set modality.tokenizer=bpe trains one on the data",
    )


def _of_pair(vocabulary: Path, merges: Path) -> BPE:
    """GPT-2's files."""
    numbers = read_json(vocabulary, {str: COUNT}, DataError)
    lines = read_text(merges, DataError).split("\n")
    pairs = [line.rstrip("\r").split(" ") for line in lines[lines[0].startswith("#version") :]]
    special = {n: sign for sign, n in numbers.items() if sign in ENDS}
    return _checked(numbers, [pair for pair in pairs if pair != [""]], special, vocabulary)


def _of_whole(path: Path) -> BPE:
    """A file of the `tokenizers` library."""
    found = read_json(path, SHAPE, DataError)
    model = found["model"]
    if model.get("type") != "BPE" or not isinstance(model.get("merges"), list):
        _refuse(f"a model of type {model.get('type')}", path)
    numbers = read_json(path, {"model": MODEL}, DataError)["model"]["vocab"]
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            _refuse(name, path)
    if found.get("normalizer"):
        _refuse("a normalizer, which changes texts", path)
    added = found.get("added_tokens") or []
    if plain := [each["content"] for each in added if not each["special"]]:
        _refuse(f"{plain[0]!r}, a word added to its vocabulary", path)
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    if any(not isinstance(pair, list) or {*map(type, pair)} != {str} for pair in merges):
        _refuse("merges that are no pairs of tokens", path)
    special = {each["id"]: each["content"] for each in added}
    patterns = _patterns(found.get("pre_tokenizer"), path)
    whole_words = bool(model.get("ignore_merges"))
    return _checked(numbers, merges, special, path, patterns=patterns, whole_words=whole_words)


def _patterns(cutting: Any, path: Path) -> list[str]:
    """What cuts words; nothing for GPT-2's own pattern."""
    steps = [cutting or {}]
    if steps[0].get("type") == "Sequence":
        steps = steps[0].get("pretokenizers") or [{}]
    *cuts, level = steps
    if level.get("type") != "ByteLevel" or level.get("add_prefix_space", True):
        _refuse("words that are not cut as bytes, or get a space before them", path)
    if level.get("use_regex", True):
        return [] if not cuts else _refuse("two ways of cutting words", path)
    patterns = []
    for cut in cuts:
        pattern = (cut.get("pattern") or {}).get("Regex")
        if cut.get("type") != "Split" or cut.get("behavior") != "Isolated" or cut.get("invert"):
            _refuse(f"words cut by {cut.get('type')}", path)
        if not isinstance(pattern, str):
            _refuse("words that are not cut by a pattern", path)
        patterns.append(pattern)
    return patterns or _refuse("words that are not cut at all", path)


def _checked(
    numbers: Mapping[str, int],
    merges: list[list[str]],
    special: Mapping[int, str],
    path: Path,
    **cutting: Any,
) -> BPE:
    """The tokenizer of these parts, which works."""
    size = 1 + max([*numbers.values(), *special], default=0)
    if size > MOST_TOKENS:
        _refuse(f"token {size:,}", path)
    signs = [""] * size
    for sign, number in numbers.items():
        signs[number] = "" if number in special else sign
    check_parts(signs, merges, path, DataError)
    ends = [number for each in ENDS for number, sign in special.items() if sign == each]
    try:
        found = BPE(
            signs, [(a, b) for a, b in merges], special=special, end=ends[0] if ends else None,
            **cutting,
        )  # fmt: skip
        found.encode(b"It is read, and works: 1, 2.")
    except Exception as error:  # the library raises no other type
        raise DataError(f"the tokenizer cannot be used: {error}", where=path) from error
    return found


def _refuse(found: str, path: Path) -> NoReturn:
    raise DataError(
        "this tokenizer cannot be used",
        found=found,
        expected="byte-level BPE, as GPT-2's or Llama 3's, which loses nothing",
        where=path,
        hint="--set modality.tokenizer=bpe trains one on the data",
    )
