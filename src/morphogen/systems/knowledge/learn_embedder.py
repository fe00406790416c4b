r"""An embedder from nothing but a collection: what a passage may be asked for by, lies near it.

    f(text) = |W mean of e_t|,   e_t = idf_t u_t at first

Vectors of tokens begin as those of latent semantic analysis (Deerwester et al. 1990): the first
singular vectors of how often each token stands in each passage, the rarer the weightier. Then they
are learned by contrast (`families.contrastive`): a title, a stretch, or some words of a passage lie
nearer to what is left of it than to what is left of others. Judgements are needed for neither.

Legend: N passages, V tokens, D dimensions, B pairs of a step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import DataError
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.spec import TensorSpec
from morphogen.modalities.text import Text
from morphogen.modalities.text.tokenizers import Library
from morphogen.systems.knowledge.index import Index

UNKNOWN, END = "[UNK]", "[SEP]"
QUERY = "query"  # the condition: what a passage is asked for by
LENGTH, SHORT = 320, 48  # tokens of a passage, and of what it is asked for by, that are learned
MOST_ANALYSED = 20_000  # passages whose counts are analysed
FEWEST = 50  # passages that anything can be learned from
LEARNED = 256  # pairs of a step
KEPT = 0.1  # of the stretches that ask stay in their passage
Told = Callable[[int, float], None]  # (step, loss)


@dataclass(frozen=True)
class Source:
    """A passage as tokens: its title, and its text."""

    title: Sequence[int]
    text: Sequence[int]


def learn(
    index: Index,
    *,
    seconds: float,
    dim: int = 256,
    vocab_size: int = 8192,
    lr: float = 3e-4,
    num_steps: int = 1000,
    seed: int = 0,
    told: Told = lambda step, loss: None,
) -> Bundle:
    """An embedder of what an index holds, for everyone who may read it. Raises `DataError` for too
    few passages."""
    readable = index.store.readable(())
    passages = list(readable.passages(readable.rows.tolist()).values())
    if len(passages) < FEWEST:
        raise DataError(
            "there are too few passages to learn from", found=len(passages),
            expected=f"{FEWEST} or more", hint="--by models/published/minilm",
        )  # fmt: skip
    bundle = _untrained([each.context for each in passages], dim, vocab_size, seed)
    codec: Any = bundle.codec

    def tokens(texts: Sequence[str]) -> list[list[int]]:
        return [each.tolist() for each in codec.encode_sequences([Item(text) for text in texts])]

    titles = tokens([next(filter(None, (*p.heading[::-1], p.title)), "") for p in passages])
    texts = tokens([p.text for p in passages])
    sources = [Source(*each) for each in zip(titles, texts, strict=True)]
    begin_with_analysis(bundle.family, sources, seed)
    steps = _train(
        bundle.family, sources, told, seconds=seconds, num_steps=num_steps, lr=lr, seed=seed
    )
    source = Path(index.store.name).resolve().name
    bundle.data = {"source": f"{len(passages):,} passages of {source}"}
    bundle.run = {"steps": steps}
    return bundle


def _untrained(texts: Sequence[str], dim: int, vocab_size: int, seed: int) -> Bundle:
    """A bag of tokens, with a vocabulary of its own."""
    codec, told = Text(form="documents"), Text(form="documents")
    codec.tokenizer = told.tokenizer = vocabulary(texts, vocab_size)
    for each, length in ((codec, LENGTH), (told, SHORT)):
        each.spec = TensorSpec.tokens(length, each.tokenizer.vocab_size, end=each.tokenizer.end)
    codec.condition_codecs[QUERY] = told
    recipe = Recipe(
        {"name": "text"}, {"name": "contrastive", "latent_dim": dim},
        {"name": "bag", "model_dim": dim},
    )  # fmt: skip
    recipe = resolve(recipe, codec.spec)
    torch.manual_seed(seed)
    return Bundle(build_family(recipe, codec.spec, codec.conditions).eval(), codec, recipe)


def vocabulary(texts: Sequence[str], size: int) -> Library:
    """Words and parts of words, whatever their case and accents (WordPiece, as BERT's)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made: Any = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    marks = [UNKNOWN, END]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=marks, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return Library(made.to_str(), end=made.token_to_id(END))


@torch.no_grad()
def begin_with_analysis(family: Any, sources: Sequence[Source], seed: int = 0) -> None:
    """Let the vectors of tokens be those of latent semantic analysis, and W nothing more."""
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
    from scipy.sparse.linalg import svds  # type: ignore[import-untyped]

    weights = family.encoder.embed_tokens.weight  # (V, D)
    chosen = list(sources)
    random.Random(seed).shuffle(chosen)
    rows, columns = [], []
    for row, source in enumerate(chosen[:MOST_ANALYSED]):
        rows += [row] * (len(source.title) + len(source.text))
        columns += [*source.title, *source.text]
    shape = min(len(chosen), MOST_ANALYSED), len(weights)
    counts = csr_matrix((np.ones(len(rows)), (rows, columns)), shape)  # (N, V)
    counts.sum_duplicates()
    held = np.bincount(counts.indices, minlength=shape[1])  # passages with each token
    idf = np.log((1 + shape[0]) / (1 + held))
    counts.data = 1 + np.log(counts.data)
    weighted = counts.multiply(idf).tocsr()
    lengths = np.sqrt(weighted.multiply(weighted).sum(1)).A1
    weighted = csr_matrix(weighted.multiply(1 / np.maximum(lengths, 1e-9)[:, None]))
    num = min(weights.shape[1], min(shape) - 1)
    start = np.random.default_rng(seed).normal(size=min(shape))
    _, _, right = svds(weighted, k=num, v0=start)  # (num, V)
    vectors = np.zeros((shape[1], weights.shape[1]), np.float32)
    vectors[:, :num] = (right * idf).T
    scale = np.sqrt((vectors[held > 0] ** 2).sum(1).mean())
    weights.copy_(torch.from_numpy(vectors / max(scale, 1e-9)))
    project = family.encoder.head.project
    project.weight.copy_(torch.eye(*project.weight.shape))
    project.bias.zero_()


def _train(
    family: Any,
    sources: Sequence[Source],
    told: Told,
    *,
    seconds: float,
    num_steps: int,
    lr: float,
    seed: int,
) -> int:
    """Learn from pairs that are drawn anew; returns the steps taken."""
    draw, end = random.Random(seed), family.spec.end
    able = [each for each in sources if len(each.text) >= 8]
    optimizer = torch.optim.Adam(family.parameters(), lr=lr, betas=(0.9, 0.98))
    started, step = time.monotonic(), 0
    family.train()
    while step < num_steps and (spent := time.monotonic() - started) < seconds and able:
        done = max(step / num_steps, spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, 10 * done + 0.02) * (1 - done)
        pairs = [pair(each, draw) for each in draw.sample(able, min(LEARNED, len(able)))]
        asked = _padded([each for each, _ in pairs], SHORT, end)
        x = _padded([each for _, each in pairs], LENGTH, end)
        loss, _ = family.loss(Batch(x, cond={QUERY: asked}), "all", generator(step))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        step += 1
        told(step, float(loss.detach().mean()))
    family.eval()
    return step


def pair(source: Source, draw: random.Random) -> tuple[Sequence[int], Sequence[int]]:
    """What a passage may be asked for by, and what is left of it: its title, a stretch, or some of
    its tokens in any order."""
    text, kind = list(source.text), draw.random()
    if kind < 0.3 and len(source.title) > 2:
        return source.title, text
    if kind < 0.6:
        return draw.sample(text, min(len(text), draw.randint(4, 14))), [*source.title, *text]
    num = draw.randint(4, min(32, len(text) // 2))
    start = draw.randint(0, len(text) - num)
    rest = text if draw.random() < KEPT else [*text[:start], *text[start + num :]]
    return text[start : start + num], [*source.title, *rest]


def _padded(rows: Sequence[Sequence[int]], most: int, end: int) -> Tensor:
    """Tokens (B, L), each row with an end."""
    kept = [list(row[: most - 1]) for row in rows]
    longest = max(map(len, kept)) + 1
    return torch.tensor([[*row, *[end] * (longest - len(row))] for row in kept])
