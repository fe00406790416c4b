"""Python that a model wrote, run where it can do no harm: see `evaluation.sandbox`."""

from __future__ import annotations

from collections.abc import Collection

from morphogen.evaluation.sandbox import run_program
from morphogen.systems.agents.tool import Tool, tool


def python_tool(*, seconds: int = 5, without: Collection[str] = ()) -> Tool:
    """Runs a program and gives what it printed. It reads nothing and writes nothing, so that it
    needs no grant; where a guard cannot be had it refuses, unless that is named in `without`."""

    def python(program: str) -> str:
        """Run a Python program of the standard library; print what you want to know."""
        outcome = run_program(program, seconds=seconds, without=without)
        return outcome.output if outcome.status == "passed" else (
            f"{outcome.output}\n({outcome.status})"
        )  # fmt: skip

    # What it prints is what its program says, and that is the model's own.
    return tool(python, trusted=True, seconds=3.0 * seconds + 5)
