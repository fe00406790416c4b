"""A conversation with a model that has tools, documents and a memory.

Each question is a run of its own (`loop`), shown what was said before; what documents and memory
say of it is looked up first, whoever decides then. Words of others that an earlier turn read taint
the later ones: its answer may repeat them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from morphogen.core.storage import write_text
from morphogen.systems.agents.deciders import First
from morphogen.systems.agents.loop import Budget, steps
from morphogen.systems.agents.privileges import Grants
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.tools.documents import index_tools
from morphogen.systems.agents.tools.memories import PLACE, MemoryTools
from morphogen.systems.agents.trace import Step, Trace, interrupted
from morphogen.systems.agents.worlds import Confirm, Decider, Live, nobody
from morphogen.systems.knowledge.index import Index
from morphogen.systems.memory.memory import Memory
from morphogen.systems.memory.session import Session


class Assistant:
    """Answers one question after the other."""

    def __init__(
        self,
        decider: Decider,
        *,
        tools: Sequence[Tool] = (),
        index: tuple[Index, str] | None = None,  # and what it is called
        groups: Sequence[str] = (),  # that the user belongs to, for the index
        vouched: bool = False,  # the documents are the user's own words
        memory: Memory | None = None,
        grants: Grants | None = None,  # for `tools`; the index and the memory may be read
        budget: Budget | None = None,  # of each question
        confirm: Confirm = nobody,
    ) -> None:
        self.decider, self.confirm, self.budget = decider, confirm, budget
        self.session, self.traces = Session(), list[Trace]()
        self.touched: list[set[str]] = []  # notes that stand in each trace
        self._so_far: list[Step] = []
        granted = grants or Grants()
        reads, self.first = list(granted.reads), list[str]()
        self.tools = list(tools)
        self.memory, self.notes = memory, None
        if memory is not None:
            self.notes = MemoryTools(memory, "a conversation", lambda: self._so_far)
            self.tools += self.notes.tools()
            self.first.append("recall")
            reads.append(PLACE)
            granted = Grants(granted.reads, (*granted.writes, PLACE), granted.freely)
        if index is not None:
            found = index_tools(*index, groups=groups, trusted=vouched)
            self.tools += found
            self.first.append(found[0].name)
            reads += found[0].reads
        self.grants = Grants(tuple(reads), granted.writes, granted.freely)

    @property
    def last(self) -> Trace:
        """The last run, as far as it came."""
        return self.traces[-1]

    def ask(self, question: str) -> Generator[Step, None, None]:
        """The steps to an answer. Who stops asking for steps interrupts it."""
        calls = [(name, {"question": question}) for name in self.first]
        world = Live(First(calls, self.decider), self.confirm)
        self._so_far = []
        self._blank_forgotten()
        try:
            for step in steps(
                world, question, self.tools, grants=self.grants, budget=self.budget,
                before=self.session.messages(), tainted=self.session.tainted,
            ):  # fmt: skip
                self._so_far.append(step)
                yield step
        finally:
            if self._so_far:
                trace = Trace(interrupted(self._so_far))
                self.traces.append(trace)
                self.touched.append(self.notes.taken() if self.notes is not None else set())
                self.session.add(question, trace.answer, trace.tainted)

    def save(self, path: Path | str) -> Path:
        """The traces of the questions, one after the other, but for those that hold a note which
        was forgotten since. The memory knows that its notes stand there: where one is forgotten
        later, the file goes."""
        known = set() if self.memory is None else self.memory.notes.keys()
        kept, notes = list[Trace](), set[str]()
        for trace, touched in zip(self.traces, self.touched, strict=True):
            if not notes | touched <= known:
                break  # the later ones begin with what was said in this one
            kept.append(trace)
            notes |= touched
        path = write_text(Path(path), "".join(trace.text() for trace in kept))
        if self.memory is not None:
            self.memory.held_by(path, notes)
        return path

    def _blank_forgotten(self) -> None:
        """Leave nothing in what is shown of turns that hold a note which was forgotten."""
        for number, notes in enumerate(self.touched):
            if self.memory is not None and not notes <= self.memory.notes.keys():
                self.session.blank(number)
