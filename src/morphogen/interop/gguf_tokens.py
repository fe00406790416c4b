"""The vocabulary of a GGUF file as a `tokenizer.json`, and back.

    gpt2     byte-level BPE: tokens, merges, and a name for what cuts words (`CUTS`)
    llama    SentencePiece's BPE: tokens and scores, from which the merges follow

The merges of the second are all ways to put a token together from two, those of the better token
first. Tokens that are no text have a type of their own there, and are marks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from morphogen.core.errors import BundleError, RefusedPair
from morphogen.interop.gguf import GGUF

NORMAL, UNKNOWN, CONTROL, ADDED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types of tokens
SPACE = "\u2581"  # stands for one in SentencePiece
OWN = "tokenizer.ggml."
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def _by_pattern(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    return {"type": "Sequence", "pretokenizers": [split, _level(use_regex=False)]}


def _level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": use_regex}  # fmt: skip


# What cuts a text into words, by llama.cpp's names; and whether words that are tokens stay whole.
CUTS: dict[str, dict[str, Any]] = {
    "gpt-2": _level(use_regex=True),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _level(use_regex=True)],
    },
    "llama-bpe": _by_pattern(rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"),
    "qwen2": _by_pattern(rf"{_SHORT}|{_LETTERS}|\p{{N}}|{_REST}"),
}
KEEPS_WORDS = {"llama-bpe"}


# -- from a file ---------------------------------------------------------------------------------


def tokenizer_json(file: GGUF) -> dict[str, Any]:
    """The `tokenizer.json` of a file's vocabulary. Raises `BundleError` for a kind that is not
    known, or parts that do not fit."""
    facts = {name.removeprefix(OWN): v for name, v in file.facts.items() if name.startswith(OWN)}
    tokens, kind = facts.get("tokens"), facts.get("model")
    if not isinstance(tokens, list) or not all(isinstance(each, str) for each in tokens):
        raise BundleError("the file has no vocabulary", expected=f"{OWN}tokens", where=file.path)
    types = facts.get("token_type", [NORMAL] * len(tokens))
    if kind not in ("gpt2", "llama") or len(types) != len(tokens):
        raise BundleError(
            "this kind of vocabulary is not read here",
            found=f"{kind}, {len(tokens):,} tokens, {len(types):,} types",
            expected="gpt2 (byte-level BPE) or llama (SentencePiece's BPE)", where=file.path,
        )  # fmt: skip
    numbers: dict[str, int] = {}
    for number, (token, type_) in enumerate(zip(tokens, types, strict=True)):
        if type_ != UNUSED:
            numbers.setdefault(token, number)
    parts = _byte_level(facts, file) if kind == "gpt2" else _by_scores(facts, numbers)
    added = [
        {
            "id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": types[number] != ADDED,
        }
        for token, number in numbers.items()
        if types[number] in (UNKNOWN, CONTROL, ADDED)
    ]  # fmt: skip
    parts["model"]["vocab"] = numbers
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **parts}


def _byte_level(facts: Mapping[str, Any], file: GGUF) -> dict[str, Any]:
    cut = facts.get("pre", "gpt-2")
    if cut not in CUTS:
        raise BundleError(
            "words are cut in a way that is not known here",
            found=f"{OWN}pre = {cut}", expected=", ".join(CUTS), where=file.path,
            hint="import the folder of transformers that the file was made from",
        )  # fmt: skip
    merges = [pair.split(" ") for pair in facts.get("merges", [])]
    return {
        "normalizer": None,
        "pre_tokenizer": CUTS[cut],
        "post_processor": None,
        "decoder": _level(use_regex=True),
        "model": _model(merges, ignore_merges=cut in KEEPS_WORDS),
    }


def _by_scores(facts: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    scores = facts.get("scores", [])
    begin = [{"type": "Prepend", "prepend": SPACE}] if facts.get("add_space_prefix", True) else []
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if begin else []
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    unknown = facts.get("unknown_token_id", 0)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*begin, replaced]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": _model(
            merges_of(numbers, scores), byte_fallback=True, fuse_unk=True,
            unk_token=facts["tokens"][unknown] if unknown < len(facts["tokens"]) else None,
        ),
    }  # fmt: skip


def merges_of(numbers: Mapping[str, int], scores: Sequence[float]) -> list[list[str]]:
    """The pairs that SentencePiece would join, in its order: those of the best token first."""
    found = [
        (scores[number], token[:cut], token[cut:])
        for token, number in numbers.items()
        if number < len(scores)
        for cut in range(1, len(token))
        if token[:cut] in numbers and token[cut:] in numbers
    ]
    found.sort(key=lambda each: -each[0])
    return [[first, second] for _, first, second in found]


def _model(merges: list[list[str]], **told: Any) -> dict[str, Any]:
    usual = {
        "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False,
    }  # fmt: skip
    return {"type": "BPE", **usual, **told, "merges": merges}


# -- into a file ---------------------------------------------------------------------------------


def vocabulary_facts(told: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """What a GGUF file says of a `tokenizer.json`, for a network with so many tokens.

    Raises `RefusedPair` for a kind that GGUF has no name for.
    """
    model = told["model"]
    added = {each["id"]: each for each in told.get("added_tokens") or []}
    if model.get("type") != "BPE":
        raise RefusedPair("GGUF has no such vocabulary here", found=model.get("type"))
    tokens = [f"[PAD{number}]" for number in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for number, each in added.items():
        tokens[number], types[number] = each["content"], CONTROL if each["special"] else ADDED
    facts: dict[str, Any] = {OWN + "tokens": tokens, OWN + "token_type": types}
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    if model.get("byte_fallback"):
        for number, token in enumerate(tokens):
            is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
            types[number] = BYTE if is_byte and types[number] == NORMAL else types[number]
        ranks = {a + b: -float(rank) for rank, (a, b) in reversed([*enumerate(merges)])}
        least = -float(len(merges))
        prepends = "Prepend" in str(told.get("normalizer"))
        return facts | {
            OWN + "model": "llama", OWN + "pre": "default",
            OWN + "scores": [ranks.get(token, least) for token in tokens],
            OWN + "add_space_prefix": prepends,
        }  # fmt: skip
    cut = next((name for name, each in CUTS.items() if _cuts(told) == _cuts_of(each)), None)
    if cut is None or (cut in KEEPS_WORDS) != bool(model.get("ignore_merges")):
        raise RefusedPair(
            "llama.cpp has no name for how this tokenizer cuts words",
            expected=", ".join(CUTS), hint="train with --set modality.tokenizer=bpe",
        )  # fmt: skip
    return facts | {
        OWN + "model": "gpt2", OWN + "pre": cut, OWN + "merges": [f"{a} {b}" for a, b in merges],
    }  # fmt: skip


def _cuts(told: Mapping[str, Any]) -> Any:
    return _cuts_of(told.get("pre_tokenizer") or {})


def _cuts_of(part: Mapping[str, Any]) -> Any:
    """What matters of a part that cuts: kinds, patterns, whether GPT-2's pattern applies."""
    if part.get("type") == "Sequence":
        return [_cuts_of(each) for each in part["pretokenizers"]]
    if part.get("type") == "ByteLevel":
        return ("ByteLevel", part.get("use_regex", True), part.get("add_prefix_space", True))
    return (part.get("type"), str(part.get("pattern")), str(part.get("individual_digits")))
