r"""A reader: a question and a text in, whether the text answers, and where.

    mark q_1 .. q_m mark t_1 .. t_n end  -->  encoder  -->  h_0 .. h_N
    p(answers) = sigmoid(w . h_0 + a prior + b),   p(from i to j) = p_start(i) p_end(j)

The encoder is any that has states of tokens (the published MiniLM, a masked model of one's own);
question and text are read together, so that each looks at the other (Nogueira & Cho 2019; spans as
in Devlin et al. 2019). It answers from sentences, and puts passages in order. Where it is sure of
less than `bound`, nothing is said.

    reader.json  heads.safetensors  encoder/      the folder of one

Legend: B pairs, N tokens, D features.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.core.backbone import CanTell
from morphogen.core.border import REAL, Number, read_json
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.storage import expanded, read_tensors, write_tensors, write_text
from morphogen.core.visible import in_shell
from morphogen.interop.importing import opened_or_imported

FORMAT, VERSION = "morphogen reader", 1
SHAPE = {"format": FORMAT, "version": Number(True, VERSION, VERSION), "bound": REAL, "facts?": dict}
MOST_ASKED, MOST_READ = 64, 320  # tokens of a question, and of all that is read with it
LONGEST = 30  # tokens of an answer
BATCH = 16  # pairs that are read at once
PRIOR = 5.0  # what the score of a search is worth at first: steps of training are small beside it
_PIECE = re.compile(r"\s*(?:\w+|[^\w\s])")


@dataclass(frozen=True)
class Found:
    """What a reader makes of a text: how sure it is that it answers, and its answer's place."""

    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Laid:
    """A question and a text as they are read."""

    tokens: list[int]
    begins: int  # the first token of the text
    starts: list[int]  # where each token of the text begins in it, and ends
    ends: list[int]


class Reader(nn.Module):
    """An encoder with heads for spans and for whether there is one.

    Raises `RefusedPair` for a model that has no states of tokens.
    """

    def __init__(self, bundle: Bundle | Path | str) -> None:
        super().__init__()
        opened = bundle if isinstance(bundle, Bundle) else opened_or_imported(bundle)
        family: Any = opened.family
        self.network: Any = getattr(family, "network", None)
        self.bundle = opened
        if not isinstance(self.network, CanTell) or not hasattr(family, "mask"):
            raise RefusedPair(
                "this model does not look both ways, so that it cannot read a question with a text",
                found=type(family).__name__,
                expected="an encoder, such as published/minilm, or --family masked over texts",
            )
        self.mark = family.mask if family.start is None else family.start
        self.end: int = family.spec.end
        self.most = min(MOST_READ, family.network.in_spec.shape[0])
        dim = family.network.embed_tokens.embedding_dim
        self.spans, self.answers = nn.Linear(dim, 2), nn.Linear(dim, 1)
        self.prior = nn.Parameter(torch.tensor(PRIOR))
        self.bound = 0.5
        self.facts: dict[str, Any] = {}  # how it was trained
        self.tokens_of = lru_cache(1 << 16)(self._tokens_of)

    def heads(self) -> list[nn.Parameter]:
        """What is not the encoder's."""
        return [*self.spans.parameters(), *self.answers.parameters(), self.prior]

    # -- laying out --------------------------------------------------------------------------------

    def _tokens_of(self, piece: str) -> tuple[int, ...]:
        codec: Any = self.bundle.codec
        return tuple(codec.encode_sequences([Item(piece)])[0].tolist())

    def _pieces(self, text: str) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """The tokens of each word, and where it stands."""
        for match in _PIECE.finditer(text):
            start = match.end() - len(match.group().lstrip())
            yield self.tokens_of(match.group()), start, match.end()

    def laid(self, question: str, text: str) -> Laid:
        """A pair as it is read; of a text that is too long, what stands first."""
        asked = [token for told, *_ in self._pieces(question) for token in told][:MOST_ASKED]
        tokens, starts, ends = [self.mark, *asked, self.mark], list[int](), list[int]()
        begins = len(tokens)
        for told, start, end in self._pieces(text):
            if len(tokens) + len(told) >= self.most:
                break
            tokens += told
            starts += [start] * len(told)
            ends += [end] * len(told)
        return Laid([*tokens, self.end], begins, starts, ends)

    # -- reading -----------------------------------------------------------------------------------

    def forward(self, laid: Sequence[Laid], priors: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Pairs -> the logit of each that it answers (B,), and log p of where an answer starts and
        ends (B, 2, N), over the tokens of its text."""
        longest = max(len(each.tokens) for each in laid)
        device = self.spans.weight.device
        x = torch.full((len(laid), longest), self.end, device=device)
        outside = torch.ones_like(x, dtype=torch.bool)
        for row, each in enumerate(laid):
            x[row, : len(each.tokens)] = torch.tensor(each.tokens, device=device)
            outside[row, each.begins : each.begins + max(len(each.starts), 1)] = False
        h = self.network.features(x)  # (B, N, D)
        prior = torch.tensor(list(priors), dtype=h.dtype, device=device)
        answers = self.answers(h[:, 0])[:, 0] + self.prior * prior
        spans = self.spans(h).transpose(1, 2).masked_fill(outside[:, None], -torch.inf)
        return answers, spans.log_softmax(2)

    @torch.no_grad()
    def read(
        self, question: str, texts: Sequence[str], priors: Sequence[float] | None = None
    ) -> list[Found]:
        """What each text says to a question; `priors` are what is known of it before, 0 to 1."""
        self.eval()
        priors = [0.0] * len(texts) if priors is None else priors
        found: list[Found] = []
        for first in range(0, len(texts), BATCH):
            part = slice(first, first + BATCH)
            laid = [self.laid(question, text) for text in texts[part]]
            answers, spans = self(laid, priors[part])
            for each, logit, (starts, ends) in zip(laid, answers, spans, strict=True):
                found.append(_best(each, float(logit.sigmoid()), starts, ends))
        return found

    def scores(
        self, question: str, texts: Sequence[str], priors: Sequence[float] | None = None
    ) -> list[float]:
        """How sure it is that each text answers: what re-ranks a search."""
        return [found.score for found in self.read(question, texts, priors)]

    # -- disk --------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> Path:
        """Write it; reader.json goes last, so that a folder with one is complete."""
        folder = expanded(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "reader.json").unlink(missing_ok=True)
        self.bundle.save(folder / "encoder")
        heads = {n: v for n, v in self.state_dict().items() if not n.startswith("network.")}
        write_tensors(folder / "heads.safetensors", heads)
        about = {"format": FORMAT, "version": VERSION, "bound": self.bound, "facts": self.facts}
        write_text(folder / "reader.json", json.dumps(about, indent=2) + "\n")
        return folder

    @classmethod
    def open(cls, folder: Path | str) -> Reader:
        """Raises `BundleError` for a folder that holds none."""
        folder = expanded(folder)
        if not (folder / "reader.json").is_file():
            raise BundleError(
                "there is no reader here", where=folder,
                hint="morphogen learn reader INDEX --data questions.jsonl --out "
                + in_shell(folder),
            )  # fmt: skip
        about = read_json(folder / "reader.json", SHAPE)
        reader = cls(Bundle.open(folder / "encoder"))
        heads = read_tensors(folder / "heads.safetensors")
        try:
            missing, strange = reader.load_state_dict(heads, strict=False)
        except RuntimeError as error:
            raise BundleError(f"the heads do not fit the encoder: {error}", where=folder) from error
        if strange or any(not name.startswith("network.") for name in missing):
            raise BundleError("the heads do not fit the encoder", where=folder)
        reader.bound, reader.facts = about["bound"], about.get("facts", {})
        return reader.eval()


def _best(laid: Laid, sure: float, starts: Tensor, ends: Tensor) -> Found:
    """The most probable span of at most `LONGEST` tokens."""
    num = len(laid.starts)
    if not num:
        return Found(0.0, 0, 0)
    text = slice(laid.begins, laid.begins + num)
    both = starts[text, None] + ends[None, text]  # (n, n)
    kept = torch.ones_like(both, dtype=torch.bool).triu().tril(LONGEST - 1)
    i, j = divmod(int(both.masked_fill(~kept, -torch.inf).argmax()), num)
    return Found(sure, laid.starts[i], laid.ends[j])
