"""Which histories are training histories again: the same events in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from morphogen.modalities.events.history import History

SHORTEST = 4  # events: fewer are the same by chance, whoever wrote them


def copies(values: Sequence[History], training: Sequence[History]) -> Mapping[str, Sequence[int]]:
    """Exact ones: for each history the place of one of training that is all of it, or begins with
    it; -1 where there is none, or it is too short to tell."""
    wanted = {value.events for value in values if len(value) >= SHORTEST}
    lengths = {len(events) for events in wanted}
    begun: dict[tuple[object, ...], int] = {}
    for place, known in enumerate(training):
        for length in lengths:
            if length <= len(known) and (first := known.events[:length]) in wanted:
                begun.setdefault(first, place)
    return {"exact": [begun.get(value.events, -1) for value in values]}
