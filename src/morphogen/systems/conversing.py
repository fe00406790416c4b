"""How a model reads a conversation, and what ends its answer.

The model's own template turns messages into the text that it reads: that of the codec, where the
model learned from conversations here, else the one that came with it. What people write stays text:
a mark of the template (`<|im_end|>`) that stands in a message ends no turn. An answer ends with
what the template puts after one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import RefusedPair
from morphogen.core.visible import in_shell
from morphogen.core.writing import CanWrite, TextCodec
from morphogen.modalities.text.chat import Conversation, Message, Template


class Conversing:
    """Messages -> tokens, by the template of a bundle. Raises `RefusedPair` for a model that was
    not made to converse."""

    def __init__(self, bundle: Bundle) -> None:
        self.template = template_of(bundle)
        self.begins = hasattr(bundle.codec, "template")  # it learned here: a codec reads for it
        self.codec: Any = bundle.codec
        self.ends, self.stops = self._ending()

    def read(self, conversation: Conversation) -> Tensor:
        """What a conversation is to the model, up to where it is to speak: tokens (L,).

        Raises `DataError` for messages that the template refuses.
        """
        if self.begins:
            (read,) = self.codec.encode_sequences([Item(conversation)])
            return torch.as_tensor(read)
        text = self.template.render(conversation, open_turn=True)
        parts, place = [], 0
        marks = self.codec.tokenizer.marks
        for content in _said(conversation):
            if not any(mark in content for mark in marks):
                continue  # as a whole: words are cut with what stands around them
            found = text.find(content, place)
            if found < 0:
                raise RefusedPair("the template changes a message with a mark in it", found=content)
            parts += [self._marked(text[place:found]), self._plain(content)]
            place = found + len(content)
        return torch.from_numpy(np.concatenate([*parts, self._marked(text[place:])]))

    def _ending(self) -> tuple[set[int], list[str]]:
        """The token with which a turn ends; or where the template uses none, the text."""
        asked = Message("user", "Hello"), Message("assistant", "Hello")
        told = self.template.pieces(Conversation(asked))[-1].text.removeprefix("Hello")
        tokens, marks = self._marked(told), set(self.codec.tokenizer.marks.values())
        first = next((int(token) for token in tokens if int(token) in marks), None)
        ends = {self.codec.end} | ({first} if first is not None else set())
        return ends, [told] if first is None and told else []

    def _marked(self, text: str) -> np.ndarray:
        return self.codec.tokenizer.encode_marked(_bytes(text))

    def _plain(self, text: str) -> np.ndarray:
        return self.codec.tokenizer.encode(_bytes(text))


def template_of(bundle: Bundle) -> Template:
    """The template that came with a model. Raises `RefusedPair` for one that cannot converse."""
    own = getattr(bundle.codec, "template", None)
    source = bundle.origin.get("chat_template") if own is None else own.source
    what = "no chat template came with it, so it goes on with texts and answers nobody"
    place = bundle.path or "BUNDLE"
    hint = f"morphogen task complete {in_shell(place)} --prompt TEXT"
    if not isinstance(bundle.family, CanWrite) or not isinstance(bundle.codec, TextCodec):
        source, what, hint = None, "it writes no texts", f"morphogen tasks {in_shell(place)}"
    if source is None:
        raise RefusedPair(
            f"this model does not converse: {what}",
            expected="a model that learned from conversations, with its template",
            hint=hint,
        )
    return own or Template(source, bundle.origin.get("marks", {}))


def _said(conversation: Conversation) -> list[str]:
    """What people and functions said, in the order that it stands in. The arguments of a call too:
    a template that writes them otherwise is refused where a mark is in them."""
    said = []
    for message in conversation.messages:
        said.append(message.content.strip())
        said += [json.dumps(dict(call), ensure_ascii=False) for call in message.calls]
    return said


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
