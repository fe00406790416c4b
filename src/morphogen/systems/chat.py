"""A conversation with a model: what it answers, piece by piece, while it is written.

    talk = mg.chat("models/base", system="You are brief.")
    for piece in talk.say("What is the capital of France?"):
        print(piece, end="", flush=True)

Where a conversation outgrows what the model sees at once, its first questions and answers are left
out of what it reads, the system's words never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.errors import RefusedPair
from morphogen.core.schema import check_options, with_options
from morphogen.core.writing import Finish, HeldText, Limits, Request, marked
from morphogen.core.written import WrittenText
from morphogen.interop.importing import opened_or_imported
from morphogen.modalities.text.chat import Conversation, Message
from morphogen.systems.conversing import Conversing

SPARE = 4  # of what the model sees, an answer gets one part in so many, unless told
TEMPERATURE = 0.7  # more typical than the model itself: small ones lose the thread


def chat(bundle: Bundle | Path | str, **options: Any) -> Chat:
    """A conversation with a bundle, or with a published model as it lies in a file or folder.

    Options are those of `Chat`. Raises `RefusedPair` for a model that was not made to converse.
    """
    opened = bundle if isinstance(bundle, Bundle) else opened_or_imported(bundle)
    return Chat(opened, **check_options(Chat, options, "chat"))


@with_options(Limits)
class Chat:
    """Messages so far, and a model that goes on with them."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        system: str | None = None,  # what the model is told before anybody speaks
        most: int | None = None,  # tokens of an answer at most; none: what there is room for
        seed: int = 0,  # same seed and messages, same answers
        **limits: Any,
    ) -> None:
        self.reader = Conversing(bundle)
        self.model: Any = bundle.family
        self.codec: Any = bundle.codec
        self.bundle = bundle
        self.most, self.seed = most, seed
        self.limits = Limits(**{"temperature": TEMPERATURE} | limits)
        self.messages = [Message("system", system)] if system else []
        self.num_left_out = 0  # messages that the model did not read, the last time
        self.finish: Finish | None = None  # why the last answer ended; None: it was interrupted
        self.held = HeldText()  # what was read up to here: a turn reads what is new

    def say(self, text: str) -> Iterator[str]:
        """The answer, piece by piece. Who stops asking for pieces interrupts it: it stays as far as
        it came."""
        messages = [*self.messages, Message("user", text)]
        prompt, room = self._fitted(messages)
        self.messages, self.finish = messages, None
        answer = WrittenText(self.codec, self.reader.stops)
        seed = self.seed + len(messages)
        begins, held = self.reader.begins, self.held
        request = Request(prompt, room, self.limits, seed, begins=begins, held=held)
        request = marked(request, self.bundle.marking)
        try:
            for written in (each for step in self.model.write([request]) for each in step):
                self.finish = "end" if written.token in self.reader.ends else written.finish
                if self.finish is None and answer.take(written.token):
                    self.finish = "stop"
                elif self.finish == "length":
                    answer.take(written.token)
                if self.finish is not None:
                    break
                if piece := answer.fresh():
                    yield piece
            answer.finish()
            if piece := answer.fresh():
                yield piece
        finally:
            self.messages.append(Message("assistant", answer.so_far))

    def ask(self, text: str) -> str:
        """The whole answer."""
        return "".join(self.say(text))

    def _fitted(self, messages: Sequence[Message]) -> tuple[Tensor, int]:
        """The tokens that the model reads, and how many may come after them."""
        length = int(self.model.spec.shape[0])
        wanted = min(self.most or length // SPARE, length // 2)
        first = 1 if messages[0].role == "system" else 0
        for left_out in range(0, len(messages) - first, 2):
            kept = (*messages[:first], *messages[first + left_out :])
            prompt = self.reader.read(Conversation(kept))
            if len(prompt) <= length - wanted:
                self.num_left_out = left_out
                room = length - len(prompt)
                return prompt, min(room, self.most or room)
        raise RefusedPair(
            "the message is longer than what the model sees at once",
            found=f"{len(prompt):,} tokens", expected=f"at most {length - wanted:,}",
        )  # fmt: skip
