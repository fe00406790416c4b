"""What is learned of packed documents, shown and proved before the first step.

    shown     three documents, with what is learned of them in ⟦ ⟧
    other     the loss has no gradient at the logits of tokens that are not learned
    apart     a document beside others has the probabilities that it has alone
    ends      the end of documents is learned, so that a model stops

Runs that looked well and taught nothing, or the questions, or never to stop, broke one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.backbone import CanTell
from morphogen.core.batch import Batch, learned_length
from morphogen.core.errors import TrainingError
from morphogen.data import progress
from morphogen.data.dataset import Data
from morphogen.data.packing import Packed

SHOWN, MOST_SHOWN = 3, 600  # documents, and characters of each
OPEN, CLOSE = "\u27e6", "\u27e7"  # round what is learned
LOOKED_AT, POSITIONS = 4, 2048  # windows, and tokens of them, at most; of each the outer documents
SAME = 1e-3  # nats: what two ways of adding up a product may differ by


def examples(data: Data) -> list[str]:
    """The first documents as text, what is learned of them marked."""
    split: Any = data.train
    if not isinstance(split, Packed):
        return []
    codec: Any = data.codec
    told = []
    for window in range(min(SHOWN, len(split))):
        _, there = split.places(window)[0]
        batch = split.batch(torch.tensor([window]))
        text = _marked(codec, batch.x[0, there], batch.weight[0, there] > 0)
        if len(text) > MOST_SHOWN:
            text = f"{text[: MOST_SHOWN // 2]} ... {text[-MOST_SHOWN // 2 :]}"
        name = split.names[window]
        told.append(f"example {window + 1}, learned in {OPEN}{CLOSE} ({name}):\n{text}")
    return told


def _marked(codec: Any, tokens: Tensor, learned: Tensor) -> str:
    """The text of tokens (n,), runs of learned ones in brackets, an end as its name."""
    changes = torch.cat([torch.tensor([0]), (learned[1:] != learned[:-1]).nonzero()[:, 0] + 1])
    parts = []
    for start, stop in zip(changes.tolist(), [*changes.tolist()[1:], len(tokens)], strict=True):
        text = "".join(
            "<end>" * len(own) if is_end else codec.tokenizer.decode(own).decode("utf-8", "replace")
            for is_end, own in _runs(tokens[start:stop].tolist(), codec.end)
        )
        parts.append(f"{OPEN}{text}{CLOSE}" if bool(learned[start]) else text)
    return "".join(parts)


def _runs(tokens: list[int], end: int) -> Iterator[tuple[bool, list[int]]]:
    """What stands between ends, and ends, in order."""
    return ((is_end, [*own]) for is_end, own in groupby(tokens, lambda token: token == end))


def prove(family: Any, data: Data) -> str | None:
    """What was proved, in one sentence; None where nothing is packed. Raises `TrainingError` for
    what does not hold."""
    split: Any = data.train
    if not isinstance(split, Packed) or not len(split):
        return None
    by_share = sorted(range(len(split)), key=lambda i: -len(split.windows[i]))
    index = torch.tensor(by_share[: max(1, min(LOOKED_AT, POSITIONS // split.spec.num_values))])
    was_training = family.training
    family.eval()
    try:
        proved = [_no_other(family, split, index), _apart(family, split, index), _ends(split)]
    finally:
        family.train(was_training)
    return f"proved: {'; '.join(each for each in proved if each)}"


def _no_other(family: Any, split: Packed, index: Tensor) -> str:
    network = family.network
    if not isinstance(network, CanTell):
        return ""
    whole = split.batch(index).to(family.device)
    until = slice(max(int(learned_length(whole.weight).max()), 1))  # the rest counts for nothing
    batch = Batch(whole.x[:, until], weight=whole.weight[:, until])
    tokens = family.to_tokens(batch.x)
    with torch.no_grad():
        h = network.features(family.inputs(tokens))
    logits = network.logits(h).detach().requires_grad_()  # (B, L, V)
    log_p = -F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")
    family.weighed(log_p, batch).sum().backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum(-1) > 0  # (B, L)
    learned = batch.weight > 0
    if bool((reached & ~learned).any()) or not bool((reached & learned).any()):
        raise _broken("what is learned is not what is marked", "gradients at other tokens")
    return "the loss has gradients at marked tokens alone"


@torch.no_grad()
def _apart(family: Any, split: Packed, index: Tensor) -> str:
    shared = [window for window in index.tolist() if len(split.windows[window]) > 1]
    if not shared:
        return ""
    worst = 0.0
    for window in progress.told(shared, "proving:", len(shared), "windows"):
        together = family.token_log_prob(split.batch(torch.tensor([window])).x.to(family.device))
        alone, places = split.alone(window).x, split.places(window)
        for row in (0, len(places) - 1):
            there = places[row][1]
            stop = split.gap + there.stop - there.start
            own = family.token_log_prob(alone[row : row + 1, :stop].to(family.device))
            worst = max(worst, float((together[0, there] - own[0, split.gap :]).abs().max()))
    if worst > SAME:
        found = f"log probabilities that differ by {worst:g}"
        raise _broken("packed documents see each other", found)
    return f"packed documents do not see each other ({worst:.1g} nats)"


def _ends(split: Packed) -> str:
    learned = sum(bool(split.document(i)[1][-1]) for i in range(split.num_documents))
    if not learned:
        raise _broken("no document ends where there is room for it", "ends that are not learned")
    return f"the end of {learned:,} of {split.num_documents:,} documents is learned"


def _broken(what: str, found: str) -> TrainingError:
    return TrainingError(
        f"before the first step: {what}",
        found=found,
        hint="another backbone, such as token_transformer, or a longer window: modality.length=N",
    )
