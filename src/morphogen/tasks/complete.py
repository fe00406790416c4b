r"""Go on from prompts: the model writes what follows, token by token, until it is done.

    x_i ~ p(x_i | prompt, x_<i)

It ends where the model ends it, where a stop text has come (which is left out), where a constraint
is met and nothing more can come, or after `most` tokens. Each completion is drawn with a seed of
its own: alone or beside others, it is the same.

A prompt that leaves no room in what the model sees at once loses its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.capability import refuses
from morphogen.core.errors import RecipeError, RefusedPair
from morphogen.core.random import randint
from morphogen.core.result import Result
from morphogen.core.schema import options, with_options
from morphogen.core.writing import (
    CanWrite,
    Limits,
    Marking,
    Piece,
    Request,
    TextCodec,
    Written,
    marked,
    tokens_of,
)
from morphogen.core.written import WrittenText, named
from morphogen.tasks._routes import Conditions, is_sequence, only

SPARE = 4  # a prompt takes all but one part in so many of what the model sees, unless told

Schema = str | dict[str, Any] | None
Texts = str | list[str] | None


@refuses(only("sequences of tokens, such as text, which go on where they stop", is_sequence))
@with_options(Limits)
def complete(
    model: CanWrite,
    sequences: Sequence[Tensor],
    codec: Any = None,
    marking: Marking | None = None,
    *,
    cond: Conditions | None = None,  # conditions by name, each (N, ...)
    generator: torch.Generator,
    num: int = 1,  # completions of each prompt
    most: int | None = None,  # tokens to come at most; none: all that there is room for
    stop: list[str] | None = None,  # texts that end it, and are left out
    schema: Schema = None,  # a JSON schema that the text obeys: the JSON, or a .json file
    regex: str | None = None,  # a regular expression that the whole text matches
    choice: Texts = None,  # the texts to choose from: yes|no|perhaps
    grammar: str | None = None,  # a grammar of the text in Lark's form, or a .lark file
    logprobs: int = 0,  # of the most probable tokens that are told beside each one; 0: none
    beam: int = 1,  # beginnings of each text that are followed to the most probable; 1: it is drawn
    draft: Bundle | str | None = None,  # who guesses tokens ahead: lookup, or a small bundle
    tell: Callable[[Piece], None] | None = None,  # told of each piece of text as it is certain
    **limits: Any,
) -> Result:
    """Go on from each prompt until it is done: completions, and why each ended.

    `sequences` are the prompts' tokens, each (n,), n >= 0.
    """
    within = Limits(**limits)
    check_limits(within, num, most, logprobs)
    how = _guided(model, codec, beam, draft)
    length = int(getattr(model, "spec").shape[0])  # noqa: B009
    constraint = asked_for(schema=schema, regex=regex, choice=choice, grammar=grammar)
    if (stop or constraint) and not isinstance(codec, TextCodec):
        raise RecipeError("only texts stop at a text, and obey a schema or grammar")
    prompts = [beginning for beginning in sequences for _ in range(num)]
    seeds = randint(2**31, (len(prompts),), generator).tolist()
    texts: list[WrittenText | None] = []
    requests = []
    for row, prompt in enumerate(prompts):
        kept, room = fitted(prompt, most, length)
        text = WrittenText(codec, stop or []) if isinstance(codec, TextCodec) else None
        held = None
        if constraint is not None:
            held = codec.constraint(*constraint, room, prompt.tolist())
        share = {name: value[row // num] for name, value in (cond or {}).items()}
        watch = text.take if text is not None else None
        texts.append(text)
        request = Request(kept, room, within, seeds[row], share, held, watch, logprobs)
        requests.append(marked(request, marking))
    written = _written(model, requests, texts, tell, how)
    values = {
        "finish": [each[-1].finish or "interrupted" if each else "interrupted" for each in written],
        "num_tokens": [len(each) for each in written],
        "log_prob": [sum(token.log_prob for token in each) for each in written],
        **_cut(prompts, requests, length),
    }
    if logprobs:
        values["logprobs"] = [_alternatives(each, codec) for each in written]
    if isinstance(codec, TextCodec):
        values["text"] = made = [text.so_far for text in texts if text is not None]
        return Result(None, values, "write", num, raw=made)
    return Result(_items(model, requests, written), values, "write", num)


def _guided(model: CanWrite, codec: Any, beam: int, draft: Bundle | str | None) -> dict[str, Any]:
    """What is asked of a model besides the texts. Raises `RecipeError` for a beam that is none and
    for a draft of other tokens, and `RefusedPair` for a model without them."""
    if beam < 1:
        raise RecipeError("beam does not fit", found=f"beam={beam}", expected="1 or more")
    asked: dict[str, Any] = {"beam": beam} if beam > 1 else {}
    if draft is not None:
        asked["draft"] = draft if draft == "lookup" else _drafting(draft, codec)
    for name in asked.keys() - options(model.write).keys():
        raise RefusedPair(f"this model follows no {name}", found=f"{name}={asked[name]}")
    if len(asked) > 1:
        raise RecipeError("a beam draws nothing that a draft could guess", expected="one of them")
    return asked


def _drafting(draft: Bundle | str, codec: Any) -> Any:
    """The model of a bundle that guesses."""
    if isinstance(draft, str):
        raise RecipeError(
            "a draft is a bundle, or lookup", found=f"draft={draft}", hint=f"--draft {draft}"
        )
    if tokens_of(draft.codec) != tokens_of(codec):
        raise RecipeError(
            "the draft cuts texts into other tokens", found=str(draft.path),
            expected="a bundle with the model's own tokenizer, such as one taught by it",
        )  # fmt: skip
    return draft.family


def _written(
    model: CanWrite,
    requests: Sequence[Request],
    texts: Sequence[WrittenText | None],
    tell: Callable[[Piece], None] | None,
    how: dict[str, Any],
) -> list[list[Written]]:
    """All tokens of each request. Ctrl-C ends it where somebody looks on: they keep what came."""
    written: list[list[Written]] = [[] for _ in requests]
    try:
        for step in model.write(requests, **how):
            for each in step:
                written[each.row].append(each)
                text = texts[each.row]
                if text is not None and each.finish is not None:
                    if text.num_taken < len(written[each.row]):  # it was over for another reason
                        text.take(each.token)
                    text.finish()
                if text is not None and tell is not None:
                    tell(Piece(each.row, text.fresh(), each.finish))
    except KeyboardInterrupt:
        if tell is None:
            raise
        for text in filter(None, texts):
            text.finish()
    return written


def fitted(prompt: Tensor, most: int | None, length: int) -> tuple[Tensor, int]:
    """What is kept of a prompt (n,), its end, and how many tokens may follow, in a model that sees
    `length` tokens. A quarter is left to what follows, or what is asked for, up to a half."""
    wanted = min(-(-length // SPARE) if most is None else most, -(-length // 2))
    kept = prompt[max(len(prompt) - (length - wanted), 0) :]
    room = length - len(kept)
    return kept, room if most is None else min(most, room)


def asked_for(**kinds: Any) -> tuple[str, str] | None:
    """The one constraint that is given: its kind, and what it says."""
    given = {kind: told for kind, told in kinds.items() if told is not None}
    if len(given) > 1:
        raise RecipeError(
            "a text obeys one constraint", found=" and ".join(given), expected="one of them"
        )
    for kind, told in given.items():
        return kind, told if isinstance(told, str) else json.dumps(told)
    return None


def check_limits(limits: Limits, num: int, most: int | None, logprobs: int) -> None:
    """Raise `RecipeError` for numbers that cannot be."""
    wrong = {
        "num": (num, "1 or more", num < 1),
        "most": (most, "1 or more", most is not None and most < 1),
        "logprobs": (logprobs, "0 or more", logprobs < 0),
        "temperature": (limits.temperature, "0 or more", limits.temperature < 0),
        "top_k": (limits.top_k, "1 or more", limits.top_k is not None and limits.top_k < 1),
        "top_p": (limits.top_p, "above 0, at most 1", not _is_share(limits.top_p)),
        "min_p": (limits.min_p, "above 0, at most 1", not _is_share(limits.min_p)),
        "repetition_penalty": (
            limits.repetition_penalty, "above 0", limits.repetition_penalty <= 0
        ),
        "no_repeat": (limits.no_repeat, "0 or more", limits.no_repeat < 0),
    }  # fmt: skip
    for name, (found, expected, is_wrong) in wrong.items():
        if is_wrong:
            raise RecipeError(f"{name} does not fit", found=f"{name}={found}", expected=expected)


def _is_share(value: float | None) -> bool:
    return value is None or 0 < value <= 1


def _cut(prompts: list[Tensor], requests: list[Request], length: int) -> dict[str, Any]:
    """What was left out of prompts that were too long, in one sentence."""
    lost = [len(all_) - len(each.prompt) for all_, each in zip(prompts, requests, strict=True)]
    if not any(lost):
        return {}
    return {
        "cut": f"the model sees {length:,} tokens at once: the first {max(lost):,} of a prompt of "
        f"{len(prompts[lost.index(max(lost))]):,} were left out (a smaller most=N keeps more of "
        "it; training with --set modality.length=N makes a model that sees more)"
    }


def _alternatives(written: list[Written], codec: Any) -> list[dict[str, Any]]:
    """Each token with its log probability, and the most probable in its place with theirs."""

    return [
        {
            "token": named(each.token, codec),
            "log_prob": each.log_prob,
            "top": [[named(token, codec), log_prob] for token, log_prob in each.alternatives],
        }
        for each in written
    ]


def _items(model: Any, requests: list[Request], written: list[list[Written]]) -> Tensor | None:
    """Prompts and what came after them as items (N, L); None where items have no end."""
    end, length = model.spec.end, model.spec.shape[0]
    if end is None:
        return None
    rows = []
    for request, each in zip(requests, written, strict=True):
        tokens = request.prompt.new_tensor([token.token for token in each])
        whole = torch.cat([request.prompt, tokens])[:length]
        rows.append(F.pad(whole, (0, length - len(whole)), value=end))
    return torch.stack(rows)
