r"""Conversations, as tokens of which only the answers are learned, with the marks that end them.

    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|> end
    ------------------------------------------------------ 0  ------- 1 --- 1

A template writes them, the default one or that of the model (see `modalities.text.chat`). Tokens
are cut where an answer begins, as they are when one is drawn. Conversations are packed into windows
of L tokens, none of which sees another: an end parts them, and as many more as the network's
n-grams reach back over. A base that was trained on whole documents gets one in each item.

Legend: L tokens of an item, n of a conversation with its end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen import sources
from morphogen.core.border import read_text
from morphogen.core.codec import Codec, Fingerprint, Item, Problem, Recognition, Report
from morphogen.core.codec import Text as Listed
from morphogen.core.errors import DataError
from morphogen.modalities.text import STEP, Text, page
from morphogen.modalities.text import fingerprint as prints
from morphogen.modalities.text.chat import (
    CHATML,
    Conversation,
    Message,
    Piece,
    Template,
    conversation_of,
    form_of,
)
from morphogen.modalities.text.encodings import to_bytes
from morphogen.modalities.text.reading import list_texts
from morphogen.sources import Wants

SURE = 0.95
LEAST = 1024  # tokens of a window, where a base sees as many: what is said later finds room too
SAMPLE = 2000  # conversations that windows are measured by
ROWS = Wants("conversation", rows=True)


class Chat(Text):
    """Rows of messages, of prompts and completions, or of instructions and outputs."""

    wants: ClassVar[Wants] = ROWS
    packs: ClassVar[bool] = True  # items are laid into windows: see `data.packing`

    def __init__(
        self,
        *,
        length: int | None = None,  # tokens of a window; none: from the data
        tokenizer: str = "auto",  # byte, char, bpe, or the folder of one; auto: from the data
        vocab_size: int | None = None,  # tokens of bpe, at most; none: from the data
        template: str | None = None,  # file with a chat template (Jinja); none: ChatML
    ) -> None:
        super().__init__(length=length, tokenizer=tokenizer, vocab_size=vocab_size)
        source = CHATML if template is None else read_text(Path(template), DataError)
        self.template, self.gap, self.num_cut = Template(source), 1, 0
        self.alone = False  # one conversation in each window
        self.start: int | None = None  # the token that the model itself puts before a text

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        try:
            columns = sources.survey(source).columns
        except DataError:
            return None
        form = form_of(columns)
        cells = [cell for name in form for cell in columns[name] if cell not in (None, "")]
        lists = len(form) == 1 and all(isinstance(cell, (list, str)) for cell in cells)
        texts = all(isinstance(c, (list, str)) for c in cells) and not all(map(_is_number, cells))
        if not form or not cells or not (lists or texts):
            return None
        return Recognition(SURE, f"conversations, in the columns {', '.join(form)}")

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        return None

    @classmethod
    def onto(cls, fitted: Codec, network: Any, **options: Any) -> Chat | None:
        """Conversations for a model of texts, in its tokens."""
        if not isinstance(fitted, Text):
            return None
        codec = cls(**{k: v for k, v in options.items() if k in ("length", "template")})
        codec.tokenizer, codec.named, codec.vocab_size = (
            fitted.tokenizer, fitted.named, fitted.vocab_size,
        )  # fmt: skip
        shape = fitted.spec.shape if codec.length is None else (codec.length,)
        codec.spec = replace(fitted.spec, shape=shape)
        if isinstance(fitted, Chat) and "template" not in options:
            codec.template, codec.start = fitted.template, fitted.start
        ngrams = getattr(network, "ngrams", None)
        codec.alone = bool(getattr(network, "across_documents", False))
        parted = codec.spec.end is None and not codec.alone
        codec.gap = (1 if ngrams is None else int(ngrams.most)) if parted else 0
        codec.facts = {"form": codec._form()}
        return codec

    def shorten(self, items: Iterable[Item]) -> None:
        """Windows no longer than `items` need: a base may see many times what a conversation has,
        and each step costs as much as its window is long."""
        if self.length is not None or self.spec.end is not None:
            return
        most = self.spec.shape[0]
        some = itertools.islice(items, SAMPLE)
        longest = max(map(self._length, some), default=most)
        length = min(most, max(LEAST, -(-(longest + self.gap) // STEP) * STEP))
        self.spec = replace(self.spec, shape=(length,))
        self.facts["form"] = self._form()

    def _length(self, item: Item) -> int:
        """Tokens of a conversation; 0 of one that the template refuses, which is told later."""
        try:
            return len(self.encode_learned(item)[0])
        except DataError:
            return 0

    def written_by(self, template: str, marks: Mapping[str, str] | None) -> None:
        """Write conversations by the template that came with the model."""
        self.template = Template(template, marks)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        self.num_cut = 0
        for record in sources.records(source, self.wants, report):
            try:
                value = self.value_of(record.value())
            except DataError as error:
                reason = f"{error.message} ({error.found})" if error.found else error.message
                fix = error.hint or "correct the row, or remove it"
                report.problems.append(Problem(record.name, reason, fix, fatal=True))
                continue
            report.num_read += 1
            yield Item(value, record.name, split=record.split, tags=record.tags)

    def value_of(self, row: Mapping[str, Any]) -> Any:
        """What a row says. Raises `DataError` for one that teaches nothing."""
        return conversation_of(row)

    def read_inputs(self, source: Path | str) -> list[Item]:
        """The conversations of a file; the texts of one that holds none, each a question."""
        if self.recognises(source) is not None:
            return super().read_inputs(source)
        return [Item(text) for text in read_text(Path(source), DataError).splitlines() if text]

    def texts(self, source: Any) -> Iterator[Listed]:
        """Every cell that is a text."""
        yield from list_texts(source, self.per, self.encoding, self.wants)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Chat:
        super().fit(Item(self.template.render(item.value)) for item in items)
        length = self.length or self.spec.shape[0]
        vocab_size, end = self.tokenizer.vocab_size, self.tokenizer.end
        self.spec, self.windows = type(self.spec).tokens(length, vocab_size, boundary=end), None
        self.gap = 6 if vocab_size <= 512 else 1  # as far as letters are embedded together
        self.facts = {"tokenizer": self.facts["tokenizer"], "form": self._form()}
        return self

    def _form(self) -> str:
        whole = self.spec.end is not None or self.alone
        how = "one to an item" if whole else "packed, apart from one another"
        return f"conversations, {how}, in windows of {self.spec.shape[0]} tokens"

    # -- encoding --------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Tokens of a conversation with its end, at most."""
        length: int = self._fitted().shape[0]
        return length - self.gap

    def encode_learned(self, item: Item) -> tuple[Tensor, Tensor]:
        """A conversation -> its tokens with an end (n,), and which are learned (n,), bool. What has
        no room is left out. A text that a model drew stands for itself."""
        tokens, learned, value = [], [], item.value
        if not isinstance(value, Conversation):
            pieces, value = [Piece(str(value), True)], Conversation(())
        else:
            pieces = self.template.pieces(value)
        for piece in pieces:
            own = self._tokens(piece.text, value)
            tokens.append(own)
            learned.append(torch.full((len(own),), piece.learned))
        both = torch.cat(tokens), torch.cat(learned)
        if int(both[0][-1]) == self.tokenizer.end:  # a template may write the end of its turns
            both = both[0][:-1], both[1][:-1]
        if self._begins(both[0]):
            both = both[0][1:], both[1][1:]
        whole = len(both[0]) < self.room
        kept = tuple(each[: self.room - 1] for each in both)
        end = torch.tensor([self.tokenizer.end])
        return torch.cat([kept[0], end]), torch.cat([kept[1], torch.tensor([whole])])

    def _begins(self, tokens: Tensor) -> bool:
        """Whether the template wrote the start of a text, which would stand there twice."""
        return self.gap == 0 and len(tokens) > 1 and int(tokens[0]) == self.start

    def _tokens(self, text: str, value: Conversation) -> Tensor:
        """The tokens of a piece. What somebody said never stands for a mark of the model."""
        marks, reader = self.tokenizer.marks, self.tokenizer
        said = [m.content for m in value.messages if any(mark in m.content for mark in marks)]
        if not said:
            return torch.from_numpy(reader.encode_marked(to_bytes(text)))
        parts = re.split("(" + "|".join(map(re.escape, said)) + ")", text)  # said at odd places
        encoded = [
            (reader.encode if i % 2 else reader.encode_marked)(to_bytes(part))
            for i, part in enumerate(parts)
            if part
        ]
        return torch.cat([torch.from_numpy(each) for each in encoded])

    def check_fits(self, item: Item, report: Report) -> None:
        """Raise `DataError` for a conversation whose answers begin where there is no room."""
        _, learned = self.encode_learned(item)
        if not bool(learned.any()):
            raise DataError(
                f"the answer begins behind the first {self.room - 1:,} tokens",
                hint="shorten what is before it, or --set modality.length=N",
            )
        if not bool(learned[-1]):
            self.num_cut += 1
            self.facts["cut"] = report.facts["cut"] = (
                f"{self.num_cut:,} conversations are longer than {self.room - 1:,} tokens: the "
                "rest of each is left out, and where it ends is not learned"
            )

    def encode(self, item: Item) -> Tensor:
        tokens, _ = self.encode_learned(item)
        end, length = self.tokenizer.end, self._fitted().shape[0]
        padding = length - self.gap - len(tokens)
        return torch.cat([tokens.new_full((self.gap,), end), tokens,
                          tokens.new_full((padding,), end)])  # fmt: skip

    def decode(self, x: Tensor) -> str:
        """The texts of a window, an end between them."""
        return page.END.join(filter(None, super().decode(x).split(page.END)))

    def encode_stream(self, item: Item) -> Tensor:
        return self.encode_learned(item)[0]

    def encode_sequences(self, items: Sequence[Item]) -> list[Tensor]:
        """What is to be answered, up to where the answer begins: a text is what the user says."""
        found = []
        for item in items:
            value = item.value
            if not isinstance(value, Conversation):
                value = Conversation((Message("user", str(value)),))
            text = self.template.render(value, open_turn=True)
            tokens = self._tokens(text, value)
            tokens = tokens[1:] if self._begins(tokens) else tokens
            found.append(torch.cat([tokens.new_full((self.gap,), self.tokenizer.end), tokens]))
        return found

    # -- recognising -----------------------------------------------------------------------------

    def odd(self, item: Item) -> tuple[str, str] | None:
        return None

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """Hashes of the 5-grams of all that is said."""
        return prints.fingerprint(str(item.value))

    # -- for people ------------------------------------------------------------------------------

    def brief(self, value: Any, most: int = 40) -> str:
        return page.brief(str(value), most)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        told = super().state()
        own = {"source": self.template.source, "marks": self.template.marks}
        options = {"length": self.length}
        laid = {"gap": self.gap, "alone": self.alone, "start": self.start}
        return told | {"options": options, "template": own, **laid}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Chat:
        codec = super().from_state(state, tensors)
        assert isinstance(codec, Chat)
        codec.windows, codec.gap = None, min(int(state["gap"]), codec.spec.shape[0] - 2)
        codec.alone, codec.start = bool(state.get("alone", False)), state.get("start")
        codec.template = Template(state["template"]["source"], state["template"]["marks"])
        codec.facts |= {"form": codec._form()}
        return codec


def _is_number(cell: Any) -> bool:
    return isinstance(cell, str) and re.fullmatch(r"[\s\d.,:%/+-]*", cell) is not None
