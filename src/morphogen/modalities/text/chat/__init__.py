"""Conversations: who said what, as rows of data hold it, and as the text that a model reads.

conversation_of(row)     a row in any of the usual forms -> a `Conversation`
Template                 a conversation -> its text, and which of it is to be learned
"""

from morphogen.modalities.text.chat.messages import Conversation, Message
from morphogen.modalities.text.chat.records import asked_of, conversation_of, form_of
from morphogen.modalities.text.chat.template import CHATML, Piece, Template

__all__ = [
    "CHATML", "Conversation", "Message", "Piece", "Template", "asked_of", "conversation_of",
    "form_of",
]  # fmt: skip
