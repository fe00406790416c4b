"""Which part of an item is drawn from which: what is said of a picture, a picture, a voice.

Whatever the family, a part is drawn given those before it. One that fills both ways
(`FillsBothWays`) draws any part given any others, as is known once the model is open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

TEXTS = ("text", "code")  # modalities whose items are texts


@dataclass(frozen=True)
class Way:
    """From a part that is given to one that is drawn, by name."""

    given: str
    drawn: str
    is_back: bool = False  # what is drawn comes before what is given

    def work(self, given: Mapping[str, str] | None, num: int = 1, **options: Any) -> dict[str, Any]:
        """What the process of a model is asked; with nothing given, it draws both."""
        inputs = [{"parts": {self.given: given, self.drawn: None}}]
        return {
            "do": "task", "task": "fill", "inputs": inputs, "options": {"num": num, **options}
        }  # fmt: skip

    def part(self, item: Mapping[str, Any]) -> dict[str, str]:
        """What was drawn, of an item that came of it."""
        made: dict[str, str] = item["parts"][self.drawn]
        return made

    def is_open_to(self, about: Mapping[str, Any]) -> bool:
        """Whether a model that is open goes it, as `about` tells."""
        fills = about.get("tasks", {}).get("fill", "no such task") is None
        return fills and (not self.is_back or bool(about.get("fills_both_ways")))


def each_part(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parts of an item by name; one that has none is a part without a name."""
    return item.get("parts") or {"": item}


def way(kinds: Mapping[str, str], given: Collection[str], drawn: Collection[str]) -> Way | None:
    """The first between parts of such kinds, by the modality of each part; in their order, where
    one is."""
    names = list(kinds)
    found = [
        Way(one, other, is_back=number > names.index(other))
        for number, one in enumerate(names) if kinds[one] in given
        for other in names if other != one and kinds[other] in drawn
    ]  # fmt: skip
    return min(found, key=lambda each: each.is_back, default=None)
