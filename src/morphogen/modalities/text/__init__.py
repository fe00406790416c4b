r"""Text, as tokens: bytes, characters, or words and parts of words; and one for the end.

Whole short documents are sequences of up to L tokens, the end among them. A corpus of long ones is
one stream, documents with an end after each, from which windows of L tokens are taken wherever:

    documents   t_1 .. t_n end end .. end              a window   .. t_n end t_1 t_2 ..

Every token stands for some bytes (`tokenizers/`). Bits are counted per byte, and so compare with
every other model of the same text. A text comes back from its tokens unchanged, broken bytes
included; tokens that a model draws make a text, which may encode to other tokens of the same bytes.

Legend: L tokens of an item, B batch.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from morphogen.core.border import LARGEST, parse_json
from morphogen.core.codec import Codec, Fingerprint, Item, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import BundleError, DataError
from morphogen.core.random import randint
from morphogen.core.spec import TensorSpec
from morphogen.modalities.text import fingerprint as prints
from morphogen.modalities.text import page
from morphogen.modalities.text.constraints import Constrained, Vocabulary
from morphogen.modalities.text.encodings import check_encoding, decoded, to_bytes
from morphogen.modalities.text.reading import (
    WANTS,
    list_texts,
    named_column,
    read_texts,
    recognise,
)
from morphogen.modalities.text.tokenizers import Byte, Decoder, Tokenizer, tokenizer_from_json
from morphogen.modalities.text.tokenizers.choose import Seen, check_tokenizer
from morphogen.provenance import token_mark
from morphogen.sources import Wants

LONGEST = 512  # tokens of a whole document, where the user names no length
WINDOW = 256  # tokens of a window, where the user names no length
LONGEST_ADAPTED = 1024  # of a base that sees more, where the user names no length
STEP = 8  # lengths of documents are rounded up to a multiple, so that networks can halve them
MOST_CUT = 0.1  # documents are read whole when no more than this part of them is too long
SPACE = re.compile(r"(\s+)")
FEWEST_SIGNS = 2  # a text of fewer letters and signs is odd


class Text(Codec):
    """Documents and corpora as tokens: .txt, .md, JSON lines, columns of tables, archives."""

    suffix: ClassVar[str] = ".txt"
    family = "autoregressive"
    unit: ClassVar[str] = "byte"
    wants: ClassVar[Wants] = WANTS  # what is opened
    # A caption is read whole, and in words: a network looks at each token at every step, and a few
    # thousand letters teach nobody to spell.
    condition_options: ClassVar[dict[str, Any]] = {"form": "documents", "tokenizer": "bpe"}
    judged_as_fitted: ClassVar[bool] = True  # tokens of another vocabulary are other items
    key_radius: ClassVar[int] = prints.KEY_RADIUS
    same_from: ClassVar[float] = prints.SAME_FROM

    def __init__(
        self,
        *,
        length: int | None = None,  # tokens of an item; none: from the data, at most 512
        form: Literal["auto", "documents", "windows"] = "auto",  # whole, or windows of a stream
        per: Literal["auto", "file", "paragraph", "line"] = "auto",  # what in a file is an item
        tokenizer: str = "auto",  # byte, char, bpe, or the folder of one; auto: from the data
        vocab_size: int | None = None,  # tokens of bpe, at most; none: from the data
        encoding: str = "auto",  # of files: cp1251, shift_jis, ...; auto: found, and told
        column: str | None = None,  # of a table, that holds the texts; none: found
    ) -> None:
        if length is not None and not 2 <= length <= 1 << 20:
            raise DataError("the length does not fit", found=length, expected="2 to 1048576 tokens")
        check_tokenizer(tokenizer, vocab_size)
        check_encoding(encoding)
        self.length, self.form, self.per, self.encoding = length, form, per, encoding
        self.named, self.vocab_size, self.column = tokenizer, vocab_size, column
        self.tokenizer: Tokenizer = Byte()  # the one in use, known after fit
        self.vocabulary: Vocabulary | None = None  # what constraints read it with
        self.windows: int | None = None
        self.characters = ""  # all that conditions were learned with, where that is known
        self.facts: dict[str, Any] = {}  # what fit chose, and how many texts that changes

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Texts of any kind; a few short ones that come again are rather categories."""
        if not values or not all(isinstance(value, str) for value in values):
            return None
        return Recognition(0.7, f"texts such as {page.brief(values[0], 30)!r}")

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        yield from read_texts(source, report, self.per, self.encoding, self._wanted())

    def _wanted(self) -> Wants:
        if self.column is None:
            return self.wants
        return replace(self.wants, column=partial(named_column, self.column))

    def for_conditions(self) -> dict[str, Any]:
        """A text that stands beside each (its translation) is cut into tokens in the same way."""
        return {"tokenizer": self.named, "vocab_size": self.vocab_size, "form": "documents"}

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Text:
        seen = Seen(self.named, self.vocab_size)
        for item in items:
            seen.add(item.value)
        if not seen.num_texts:
            raise DataError("there are no texts to learn from", expected="at least one")
        self.tokenizer, why = seen.choose()
        self.facts = {"tokenizer": why}
        self.characters = seen.all_characters if self.form == "documents" else ""
        lengths, limit = self._num_tokens(seen), self.length or LONGEST
        count = lengths.total()
        cut = sum(number for length, number in lengths.items() if length > limit)
        whole = self.form == "documents" or (self.form == "auto" and cut <= MOST_CUT * count)
        vocab_size, end = self.tokenizer.vocab_size, self.tokenizer.end
        unit = "bytes" if self.tokenizer.kind == "byte" else "tokens"
        if not whole:
            self.windows = self.length or WINDOW
            self.spec = TensorSpec.tokens(self.windows, vocab_size, boundary=end)
            self.facts["form"] = (
                f"a stream of {seen.num_texts:,} texts, learned in windows of {self.windows} {unit}"
            )
            return self
        self.windows = None
        sampled = count < seen.num_texts  # then no text has more tokens than bytes
        fitting = -(-(max(seen.lengths) + 1 if sampled else max(lengths)) // STEP) * STEP
        length = self.length or min(max(fitting, STEP), LONGEST)
        self.spec = TensorSpec.tokens(length, vocab_size, end=end)
        self.facts["form"] = f"{seen.num_texts:,} documents of up to {length - 1:,} {unit}"
        if cut := sum(number for size, number in lengths.items() if size > length):
            self.facts["cut"] = (
                f"{'of a sample, ' * sampled}{cut:,} of {count:,} training texts are "
                f"longer than {length - 1:,} {unit}: the rest of each is left out "
                "(--set modality.length=N, or modality.form=windows)"
            )
        return self

    def shorten(self, items: Iterable[Item]) -> None:
        """Windows for adapting what sees many tokens: each step costs as much as its window is
        long, and a window of 4,096 may not fit into memory."""
        spec = self._fitted()
        if spec.boundary is None:
            return
        most = spec.shape[0]
        self.windows = min(most, self.length or LONGEST_ADAPTED)
        self.spec = replace(spec, shape=(self.windows,))
        if self.windows < most:
            self.facts["form"] = (
                f"a stream of texts, learned in windows of {self.windows:,} of the {most:,} tokens "
                "that the base sees (--set modality.length=N for more)"
            )

    def _num_tokens(self, seen: Seen) -> Counter[int]:
        """How many texts have so many tokens, with the end: of all texts, or of a sample."""
        if self.tokenizer.kind == "byte":
            return Counter({size + 1: number for size, number in seen.lengths.items()})
        longest, limit = int(self.tokenizer.byte_lengths.max()), 2 * (self.length or LONGEST)
        found: Counter[int] = Counter()
        for text in seen.sample:
            data = to_bytes(text)
            surely = len(data) > limit * longest  # too long, however few its tokens are
            found[limit if surely else len(self.tokenizer.encode(data)) + 1] += 1
        return found

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        spec = self._fitted()
        stream = self.encode_stream(item)[: spec.shape[0]]
        end = self.tokenizer.end
        if spec.end is not None and len(stream) == spec.shape[0]:
            stream[-1] = end  # what is cut off ends where it is cut
        return torch.cat([stream, torch.full((spec.shape[0] - len(stream),), end)])

    def check_asked(self, value: Any) -> None:
        """Raise `DataError` for what is no text, or one of which less than half would be read; warn
        where its end would not be."""
        if not isinstance(value, str):
            raise DataError("no text", found=repr(value)[:60], expected="a text")
        length, most = len(self.encode_stream(Item(value))) - 1, self._fitted().shape[0] - 1
        if self.windows is not None or length <= most:
            return
        if length > 2 * most:
            raise DataError(
                "what is asked for is longer than what the model has learned to read",
                found=f"{length:,} tokens: {value[:40]!r} ...",
                expected=f"{most:,} at most",
                hint="say it in fewer words",
            )
        message = (
            f"{value!r} is {length:,} tokens long: what follows the first {most:,} is not read"
        )
        warnings.warn(message, stacklevel=2)

    def encode_stream(self, item: Item) -> Tensor:
        """Item -> all of its tokens (length,), the end last: a piece of the corpus."""
        parts = [self.tokenizer.encode(to_bytes(part)) for part in item.value.split(page.END)]
        joined = [np.append(part, self.tokenizer.end) for part in parts]
        return torch.from_numpy(np.concatenate(joined))

    def encode_sequences(self, items: Sequence[Item]) -> list[Tensor]:
        """The tokens of whole texts (n,), however long, without the end."""
        self._fitted()
        return [self.encode_stream(item)[:-1] for item in items]

    def decode(self, x: Tensor) -> str:
        spec = self._fitted()
        spec.check(x[None], "text")
        tokens = x.detach().cpu().numpy()
        if spec.end is not None:
            ends = np.flatnonzero(tokens == spec.end)
            return self._text(tokens[: ends[0]] if len(ends) else tokens)
        parts = np.split(tokens, np.flatnonzero(tokens == self.tokenizer.end))
        return page.END.join(map(self._text, parts))

    def _text(self, tokens: np.ndarray) -> str:
        """The text of tokens, an end being nothing; broken bytes as U+DC80 to U+DCFF."""
        return self.tokenizer.decode(tokens.tolist()).decode("utf-8", "surrogateescape")

    def symbols(self, x: Tensor) -> np.ndarray:
        """What tokens (T,) of a stream stand for, to be compared: (S,) uint16, 256 for an end."""
        return self.tokenizer.symbols(x.cpu().numpy())

    def decoder(self) -> Decoder:
        """A text from tokens that come one by one: `feed(token)`, at last `finish()`."""
        return Decoder(self.tokenizer, page.END if self._fitted().end is None else None)

    @property
    def end(self) -> int:
        """The token after the last of a text."""
        return self.tokenizer.end

    def token_text(self, token: int) -> str:
        """A token for people: bytes of no character as \\x.., the end as nothing."""
        return self.tokenizer.token_bytes(token).decode("utf-8", "backslashreplace")

    def constraint(
        self, kind: str, told: str, most: int, before: Sequence[int] = ()
    ) -> Constrained:
        """What a text of up to `most` tokens may become, after others; see `constraints.py`."""
        if self.vocabulary is None:
            reader = self.tokenizer
            self.vocabulary = Vocabulary(reader.tokens, reader.end, reader.encode)
        return Constrained(self.vocabulary, kind, told, most, before)

    def num_units(self, x: Tensor) -> Tensor:
        """Bytes of what the tokens stand for; an end is none."""
        lengths = torch.from_numpy(self.tokenizer.byte_lengths).to(x.device)
        return lengths[x].sum(1).clamp(min=1).float()

    def odd(self, item: Item) -> tuple[str, str] | None:
        signs = sum(not character.isspace() for character in item.value[:1000])
        if not signs:
            return "it is empty but for white space", "remove it"
        if signs < FEWEST_SIGNS:
            return f"it is {signs} character short", "look at it, and remove it if it says nothing"
        return None

    def texts(self, source: Any) -> Iterator[Listed]:
        """The texts themselves, and the names of files and folders."""
        yield from list_texts(source, self.per, self.encoding, self._wanted())

    # -- recognising -----------------------------------------------------------------------------

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """Hashes of the 5-grams; see `fingerprint.py`."""
        return prints.fingerprint(item.value)

    def likeness(self, first: Tensor, second: Tensor, key: Tensor) -> Tensor:
        """The share of 5-grams that two texts have in common, estimated."""
        return prints.likeness(first, second, key)

    def damages(self) -> Mapping[str, Sequence[float]]:
        """Words that changed places: what a judge of single words does not notice."""
        return {"with {:.0f} pairs of words swapped": (0, 1, 4)}

    def damage(self, value: Any, words: str, strength: float, draw: torch.Generator) -> Any:
        """The text after that."""
        parts = SPACE.split(str(value))  # words at even places, what parts them between
        count = (len(parts) + 1) // 2
        for _ in range(int(strength) if count > 1 else 0):
            i, j = (2 * int(k) for k in randint(count, (2,), draw))
            parts[i], parts[j] = parts[j], parts[i]
        return "".join(parts)

    def watermark_chance(self, path: Path, key: bytes) -> float:
        """How probable it is that the words of a file were chosen without the key; see
        `provenance.token_mark`."""
        (tokens,) = self.encode_sequences([Item(decoded(path.read_bytes()).text)])
        return token_mark.chance(tokens.tolist(), key)

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.cards(list(map(str, values)), columns)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(str(value), most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return page.write_texts(list(map(str, values)), Path(path))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        names = ("length", "form", "per", "encoding", "column")
        options = {name: getattr(self, name) for name in names}
        kind = {"kind": self.tokenizer.kind, "why": self.facts.get("tokenizer", "")}
        told = {"options": options, "spec": self._fitted().to_json(), "tokenizer": kind}
        return {**told, "characters": self.characters} if self.characters else told

    def tensors(self) -> dict[str, Tensor]:
        """The vocabulary: the UTF-8 of its JSON, (N,) uint8."""
        if self.tokenizer.kind == "byte":
            return {}
        told = json.dumps(self.tokenizer.to_json(), ensure_ascii=False).encode()
        return {"tokenizer": torch.frombuffer(bytearray(told), dtype=torch.uint8)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Text:
        codec = cls(**state["options"])
        codec.spec = TensorSpec.from_json(state["spec"])
        codec.windows = None if codec.spec.end is not None else codec.spec.shape[0]
        told = state.get("tokenizer", {"kind": "byte"})  # all of them were, once
        codec.facts = {"tokenizer": told["why"]} if told.get("why") else {}
        codec.characters = str(state.get("characters", ""))
        if told["kind"] != "byte":
            codec.tokenizer = _tokenizer_in(tensors)
        codec.check_vocabulary()
        return codec

    def check_vocabulary(self) -> None:
        """Raise `BundleError` where the spec is not that of the tokenizer."""
        spec, tokenizer = self._fitted(), self.tokenizer
        ends = {spec.end, spec.boundary} - {None}
        if spec.vocab_size != tokenizer.vocab_size or not ends <= {tokenizer.end}:
            raise BundleError(
                "the tokenizer is not the one that the model was trained with",
                found=f"{tokenizer.vocab_size:,} tokens, the end {tokenizer.end:,}",
                expected=str(spec),
            )

    def _fitted(self) -> TensorSpec:
        if not hasattr(self, "spec"):
            raise DataError("the codec has seen no texts yet", hint="codec.fit(items)")
        spec: TensorSpec = self.spec
        return spec


def _tokenizer_in(tensors: Mapping[str, Tensor]) -> Tokenizer:
    """The vocabulary that travels with a bundle. Raises `BundleError` for anything else."""
    held = tensors.get("tokenizer")
    if held is None or held.dtype != torch.uint8 or held.dim() != 1 or len(held) > LARGEST:
        raise BundleError("the tokenizer of the text is missing, or none")
    try:
        told = held.cpu().numpy().tobytes().decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"the tokenizer of the text is damaged: {error.reason}") from error
    return tokenizer_from_json(parse_json(told, dict, "the tokenizer"))
