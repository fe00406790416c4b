"""Work in processes of its own: in order, and what goes wrong there is told here."""

from __future__ import annotations

import math

import pytest

from morphogen.core.processes import in_processes


@pytest.mark.parametrize("after", [0, 3, 100])
def test_results_come_in_the_order_of_the_inputs(after: int) -> None:
    inputs = [float(number) for number in range(50)]
    assert list(in_processes(math.sqrt, iter(inputs), after=after)) == list(map(math.sqrt, inputs))


def test_an_error_there_is_one_here() -> None:
    found = in_processes(math.sqrt, [4.0, -1.0], after=0)
    assert next(found) == 2.0
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        next(found)
