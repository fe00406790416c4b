"""What may come next, guessed before it is read: from what stands already, or by another model."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from morphogen.core.writing import Request
from morphogen.families._limits import limited
from morphogen.families._text import Guess, Text
from morphogen.families._writing import Guesses, Model

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


def drafted(draft: Model) -> Guesses:
    """Guesses by another model of the same vocabulary, within the limits of the text."""
    followed = weakref.WeakKeyDictionary[Text, _Followed]()

    def guesses(text: Text, num: int) -> list[Guess]:
        if text not in followed:
            followed[text] = _Followed(draft, text)
        found: list[Guess] = []
        for _ in range(num):
            came = [*text.came, *(guess.token for guess in found)]
            logits = followed[text].next_logits(came)
            bounded = limited(logits, text.request.limits, [came], text.num_given)
            probs = bounded[0].softmax(-1)
            found.append(Guess(text.draw(probs), probs))
        return found

    return guesses


class _Followed:
    """One text as a draft reads it: each token once, and those that fit into its own window."""

    def __init__(self, draft: Model, text: Text) -> None:
        self.draft, self.request = draft, text.request
        self.room = min(draft.num_tokens, len(text.came) + text.left + 1)  # tokens, with the start
        self.rows = draft.rows(1, self.room)
        self.first, self.read = (
            0,
            list[int](),
        )  # where it begins to see, and what it read from there

    def next_logits(self, came: list[int]) -> Tensor:
        """Logits (1, V) of the token after those that came."""
        if len(came) - self.first >= self.room:  # it begins anew with the latest half
            self.first, self.read = len(came) - self.room // 2, []
        seen, begins = came[self.first :], self.request.begins or self.first > 0
        known = min(len(self.read), len(seen) - 1)
        while known > 0 and self.read[:known] != seen[:known]:
            known -= 1
        if known > 0:
            self.rows.cut(0, known + begins)
            new = [self.draft.taken(token, known + i) for i, token in enumerate(seen[known:])]
            told = self.rows.advance(new, [0] * len(new))
        else:
            prompt = torch.tensor(seen, dtype=torch.int64)
            whole = Request(prompt, 1, cond=self.request.cond, begins=begins)
            *_, (_, told) = self.draft.read(self.rows, 0, whole)
        self.read = seen
        return self.draft.next_logits(told[-1:], len(seen))
