"""A text as it is written: what is certain of it, and whether it has come to a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from morphogen.core.errors import RecipeError
from morphogen.core.writing import NamesTokens, TextCodec


class WrittenText:
    """Tokens one by one -> the text. What could be the beginning of a stop text is held back until
    it cannot be, and what comes from a stop text on is left out."""

    def __init__(self, codec: TextCodec, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise RecipeError("a stop text says something", found="''", expected="stop=END")
        self.decoder, self.stops, self.end = codec.decoder(), tuple(stops), codec.end
        self.so_far, self.held, self.told = "", "", 0
        self.num_taken = 0  # tokens noted
        self.stopped = False

    def take(self, token: int) -> bool:
        """Note a token. True where it was the last."""
        self.num_taken += 1
        if token != self.end and not self.stopped:
            self._add(self.decoder.feed(token))
        return self.stopped

    def finish(self) -> None:
        """There are no more tokens: nothing is held back any longer."""
        if not self.stopped:
            self._add(self.decoder.finish())
            self.so_far += self.held
        self.held = ""

    def fresh(self) -> str:
        """What became certain since it was asked for the last time."""
        start, self.told = self.told, len(self.so_far)
        return self.so_far[start:]

    def _add(self, text: str) -> None:
        text = self.held + text
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.so_far += text[: min(places)]
            self.held, self.stopped = "", True
            return
        keep = max((_begun(text, stop) for stop in self.stops), default=0)
        self.so_far, self.held = self.so_far + text[: len(text) - keep], text[len(text) - keep :]


def named(token: int, codec: Any) -> Any:
    """A token for people: its text, where the codec has one."""
    return codec.token_text(token) if isinstance(codec, NamesTokens) else token


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are the beginning of a stop text."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
