"""Who writes answers: a bundle that converses, or a model behind an address."""

from __future__ import annotations

from morphogen.interop.importing import opened_or_imported
from morphogen.modalities.text.chat import Message
from morphogen.systems.chat import Chat
from morphogen.systems.endpoint import Endpoint, is_address
from morphogen.systems.knowledge.answering import Writer


def writer_of(model: str, name: str | None = None) -> Writer:
    """A bundle's folder, or an address and the name of a model there. Each answer is a conversation
    of its own, drawn greedily, so that the same passages give the same answer. Raises `RefusedPair`
    for a model that was not made to converse."""
    if is_address(model):
        endpoint = Endpoint(model, name or "default")

        def ask(instructions: str, asked: str) -> str:
            said = [Message("system", instructions), Message("user", asked)]
            return endpoint.answer(said, temperature=0.0)[0]

        return ask
    bundle = opened_or_imported(model)

    def write(instructions: str, asked: str) -> str:
        return Chat(bundle, system=instructions, temperature=0.0).ask(asked)

    return write
