"""How often a small model's calls fit, with and without the schema that they are held to.

    python benchmarks/calls.py models/published/smollm2

Twenty requests, each of which one of four functions answers. Counted are decisions that can be run
(a call whose arguments fit, or an answer), calls of the right function, and calls of it with the
right arguments; without the schema the same model reads the same words, and what it writes is read
as JSON where it is.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Literal

from morphogen.interop.importing import opened_or_imported
from morphogen.modalities.text.chat import Message
from morphogen.systems.agents.deciders import BundleDecider
from morphogen.systems.agents.loop import Budget
from morphogen.systems.agents.tool import ArgumentsError, Tool, tool


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def weather(place: str) -> str:
    """Today's weather at a place."""
    return f"{place}: sun"


def convert(amount: float, to: Literal["EUR", "USD", "GBP"]) -> float:
    """Convert an amount of money to a currency."""
    return amount


def remind(text: str, day: Literal["monday", "tuesday", "wednesday", "thursday", "friday"]) -> str:
    """Set a reminder for a day of the week."""
    return day


TOOLS = [tool(each) for each in (add, weather, convert, remind)]
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    *((f"What is {a} plus {b}?", "add", {"a": a, "b": b})
      for a, b in ((2, 3), (17, 25), (140, 9), (81, 18), (1000, 24))),
    *((f"What is the weather in {place} today?", "weather", {"place": place})
      for place in ("Bonn", "Lima", "Oslo", "Cairo", "Seoul")),
    *((f"Convert {amount} to {to}.", "convert", {"amount": amount, "to": to})
      for amount, to in ((20, "EUR"), (15, "USD"), (99, "GBP"), (250, "EUR"), (7, "USD"))),
    *((f"Remind me on {day} to {text}.", "remind", {"text": text, "day": day})
      for text, day in (("buy milk", "monday"), ("call Ann", "friday"), ("pay rent", "tuesday"),
                        ("water plants", "thursday"), ("send the report", "wednesday"))),
]  # fmt: skip


class Unconstrained(BundleDecider):
    """The same model and the same words, held to nothing."""

    def constraint(self, tools: Any, most: int) -> None:
        return None


def fits(call: Any) -> bool:
    """Whether a call could be run."""
    known: dict[str, Tool] = {each.name: each for each in TOOLS}
    if call is None:
        return True
    try:
        known[call["name"]].check(call["arguments"])
    except (ArgumentsError, KeyError, TypeError):
        return False
    return True


def main(folder: str) -> None:
    bundle = opened_or_imported(folder)
    for kind in (BundleDecider, Unconstrained):
        decider = kind(bundle, most=96)
        counts, start = dict.fromkeys(("fits", "a call", "right function", "right call"), 0), 0.0
        start = time.monotonic()
        for question, name, arguments in ASKED:
            decided = decider.decide([Message("user", question)], TOOLS, Budget())
            call = decided.call
            told = call is not None and fits(call)
            counts["fits"] += told or (call is None and not decided.text.lstrip().startswith("{"))
            counts["a call"] += told
            counts["right function"] += told and call["name"] == name
            counts["right call"] += told and call["name"] == name and call["arguments"] == arguments
        took = time.monotonic() - start
        shown = ", ".join(f"{what} {num}" for what, num in counts.items())
        print(f"{kind.__name__}: of {len(ASKED)}: {shown}; {took:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
