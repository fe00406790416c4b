"""A memory as tools. What it gives is as trustworthy as its notes: one that was written down from
somebody else's words taints whoever recalls it, in this run or in another. After such words were
read, a note is the user's where the user has just said all that it says (`flows.is_stated`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from morphogen.systems.agents.flows import are_own, is_stated
from morphogen.systems.agents.running import Untrusted
from morphogen.systems.agents.tool import Tool, tool
from morphogen.systems.agents.trace import Step, tainted_by
from morphogen.systems.memory.memory import Memory

PLACE = "memory"


class MemoryTools:
    """The tools of one memory in one session; `touched` are the notes that it gave or took, so that
    what is written of the session can go with them."""

    def __init__(
        self, memory: Memory, source: str, steps: Callable[[], Sequence[Step]] = lambda: ()
    ) -> None:
        self.memory, self.source, self.steps = memory, source, steps  # of the run so far
        self.touched: set[str] = set()

    def tools(self) -> list[Tool]:
        """Recall, look up a state, remember, correct, forget."""
        reading = [
            tool(self.recall, reads=[PLACE], trusted=True),
            tool(self.state, reads=[PLACE], trusted=True),
        ]
        writing = [
            tool(each, reads=[PLACE], writes=[PLACE], trusted=True)
            for each in (self.remember, self.correct, self.forget)
        ]
        return [*reading, *writing]

    def taken(self) -> set[str]:
        """The notes that were touched since this was asked the last time."""
        touched, self.touched = self.touched, set()
        return touched

    def recall(
        self, question: Annotated[str, "what it is about"], num: Annotated[int, "notes"] = 5
    ) -> str:
        """Notes of earlier conversations, with their ids and dates."""
        found = self.memory.recall(question, num=min(max(num, 1), 20))
        self.touched |= {each.note.id for each in found}
        text = "\n".join(each.text for each in found) or "nothing is remembered of that"
        return text if all(each.note.trusted for each in found) else Untrusted(text)

    def state(
        self,
        subject: str,
        relation: str,
        at: Annotated[str, "a date, 2024-05-01; none: now"] = "",
    ) -> str:
        """What is remembered to hold of somebody or something: ("Ann", "lives in")."""
        graph = self.memory.graph()
        told = self.memory.state(subject, relation, at=at or None)
        notes = [edge.note for edge in graph.edges(subject, relation)]
        self.touched |= {note.id for note in notes}
        text = "nothing is remembered of that" if told is None else told
        return text if all(note.trusted for note in notes) else Untrusted(text)

    def remember(
        self,
        text: Annotated[str, "one sentence that can be read alone"],
        relations: Annotated[
            list[dict[str, str]], "what it says: subject, relation, object, since?, until?"
        ] = [],  # noqa: B006 - it is not changed
        expires: Annotated[str, "a date on which it is forgotten"] = "",
    ) -> str:
        """Write something down for later conversations."""
        told = (value for relation in relations for value in relation.values())
        note = self.memory.remember(
            text, source=self.source, trusted=self._is_own(text, expires, *told),
            expires=expires or None, relations=relations,
        )  # fmt: skip
        self.touched.add(note.id)
        return f"remembered as {note.id}"

    def correct(self, note: Annotated[str, "its id"], text: str) -> str:
        """Put other words in the place of a note."""
        self.memory.correct(note, text, source=self.source, trusted=self._is_own(text))
        self.touched.add(note)
        return f"corrected: {note}"

    def forget(self, note: Annotated[str, "its id"]) -> str:
        """Forget a note for good."""
        self.touched.add(note)
        return self.memory.forget(note).text()

    def _is_own(self, text: str, *others: Any) -> bool:
        """Whether a note is the user's: the text as they said it, what else there is in words of
        theirs; all, while nothing of others was read."""
        steps = self.steps()
        return tainted_by(steps) is None or (
            is_stated(text, steps) and are_own(filter(None, others), steps)
        )
