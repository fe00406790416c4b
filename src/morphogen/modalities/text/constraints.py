r"""What a text may still become: a JSON schema, a regular expression, choices, a grammar.

At each token a parser over bytes says which tokens keep the text on its way to being valid
(llguidance; Koo et al. 2024). That alone ends nowhere: a string may go on for ever, and a text that
is cut off is not valid. So a way to end is kept in sight, byte by byte, and taken before the tokens
run out:

    tokens left   |------------- any that is valid -------------|--- the way to end ---|

The way is looked for greedily, brackets and quotes closed first; where none is found (a grammar
that has to go round in circles for long), the text may be cut off, and says so.

Legend: V tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.border import check_sane, read_text
from morphogen.core.errors import RecipeError
from morphogen.core.extras import extra
from morphogen.core.storage import expanded

NAMES = {
    "schema": "the JSON schema", "regex": "the regular expression", "choice": "the choices",
    "grammar": "the grammar",
}  # fmt: skip
# Between the parts of JSON a space, or a new line with what indents it: models like to go on with
# white space.
JSON_OPTIONS = {"whitespace_flexible": True, "whitespace_pattern": r"\x20|\n\x20{0,16}"}
FIRST_OF_JSON = {byte: place for place, byte in enumerate(b'}],:"')}
LATE_OF_JSON = {byte: place for place, byte in enumerate(b"[{ \n\t\r", start=100)}
LONGEST_END = 1 << 13  # bytes of a way to end that are looked at
MARGIN = 16  # tokens that one token may add to the way to end
END = 256  # of the vocabulary of bytes


class Vocabulary:
    """The tokens of a tokenizer, as the parser reads them: built once, in half a second for 50,000
    of them. `cut` makes tokens of bytes: where only one text can come, its own tokens do."""

    def __init__(
        self, tokens: Sequence[bytes], end: int, cut: Callable[[bytes], Iterable[int]]
    ) -> None:
        parser = _parser()
        self.tokens, self.end, self.cut = tokens, end, cut
        self.num_words = -(-len(tokens) // 32)
        self.reader = parser.LLTokenizer(parser.TokenizerWrapper(_Listed(tokens, end, cut)))


class Constrained:
    """A `Constraint` of one text that has room for `most` tokens; see `core.writing`."""

    def __init__(
        self, vocabulary: Vocabulary, kind: str, told: str, most: int, before: Sequence[int] = ()
    ) -> None:
        self.vocabulary, self.left, self.kind = vocabulary, most, kind
        grammar = _grammar(kind, told, most)
        self.matcher = _matcher(vocabulary.reader, grammar, kind)
        self.way = _WayToEnd(grammar, kind)
        if kind == "schema":
            self._go_on_from(list(before))
        self.planned: list[int] | None = None  # the tokens that end it, once there is no other way
        self.words = np.zeros((1, vocabulary.num_words), np.int32)
        shortest = self._way()
        if shortest is None and kind == "schema":
            raise RecipeError(
                "no text was found that the JSON schema allows: it has no end",
                expected="a value that needs no other of its own kind within it",
                hint='let what comes again be absent: "anyOf": [{"type": "null"}, ..]',
            )
        if shortest is not None and len(shortest) > most and kind == "schema":
            raise RecipeError(
                f"there are too few tokens for what {NAMES[kind]} asks for",
                found=f"{most:,}",
                expected=f"{len(shortest):,} or more",
                hint="--set most=N, a shorter prompt, or a model of longer texts",
            )
        spare = most - len(shortest or ())
        self.margin = min(max(MARGIN, len(shortest or ())), spare // 2)
        self.look_at = most  # tokens left when the way to end is looked for next
        self._look_ahead(shortest)

    def _go_on_from(self, before: list[int]) -> None:
        """Where what stands before begins such JSON, as `{"name":` does, go on with it; what else
        stands there, as a question does, is no part of it."""
        said = b"".join(self.vocabulary.tokens[token] for token in before)
        if said.strip() and self.matcher.validate_tokens(before) == len(before):
            self.matcher.consume_tokens(before)
            self.way.take(said)

    def allowed(self) -> Tensor | None:
        """Which tokens may come next, (V,) bool."""
        if self.planned is not None:
            mask = torch.zeros(len(self.vocabulary.tokens), dtype=torch.bool)
            mask[self.planned[0] if self.planned else self.vocabulary.end] = True
            return mask
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self.matcher, self.words)
        bits = np.unpackbits(self.words.view(np.uint8), bitorder="little")
        return torch.from_numpy(bits[: len(self.vocabulary.tokens)].view(np.bool_))

    def take(self, token: int) -> None:
        """Note the token that came. Raises `RecipeError` for one that was not allowed."""
        if not self.matcher.consume_token(token):
            raise RecipeError(
                f"a token came that {NAMES[self.kind]} does not allow",
                found=f"token {token}: {self.vocabulary.tokens[token]!r}",
            )
        self.left -= 1
        if self.planned:
            self.planned.pop(0)
        elif token != self.vocabulary.end:
            self.way.take(self.vocabulary.tokens[token])
            if self.left <= self.look_at and not self.ended:
                self._look_ahead(self._way())

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        return self.planned == [] or bool(self.matcher.is_stopped())

    def _way(self) -> list[int] | None:
        found = self.way.find()
        return None if found is None else list(map(int, self.vocabulary.cut(found)))

    def _look_ahead(self, way: list[int] | None) -> None:
        """Take the way to end where there is time for nothing else, or say when to look again: each
        token before that may make the way a token or two longer."""
        if way is None or len(way) > self.left:
            self.look_at = self.left // 2
            return
        spare = self.left - len(way) - self.margin
        if spare <= 0:
            self.planned = way
        self.look_at = self.left - max(spare // 3, 1)


class _WayToEnd:
    """The text so far, byte by byte, and how it could be brought to an end."""

    def __init__(self, grammar: str, kind: str) -> None:
        self.is_json, self.kind = kind == "schema", kind
        self.matcher = _matcher(_bytes(), grammar, kind)
        self.waiting = bytearray()  # what the matcher has not seen yet
        self.quoted = self.escaped = False  # within a string of JSON

    def take(self, data: bytes) -> None:
        """Note what came."""
        self.waiting += data

    def find(self) -> bytes | None:
        """The bytes that end the text; None where they are not found."""
        for byte in self.waiting:
            self._note(byte)
        self.matcher.consume_tokens(list(self.waiting))
        self.waiting.clear()
        ways = [self._walked(signs_first) for signs_first in (True, False)[self.is_json :]]
        return min((way for way in ways if way is not None), key=len, default=None)

    def _walked(self, signs_first: bool) -> bytes | None:
        """One way to end, of those that try letters, or all else, first."""
        walker, before = self.matcher.deep_copy(), (self.quoted, self.escaped)
        found, used = bytearray(), Counter[int]()
        while not walker.is_accepting():
            if len(found) == LONGEST_END or not (bytes_ := _next_bytes(walker)):
                self.quoted, self.escaped = before
                return None
            byte = min(bytes_, key=lambda each: self._late(each, used, signs_first))
            used[byte] += 1
            walker.consume_token(byte)
            self._note(byte)
            found.append(byte)
        self.quoted, self.escaped = before
        return bytes(found)

    def _late(self, byte: int, used: Counter[int], signs_first: bool) -> tuple[int, ...]:
        """How late a byte is tried: what closes comes first, then what was used least, so that no
        walk goes round in one circle."""
        rank = 50
        if self.is_json and self.quoted:
            rank = 0 if byte == ord('"') else 50
        elif self.is_json and not chr(byte).isdigit():
            rank = FIRST_OF_JSON.get(byte, LATE_OF_JSON.get(byte, 60))
        return rank, used[byte], chr(byte).isalnum() is signs_first, byte

    def _note(self, byte: int) -> None:
        if self.escaped or (self.quoted and byte == ord("\\")):
            self.escaped = not self.escaped
        elif byte == ord('"'):
            self.quoted = not self.quoted


def _grammar(kind: str, told: str, most: int) -> str:
    """What the parser reads. Raises `RecipeError` for what is none of its kind."""
    matcher: Any = _parser().LLMatcher
    if kind == "schema":
        return matcher.grammar_from_json_schema(_schema(told), overrides=JSON_OPTIONS)
    if kind == "regex":
        return matcher.grammar_from_regex(told)
    if kind == "grammar":
        return matcher.grammar_from_lark(_contents(told, ".lark"))
    if kind != "choice":
        raise RecipeError("there is no such constraint", found=kind, expected=", ".join(NAMES))
    choices = list(filter(None, _choices(told)))
    if not choices:
        raise RecipeError("there is nothing to choose from", found=told, expected="yes|no|perhaps")
    if (size := max(len(choice.encode()) for choice in choices)) > most:
        raise RecipeError(
            "a choice may be longer than there are tokens",
            found=f"{size:,} bytes, {most:,} tokens",
            hint=f"--set most={size}",
        )
    return matcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, choices)))


def _choices(told: str) -> list[str]:
    """`a|b|c`, or a list of JSON."""
    if not told.lstrip().startswith("["):
        return told.split("|")
    found = _json(told, "choices")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise RecipeError("choices are texts", found=told[:80], expected='["yes", "no"]')
    return found


def _schema(told: str) -> str:
    """A schema as JSON, or the file that holds it."""
    found = _json(_contents(told, ".json"), "a JSON schema")
    if found is False:
        raise RecipeError("the JSON schema allows nothing", found="false")
    if found is not True and not isinstance(found, dict):
        raise RecipeError("that is no JSON schema", found=told[:80], expected='{"type": ..}')
    return json.dumps({} if found is True else found)


def _contents(told: str, suffix: str) -> str:
    """What a file says, where it is one that is named."""
    is_file = told.strip().endswith(suffix) and "\n" not in told.strip()
    return read_text(expanded(told.strip()), RecipeError) if is_file else told


def _json(told: str, what: str) -> Any:
    try:
        found = json.loads(told)
        check_sane(found)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{what} cannot be read: {error}",
            found=told[:80],
            expected="JSON, or the name of a .json file",
        ) from error
    return found


def _matcher(reader: Any, grammar: str, kind: str) -> Any:
    """A parser at the start. Raises `RecipeError` with what it has against the grammar."""
    parser = _parser()
    limits = parser.LLParserLimits(verbose_errors=False)
    matcher = parser.LLMatcher(reader, grammar, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()  # a grammar without an end is found out now
    if matcher.is_error():
        said = matcher.get_error().strip().partition("\n")[0]
        cause = "it allows no text" if said.startswith("NoExtension") else said
        raise RecipeError(f"{NAMES[kind]} cannot be met: {cause}")
    return matcher


def _next_bytes(walker: Any) -> list[int]:
    bits = np.frombuffer(walker.compute_bitmask(), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")[:END]).tolist()


class _Listed:
    """A vocabulary, with the attributes that the parser asks for."""

    bos_token_id = None

    def __init__(
        self, tokens: Sequence[bytes], end: int, cut: Callable[[bytes], Iterable[int]]
    ) -> None:
        self.tokens, self.eos_token_id, self.cut = list(tokens), end, cut
        self.special_token_ids = [i for i, data in enumerate(tokens) if not data]

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text that has to come."""
        return list(map(int, self.cut(text.encode() if isinstance(text, str) else text)))


@functools.cache
def _bytes() -> Any:
    """The vocabulary of bytes."""
    parser = _parser()
    tokens = [*(bytes([value]) for value in range(END)), b""]
    return parser.LLTokenizer(parser.TokenizerWrapper(_Listed(tokens, END, list)), slices=[])


@functools.cache
def _parser() -> Any:
    """The library, if it is installed."""
    return extra("llguidance", "lm", "texts are held to a schema or grammar")
