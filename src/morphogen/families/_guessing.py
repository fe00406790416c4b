"""What may come next, guessed before it is read: from what stands already, or by another model."""

from __future__ import annotations

from typing import Any

import torch

from morphogen.families._limits import limited
from morphogen.families._text import Guess, Text
from morphogen.families._writing import Guesses

LONGEST_LOOKED_UP = 4  # tokens by whose last occurrence the next are guessed


def look_up(text: Text, num: int) -> list[Guess]:
    """Guesses from what stands already: what followed the last tokens when they came before."""
    came = text.came
    for length in range(min(LONGEST_LOOKED_UP, len(came) - 1), 0, -1):
        last = came[-length:]
        for i in range(len(came) - length - 1, -1, -1):
            if came[i : i + length] == last:
                return [Guess(token) for token in came[i + length : i + length + num]]
    return []


def drafted(draft: Any) -> Guesses:
    """Guesses by another model of the same vocabulary, within the limits of the text."""

    def guesses(text: Text, num: int) -> list[Guess]:
        found: list[Guess] = []
        cond = text.request.cond
        one = None if cond is None else {name: value[None] for name, value in cond.items()}
        for _ in range(num):
            came = [*text.came, *(guess.token for guess in found)]
            logits = draft.predict_next(torch.tensor(came, dtype=torch.int64)[None], one)
            bounded = limited(logits, text.request.limits, [came], text.num_given)
            probs = bounded[0].softmax(-1)
            found.append(Guess(text.draw(probs), probs))
        return found

    return guesses
