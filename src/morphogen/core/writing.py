r"""Going on from a prompt, token by token: what is asked for, and what comes.

A `Request` says where it begins, how its tokens are drawn, and when it is over. Its tokens depend
on nothing else: alone or beside any others, in any order, it gets the same ones.

Legend: V vocabulary of the items, n tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

Finish = Literal["end", "length", "stop"]


class Constraint(Protocol):
    """What a text may still become: a grammar, a schema, a list of choices."""

    def allowed(self) -> Tensor | None:
        """Which tokens may come next, (V,) bool; None where any may."""
        ...

    def take(self, token: int) -> None:
        """Note the token that came."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        ...


class Legality(Protocol):
    """What items that are drawn side by side, token by token, may still become."""

    def take(self, row: int, token: int, left: int) -> bool:
        """Go on in a row with a token; False, and as before, where it may not come. So many more
        may follow it, the end aside."""
        ...


@runtime_checkable
class KeepsLegal(Protocol):
    """Optional for a codec: not every sequence of its tokens is an item."""

    def legality(self, num: int) -> Legality | None:
        """Of `num` items; None where every sequence is one."""
        ...


class Mark(Protocol):
    """A keyed choice among the probable tokens of one text, by which it is known again."""

    def numbers(self, came: Sequence[int], num: int) -> Tensor | None:
        """Numbers (num,) in (0, 1), one for each token there is: that with the largest u^(1 / p)
        comes after those that `came` since the prompt. None: it is drawn as without a mark. Asked
        once for each token."""
        ...


Marking = Callable[[int], Mark]  # the seed of a text -> its mark


@dataclass(frozen=True)
class Limits:
    """How a token is drawn from what the model says: first repeats are made less likely, then the
    temperature applies, then the improbable is cut off."""

    temperature: float = 1.0  # below 1 more typical, above 1 more varied; 0: the most probable
    top_k: int | None = None  # only the k most probable tokens
    top_p: float | None = None  # only the fewest tokens whose probabilities reach p
    min_p: float | None = None  # only tokens at least so probable, as a share of the most probable
    repetition_penalty: float = 1.0  # divides the odds of tokens that have come; 1: none
    frequency_penalty: float = 0.0  # taken off a token's logit for each time that it was drawn
    presence_penalty: float = 0.0  # taken off the logit of every token that was drawn
    no_repeat: int = 0  # no run of so many tokens comes twice; 0: any may

    @property
    def looks_back(self) -> bool:
        """Whether what has come changes what may come."""
        penalties = self.frequency_penalty, self.presence_penalty
        return self.repetition_penalty != 1 or any(penalties) or self.no_repeat > 0


@dataclass
class HeldText:
    """What a model keeps of a text that it read and wrote: a request with it that begins as that
    one did reads no more than what is new."""

    rows: Any = None  # a network's, of which the first holds the text
    came: list[int] = field(default_factory=list)  # its tokens, of which the last was not read
    weights: Any = None  # which they were


@dataclass(frozen=True)
class Request:
    """One text to go on with."""

    prompt: Tensor  # (n,) tokens, n >= 0
    most: int  # tokens to come at most
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    cond: Mapping[str, Tensor] | None = None  # conditions by name, of this one item: (...)
    constraint: Constraint | None = None
    stop: Callable[[int], bool] | None = None  # told of each token; True: it was the last
    num_alternatives: int = 0  # of the most probable tokens that are told beside each drawn one
    # The model's own start of a text comes first; False: the prompt is all that there is, as where
    # a template says how a text begins. Such a prompt has a token at least.
    begins: bool = True
    held: HeldText | None = None  # kept from one request, which is alone, to the next
    bias: Mapping[int, float] | None = None  # added to the logits of tokens before all else
    tells_prompt: bool = False  # gives the prompt's own tokens too, as they are read
    mark: Mark | None = None  # of what is drawn; there is nothing to draw at temperature 0


def marked(request: Request, marking: Marking | None) -> Request:
    """The request, with a mark of its own where that was asked for."""
    return request if marking is None else replace(request, mark=marking(request.seed))


@dataclass(frozen=True)
class Written:
    """One token of one request."""

    row: int  # the request's place among all
    token: int
    log_prob: float  # log p(token | all before it) by the model itself, whatever the limits
    alternatives: tuple[tuple[int, float], ...] = ()  # the most probable, with theirs
    finish: Finish | None = None  # why it is the last; None: there are more
    is_given: bool = False  # it stands in the prompt


@runtime_checkable
class CanWrite(Protocol):
    """Goes on from prompts of any length, many at once, each as if it were alone."""

    def write(self, requests: Sequence[Request], **options: Any) -> Iterator[list[Written]]:
        """The tokens of all requests as they are drawn, a list for each step.

        An end token is given, with `finish` "end". Raises `RefusedPair` for a prompt that leaves
        no room.
        """
        ...


class Writing(Protocol):
    """Requests that are written side by side; others may come and leave between two steps."""

    def add(self, request: Request) -> int:
        """Its place among all that were added: what `Written.row` tells. It goes on once there is
        a row for it. Raises `RefusedPair` for a prompt that leaves no room."""
        ...

    def leave(self, place: int) -> None:
        """End a request, and free its row. It may be over already."""
        ...

    @property
    def num_going(self) -> int:
        """Requests that are not over."""
        ...

    def steps(self) -> Iterator[list[Written]]:
        """The next tokens of all, a list for each step."""
        ...


@runtime_checkable
class CanWriteOn(Protocol):
    """Writes for as long as requests come."""

    def writing(self, num_rows: int) -> Writing:
        """So many requests at once; the others wait."""
        ...


@dataclass(frozen=True)
class Piece:
    """A piece of a text that is being written, as it is certain."""

    row: int
    text: str
    finish: Finish | None = None  # why it is the last


class Decoder(Protocol):
    """Tokens one by one -> the text; see `TextCodec.decoder`."""

    def feed(self, token: int) -> str:
        """What is certain after one more token."""
        ...

    def finish(self) -> str:
        """What was held back: there are no more tokens."""
        ...


@runtime_checkable
class NamesTokens(Protocol):
    """A codec whose tokens mean something to people, one by one."""

    end: int  # the token after the last of an item

    def token_text(self, token: int) -> str:
        """A token for people: its text, bytes of no character as escapes."""
        ...


@runtime_checkable
class TextCodec(NamesTokens, Protocol):
    """A codec whose items are texts, which can be told as they are written."""

    def decoder(self) -> Decoder:
        """What turns tokens into a text one by one."""
        ...

    def constraint(self, kind: str, told: str, most: int, before: Sequence[int] = ()) -> Constraint:
        """What a text of up to `most` tokens may become: `kind` "schema", "regex", "choice" or
        "grammar", and what it says. Where the tokens `before` are the beginning of JSON that a
        schema allows, it goes on with that."""
        ...


def tokens_of(codec: Any) -> Any:
    """What texts are cut into, the same for the same tokens; None where nothing is cut."""
    tokenizer = getattr(codec, "tokenizer", None)
    return None if tokenizer is None or isinstance(tokenizer, str) else tokenizer.to_json()
