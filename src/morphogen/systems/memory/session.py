"""A conversation: what was said, and what of it is still shown once it grows too long.

The last turns are shown as they were. Of those before, one message says what was asked, a sentence
each; it is made anew from the turns each time, and says which they are, so that nothing is
summarised twice over and everything can be looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from morphogen.modalities.text.chat import Message
from morphogen.systems.knowledge.sentences import sentences

MOST = 6_000  # characters of turns that are shown as they were
MOST_SUMMARY = 1_200


@dataclass(frozen=True)
class Turn:
    """What was asked, and what was answered."""

    asked: str
    answered: str
    tainted: str | None = None  # whose words the answer may repeat, where not only the user's


@dataclass(frozen=True)
class Summary:
    """What some turns were about, and which they are."""

    text: str
    of: tuple[int, ...]  # numbers of turns, from 0


class Session:
    """The turns of one conversation."""

    def __init__(
        self,
        *,
        most: int = MOST,  # characters of turns that are shown as they were
        write: Callable[[str, str], str] | None = None,  # summarises; none: first sentences do
    ) -> None:
        self.turns: list[Turn] = []
        self.most, self.write = most, write

    @property
    def tainted(self) -> str | None:
        """Whose words answers may repeat, where not only the user's."""
        return next((turn.tainted for turn in self.turns if turn.tainted is not None), None)

    def add(self, asked: str, answered: str, tainted: str | None = None) -> None:
        """Take in a turn."""
        self.turns.append(Turn(asked, answered, tainted))

    def blank(self, number: int) -> None:
        """Leave nothing of a turn but that it was there."""
        gone = "(forgotten)"
        self.turns[number] = Turn(gone, gone, self.turns[number].tainted)

    def messages(self) -> list[Message]:
        """What is shown: a summary of what no longer fits, then the last turns."""
        first = self._first_shown()
        shown = []
        if first:
            told = self.summary(range(first))
            said = f"Earlier (turns 1 to {first}): {told.text}"
            shown += [Message("user", said), Message("assistant", "Noted.")]
        for turn in self.turns[first:]:
            shown += [Message("user", turn.asked), Message("assistant", turn.answered)]
        return shown

    def summary(self, numbers: Sequence[int]) -> Summary:
        """What some turns were about."""
        turns = [self.turns[i] for i in numbers]
        if self.write is not None:
            listed = "\n".join(f"{t.asked}\n{t.answered}" for t in turns)
            text = self.write("Say in one or two sentences what was talked about.", listed)
        else:
            firsts = (next(iter(sentences(turn.asked)), None) for turn in turns)
            text = " ".join(each.text for each in firsts if each is not None)
        return Summary(text[:MOST_SUMMARY], tuple(numbers))

    def _first_shown(self) -> int:
        """The first turn that is shown as it was: the last one always is."""
        room = self.most
        for number in range(len(self.turns) - 1, -1, -1):
            turn = self.turns[number]
            room -= len(turn.asked) + len(turn.answered)
            if room < 0:
                return min(number + 1, len(self.turns) - 1)
        return 0
