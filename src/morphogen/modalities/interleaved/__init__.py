r"""Items of several parts, as one sequence of tokens: a picture, its sound, its caption.

    [image there?] c_1 .. c_64   [caption there?] w_1 .. w_n end end ..     one vocabulary:
    marks, two for each part | codes of pictures | codes of sounds | pieces of words

The columns of a table are the parts: texts, and files that its rows name. Texts are cut into pieces
of words (BPE, one vocabulary for all of them); a picture or a sound becomes the codes that a
trained bundle gives it (van den Oord et al. 2017), one that was trained before on such files:

    morphogen train emoji/images --family vq_vae --out models/codes
    morphogen train emoji/captions.csv --modality interleaved --set modality.coders=models/codes

Each part has its place in the sequence, begins with a mark that says whether it is there, and holds
tokens of its own kind only (`TensorSpec.runs`), so that whatever is drawn can be decoded. Several
parts of one kind (the frames of a story) share their tokens. `masked` draws any parts given any
others, `autoregressive` those that come after what is given, in the order of `parts`
(cf. Aghajanyan et al. 2022, arXiv:2201.07520; Lu et al. 2024, arXiv:2312.17172).

In what `morphogen task fill` is given, a cell "?" is a part to be drawn.

Legend: N items, L tokens.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.codec_storage import codec_tensors, describe_codec, rebuild_codec
from morphogen.core.errors import DataError
from morphogen.core.following import GAP
from morphogen.core.spec import MARK, Run, TensorSpec
from morphogen.core.storage import below, write_atomic, write_text
from morphogen.core.visible import in_html
from morphogen.modalities.interleaved import page
from morphogen.modalities.interleaved.coders import TEXT, Coders, kind_of
from morphogen.modalities.interleaved.reading import AUTO, Rows, recognise

MOST_LOOKED_AT = 64  # values by which the kind of a part is told
ROWS, PAGES = ".jsonl", (".html", ".htm")
NO_NAME = re.compile(r"[^\w.-]")  # what no file is called by


class Interleaved(Codec):
    """Rows of texts, and of files that they name, as one sequence of tokens."""

    suffix: ClassVar[str] = ".html"
    gap: ClassVar[str] = "a part that is ? in a file, null behind the API"
    family = "masked"
    unit: ClassVar[str] = "token"
    judged_as_fitted: ClassVar[bool] = True

    def __init__(
        self,
        *,
        parts: str = AUTO,  # columns, in order: "sound,caption,image"; auto: files and captions
        coders: str = "",  # bundles that give files their codes: "models/a,models/b"
        vocab_size: int = 512,  # pieces of words of all texts, at most
        length: int | None = None,  # tokens of a text; none: from the data
    ) -> None:
        self.parts, self.vocab_size, self.length = parts, vocab_size, length
        self.coders = Coders(coders)
        self.kinds: dict[str, str] = {}  # of each part, in order
        self.facts: dict[str, Any] = {}

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source)

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        yield from Rows(self.parts, self.coders.opened, self._known).read(source, report)

    def read_inputs(self, source: Path | str) -> list[Item]:
        """The items of a task's input; a cell "?" is a part that is to be drawn."""
        report = Report(str(source))
        rows = Rows(self.parts, self.coders.opened, self._known, gaps=True)
        items = list(rows.read(source, report))
        report.check_readable(items)
        return items

    def asked(self, parts: Mapping[str, str | Path | None]) -> Item:
        """An item of texts, files, and None for a part that is to be drawn. Raises `DataError` for
        one of a name that no part has, or of another kind."""
        item = Item({name: GAP if each is None else each for name, each in parts.items()}, "parts")
        self.check_fits(item, Report(item.name))
        for name, each in parts.items():
            is_text = self.kinds[name] == TEXT
            if each is not None and isinstance(each, str) is not is_text:
                wrong, right = ("file", "text") if is_text else ("text", "file")
                raise DataError(f"{name!r} is given as a {wrong}", expected=f"a {right}")
            if isinstance(each, Path):
                item.value[name] = self.coders.opened(name, each)
        return item

    @property
    def part_codecs(self) -> dict[str, Codec]:
        """By name, in order, what gives each part its tokens."""
        return {name: self.coders[kind] for name, kind in self.kinds.items()}

    @property
    def _known(self) -> dict[str, bool]:
        return {name: kind != TEXT for name, kind in self.kinds.items()}

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Interleaved:
        seen: dict[str, list[Any]] = {}
        texts: list[Item] = []
        num, there = 0, Counter[str]()
        for item in items:
            num += 1
            for name, value in item.value.items():
                held = seen.setdefault(name, [])
                there[name] += value is not None
                if value is not None and len(held) < MOST_LOOKED_AT:
                    held.append(value)
                if isinstance(value, str):
                    texts.append(Item(value))
        if not num:
            raise DataError("there are no items to learn from", expected="at least one")
        seen = {name: values for name, values in seen.items() if values}
        wanted = [each.strip() for each in self.parts.split(",")] if self.parts != AUTO else []
        order = [name for name in wanted if name in seen] or list(seen)
        self.kinds = {name: kind_of(name, seen[name], self.coders) for name in order}
        if texts:
            options = {"vocab_size": self.vocab_size, "length": self.length}
            reader = discover.find("modality", TEXT)(form="documents", tokenizer="bpe", **options)
            self.coders.add(TEXT, reader.fit(texts))
        self.facts = {
            "parts": ", ".join(f"{name} ({kind})" for name, kind in self.kinds.items()),
            **{
                f"{name}_absent": f"{num - there[name]:,} of {num:,} training items have no {name}"
                for name in self.kinds
                if there[name] < num
            },
        }
        return self._lay_out()

    def _lay_out(self) -> Interleaved:
        """Where each part lies, and where the tokens of each kind begin."""
        first, self.first = 2 * len(self.kinds), {}
        for kind in dict.fromkeys(self.kinds.values()):
            self.first[kind] = first
            first += self.coders[kind].spec.vocab_size
        runs, self.places = [], dict[str, slice]()
        for number, (name, kind) in enumerate(self.kinds.items()):
            spec = self.coders[kind].spec
            runs.append(Run(MARK.format(name), 1, 2 * number, 2))
            start = sum(run.length for run in runs)
            self.places[name] = slice(start, start + spec.shape[0])
            runs.append(Run(name, spec.shape[0], self.first[kind], spec.vocab_size))
        self.spec = TensorSpec.interleaved(runs)
        return self

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        """Items -> (N, L). Of a part that is absent, or to be drawn, the tokens mean nothing."""
        self._check_fitted()
        x = torch.zeros(len(items), self.spec.shape[0], dtype=torch.int64)
        for number, (name, kind) in enumerate(self.kinds.items()):
            place, coder = self.places[name], self.coders[kind]
            values = [item.value.get(name) for item in items]
            there = torch.tensor([value is not None for value in values], dtype=torch.bool)
            x[:, place.start - 1] = 2 * number + there.long()
            x[:, place] = self.first[kind] + (coder.spec.end or 0)
            own = [i for i, value in enumerate(values) if value is not None and value is not GAP]
            if own:
                x[own, place] = self.first[kind] + coder.encode_many([Item(values[i]) for i in own])
        return x

    def decode(self, x: Tensor) -> dict[str, Any]:
        found: dict[str, Any] = self.decode_many(x[None])[0]
        return found

    def decode_many(self, x: Tensor) -> list[dict[str, Any]]:
        x = x.cpu()
        items: list[dict[str, Any]] = [{} for _ in range(len(x))]
        for name, kind in self.kinds.items():
            own = self.there(x, name).nonzero().flatten().tolist()
            # What is no code of this kind, as in an item that was damaged to try a judge, is the
            # nearest that is.
            size = self.coders[kind].spec.vocab_size
            codes = (x[own][:, self.places[name]] - self.first[kind]).clamp(0, size - 1)
            for i, value in zip(
                own, self.coders[kind].decode_many(codes) if own else [], strict=True
            ):
                items[i][name] = value
        return items

    def there(self, x: Tensor, name: str) -> Tensor:
        """Which of encoded items (N, L) have a part: (N,) bool."""
        return x[:, self.places[name].start - 1] % 2 == 1

    def known(self, item: Item) -> Tensor | None:
        """Which tokens of an item are known, (L,); None where all are."""
        gaps = {name for name, value in item.value.items() if value is GAP}
        names = self.spec.names
        return torch.tensor([name not in gaps for name in names]) if gaps else None

    def filled(self, items: Sequence[Item], draws: Tensor) -> list[dict[str, Any]]:
        """Items as they are, with what was drawn where they have gaps: (N, S, L), S of each."""
        told = self.decode_many(draws.flatten(0, 1))
        own = [item.value for item in items for _ in range(draws.shape[1])]
        return [
            {
                name: drawn[name] if value[name] is GAP else value[name]
                for name in self.kinds
                if value.get(name) is not None
            }
            for drawn, value in zip(told, own, strict=True)
        ]

    def num_units(self, x: Tensor) -> Tensor:
        """Tokens of what is there, marks among them."""
        total = torch.full((len(x),), float(len(self.kinds)), device=x.device)
        for name, kind in self.kinds.items():
            own: TensorSpec = self.coders[kind].spec
            size = own.num_real(x[:, self.places[name]] - self.first[kind])
            total = total + size * self.there(x, name)
        return total

    def check_fits(self, item: Item, report: Report) -> None:
        """Every part is one that the codec knows."""
        self._check_fitted()
        there = [name for name, value in item.value.items() if value is not None]
        if strange := [name for name in there if name not in self.kinds]:
            raise DataError(
                f"no training item has a part {strange[0]!r}", expected=", ".join(self.kinds)
            )

    # -- for people ------------------------------------------------------------------------------

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return page.cards(values, self._shown, columns)

    def _shown(self, name: str, value: Any) -> str:
        if value is GAP:
            return "<p>?</p>"
        if self.kinds[name] == TEXT:
            return f"<p>{in_html(value)}</p>"
        return self.coders[self.kinds[name]].html([value], 1)

    def brief(self, value: Any, most: int = 40) -> str:
        texts = [str(each) for each in value.values() if isinstance(each, str)]
        return super().brief(" \u00b7 ".join(texts) or ", ".join(value), most)

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        """A page; or rows, in a file whose name ends in .jsonl or in a folder, with the files that
        they name beside. Raises `DataError` for a file of another kind."""
        if path.suffix in PAGES:
            return super().write(values, path, columns)
        if path.suffix not in ("", ROWS):
            raise DataError(
                "items of several parts are not written in such a file", found=path.name,
                expected=f"{ROWS}, {self.suffix}, or a folder", hint=f"--out {path.stem}{ROWS}",
            )  # fmt: skip
        return self._write_rows(values, path if path.suffix else path / f"rows{ROWS}")

    def write_part(
        self, values: Sequence[Any], path: Path, first: int, total: int, columns: int | None = None
    ) -> Path:
        """In a folder there are several files of rows then."""
        if path.suffix:
            return super().write_part(values, path, first, total, columns)
        return super().write_part(values, path / f"rows{ROWS}", first, total, columns)

    def part_file(self, path: Path, number: int, name: str) -> Path | None:
        """Beside rows, called by them, the number and the part."""
        if path.suffix != ROWS or self.kinds[name] == TEXT:
            return None
        called = f"{path.stem}-{number:04d}-{NO_NAME.sub('_', name)}"
        return path.with_name(called + self.part_codecs[name].suffix)

    def _write_rows(self, values: Sequence[Any], path: Path) -> Path:
        rows = []
        for number, value in enumerate(values):
            rows.append(row := dict(value))
            for name, own in value.items():
                if (file := self.part_file(path, number, name)) is not None:
                    row[name] = _as_it_is(self.part_codecs[name], own, file).name
        return write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        self._check_fitted()
        names = ("parts", "vocab_size", "length")
        return {
            "options": {name: getattr(self, name) for name in names},
            "kinds": self.kinds,
            "coders": {kind: describe_codec(self.coders[kind]) for kind in self.first},
        }

    def tensors(self) -> dict[str, Tensor]:
        """The weights and vocabularies of what gives tokens, by kind."""
        return {
            f"{kind}.{name}": tensor
            for kind in self.first
            for name, tensor in codec_tensors(self.coders[kind]).items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Interleaved:
        codec = cls(**state["options"])
        codec.kinds = dict(state["kinds"])
        for kind, entry in state["coders"].items():
            codec.coders.add(kind, rebuild_codec(entry, below(f"{kind}.", tensors)))
        return codec._lay_out()

    def _check_fitted(self) -> None:
        if not self.kinds:
            raise DataError("the codec has seen no items yet", hint="codec.fit(items)")


def _as_it_is(coder: Codec, value: Any, file: Path) -> Path:
    """Write one value as a folder of values has it: a file of one may show it enlarged."""
    with tempfile.TemporaryDirectory() as place:
        made = coder.write([value], Path(place) / "item")
        if not made.is_dir():
            return coder.write([value], file)
        (own,) = made.iterdir()
        return write_atomic(file, partial(shutil.copyfile, own))
