r"""Text, as the bytes of its UTF-8: one token for each, and one for the end.

Whole short documents are sequences of up to L tokens, the end among them. A corpus of long ones is
one stream, documents with an end after each, from which windows of L tokens are taken wherever:

    documents   b_1 .. b_n end end .. end              a window   .. b_n end b_1 b_2 ..

Bytes need no vocabulary, read every language, and bits per byte compare with every other model of
the same text. A text comes back from its tokens unchanged, broken bytes included.

Legend: L tokens of an item, B batch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from morphogen.core.codec import Codec, Fingerprint, Item, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import DataError
from morphogen.core.random import randint
from morphogen.core.spec import TensorSpec
from morphogen.modalities.text import fingerprint as prints
from morphogen.modalities.text import page
from morphogen.modalities.text.encodings import to_bytes
from morphogen.modalities.text.reading import list_texts, read_texts, recognise

END = 256  # the token after the last byte
LONGEST = 512  # tokens of a whole document, where the user names no length
WINDOW = 256  # tokens of a window, where the user names no length
STEP = 8  # lengths of documents are rounded up to a multiple, so that networks can halve them
MOST_CUT = 0.1  # documents are read whole when no more than this part of them is too long
SPACE = re.compile(r"(\s+)")
FEWEST_SIGNS = 2  # a text of fewer letters and signs is odd


class Text(Codec):
    """Documents and corpora as bytes: .txt, .md, code, JSON lines, columns of tables, archives."""

    suffix: ClassVar[str] = ".txt"
    unit: ClassVar[str] = "byte"
    defining: ClassVar[tuple[str, ...]] = ("length", "form", "per")
    key_radius: ClassVar[int] = prints.KEY_RADIUS
    same_from: ClassVar[float] = prints.SAME_FROM

    def __init__(
        self,
        *,
        length: int | None = None,  # tokens of an item; none: from the data, at most 512
        form: Literal["auto", "documents", "windows"] = "auto",  # whole, or windows of a stream
        per: Literal["auto", "file", "paragraph", "line"] = "auto",  # what in a file is an item
    ) -> None:
        if length is not None and not 2 <= length <= 1 << 20:
            raise DataError("the length does not fit", found=length, expected="2 to 1048576 tokens")
        self.length, self.form, self.per = length, form, per
        self.windows: int | None = None
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
        yield from read_texts(source, report, self.per)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Text:
        lengths = Counter(len(to_bytes(item.value)) + 1 for item in items)  # with the end
        count = sum(lengths.values())
        if not count:
            raise DataError("there are no texts to learn from", expected="at least one")
        self.facts = {}
        limit = self.length or LONGEST
        cut = sum(number for length, number in lengths.items() if length > limit)
        whole = self.form == "documents" or (self.form == "auto" and cut <= MOST_CUT * count)
        if not whole:
            self.windows = self.length or WINDOW
            self.spec = TensorSpec.tokens(self.windows, END + 1, boundary=END)
            self.facts["form"] = (
                f"a stream of {count:,} texts, learned in windows of {self.windows} bytes"
            )
            return self
        self.windows = None
        fitting = -(-max(lengths) // STEP) * STEP
        length = self.length or min(max(fitting, STEP), LONGEST)
        self.spec = TensorSpec.tokens(length, END + 1, end=END)
        self.facts["form"] = f"{count:,} documents of up to {length - 1:,} bytes"
        if cut := sum(number for size, number in lengths.items() if size > length):
            self.facts["cut"] = (
                f"{cut:,} of {count:,} training texts are longer than {length - 1:,} bytes: the "
                "rest of each is left out (--set modality.length=N, or modality.form=windows)"
            )
        return self

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        spec = self._fitted()
        stream = self.encode_stream(item)[: spec.shape[0]]
        if spec.end is not None and len(stream) == spec.shape[0]:
            stream[-1] = END  # what is cut off ends where it is cut
        return torch.cat([stream, torch.full((spec.shape[0] - len(stream),), END)])

    def encode_stream(self, item: Item) -> Tensor:
        """Item -> all of its tokens (length,), the end last: a piece of the corpus."""
        parts = [np.frombuffer(to_bytes(part), np.uint8) for part in item.value.split(page.END)]
        joined = [np.append(part.astype(np.int64), END) for part in parts]
        return torch.from_numpy(np.concatenate(joined))

    def encode_prefixes(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        """Texts that are to go on: their bytes without an end, also where items are windows."""
        length, known = self._fitted().shape[0], [len(to_bytes(item.value)) for item in items]
        if max(known, default=0) >= length:
            raise DataError(
                "the beginning leaves nothing to go on with",
                found=f"{max(known):,} bytes",
                expected=f"fewer than the {length:,} of the model's items",
                hint="give its last sentences, or train with --set modality.length=N",
            )
        return self.encode_many(items), torch.arange(length) < torch.tensor(known)[:, None]

    def decode(self, x: Tensor) -> str:
        spec = self._fitted()
        spec.check(x[None], "text")
        tokens = x.detach().cpu().numpy()
        if spec.end is not None:
            ends = np.flatnonzero(tokens == END)
            return _text(tokens[: ends[0]] if len(ends) else tokens)
        parts = np.split(tokens, np.flatnonzero(tokens == END))
        return page.END.join(_text(part[part != END]) for part in parts)

    def num_units(self, x: Tensor) -> Tensor:
        """Bytes; an end is none."""
        return (x != END).sum(1).clamp(min=1).float()

    def odd(self, item: Item) -> tuple[str, str] | None:
        signs = sum(not character.isspace() for character in item.value[:1000])
        if not signs:
            return "it is empty but for white space", "remove it"
        if signs < FEWEST_SIGNS:
            return f"it is {signs} character short", "look at it, and remove it if it says nothing"
        return None

    def texts(self, source: Any) -> Iterator[Listed]:
        """The texts themselves, and the names of files and folders."""
        yield from list_texts(source, self.per)

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

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.cards(list(map(str, values)), columns)

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(str(value), most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return page.write_texts(list(map(str, values)), Path(path))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        options = {"length": self.length, "form": self.form, "per": self.per}
        return {"options": options, "spec": self._fitted().to_json()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Text:
        codec = cls(**state["options"])
        codec.spec = TensorSpec.from_json(state["spec"])
        codec.windows = None if codec.spec.end is not None else codec.spec.shape[0]
        return codec

    def _fitted(self) -> TensorSpec:
        if not hasattr(self, "spec"):
            raise DataError("the codec has seen no texts yet", hint="codec.fit(items)")
        spec: TensorSpec = self.spec
        return spec


def _text(tokens: np.ndarray) -> str:
    """Bytes as tokens -> the text, with broken ones as U+DC80 to U+DCFF."""
    return tokens.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
