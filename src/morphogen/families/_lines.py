r"""Items as one line of tokens, of which some are hidden: sequences, columns, and parts of a graph.

    sequence    x_1 .. x_L; what follows the first end is none, and where it stands is drawn first
    runs        pictures, sounds and words one after the other, each position with tokens of its own
                of one vocabulary
    columns     each with tokens of its own, side by side in one vocabulary; a network tells them
                all as one vector, each column's logits side by side
    parts       every part flattened and one behind the other, likewise; first those that say how
                many positions there are, which are never hidden and drawn first. Of pairs, one of
                each two

Legend: B batch, L tokens of the line, V vocabulary, e the place of the first end token.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from morphogen.core.likelihood import NEVER
from morphogen.core.random import categorical
from morphogen.core.spec import ProductSpec, Spec, TensorSpec
from morphogen.families._raster import never_of, own_tokens

PRIOR = 0.5  # how often each length counts as seen before any was


def line_of(spec: Spec) -> SequenceLine | PartsLine:
    """How items of a spec are laid out."""
    return PartsLine(spec) if isinstance(spec, ProductSpec) else SequenceLine(spec)


class SequenceLine(nn.Module):
    """A sequence or grid of tokens, or a row of columns."""

    def __init__(self, spec: TensorSpec) -> None:
        super().__init__()
        self.spec, self.length = spec, spec.num_values
        self.vocab_size = sum(spec.sizes or ()) or spec.vocab_size or 1
        first, never = own_tokens(spec.sizes) if spec.sizes else (None, never_of(spec))
        if spec.end is not None:  # what stands before the end is none
            never = torch.zeros(self.length, self.vocab_size, dtype=torch.bool)
            never[:, spec.end] = True
        self.num_lengths = 0 if spec.end is None else self.length + 1
        self.offsets: Tensor | None
        self.never: Tensor | None
        self.register_buffer("offsets", first, persistent=False)
        self.register_buffer("never", never, persistent=False)
        names = spec.names if spec.runs else ()
        number = {name: n for n, name in enumerate(dict.fromkeys(names or ()))}
        self.part = [number[name] for name in names or ()]  # of each position; of no runs: none

    def specs(self, mask: int, before: int) -> tuple[Spec, Spec]:
        """What a network sees, with `before` tokens in front, and what it tells."""
        spec, length = self.spec, self.length + before
        known = max(self.vocab_size, mask + 1)
        seen = TensorSpec.tokens(length, known, end=spec.end, boundary=spec.boundary)
        if spec.sizes is not None:
            return seen, TensorSpec.vector(self.vocab_size)
        return seen, TensorSpec("real", (self.vocab_size, length), layout="sequence")

    def tokens(self, x: Any) -> Tensor:
        """(B, *shape) -> (B, L), each column's tokens its own."""
        line: Tensor = self.spec.canonical(x).flatten(1)
        return line if self.offsets is None else line + self.offsets

    def items(self, tokens: Tensor) -> Any:
        """Inverse of `tokens`."""
        own = tokens if self.offsets is None else tokens - self.offsets
        return own.reshape(len(tokens), *self.spec.shape)

    def content(self, tokens: Tensor) -> Tensor:
        """Which positions (B, L) are to be told: those before the end."""
        if self.spec.end is None:
            return torch.ones_like(tokens, dtype=torch.bool)
        return (tokens == self.spec.end).cumsum(1) == 0

    def seen(self, tokens: Tensor, mask: int) -> Any:
        """What a network sees of tokens, some of which are the mask."""
        return tokens

    def logits(self, told: Any) -> Tensor:
        """What a network tells -> (B, V, L)."""
        logits: Tensor = told[..., None] if self.spec.sizes else told[..., -self.length :]
        return logits if self.never is None else logits.masked_fill(self.never.T, NEVER)

    def log_probs(self, told: Any, tokens: Tensor) -> Tensor:
        """What a network tells -> log q of tokens (B, L), each among those of its position."""
        if self.spec.sizes is None or self.offsets is None:
            return self.logits(told).log_softmax(1).gather(1, tokens[:, None])[:, 0]
        own = told.split(self.spec.sizes, dim=1)  # a vocabulary for each column would be L times V
        columns = (tokens - self.offsets).unbind(1)
        found = [
            logits.gather(1, column[:, None])[:, 0] - logits.logsumexp(1)
            for logits, column in zip(own, columns, strict=True)
        ]
        return torch.stack(found, 1)

    def counts(self, tokens: Tensor) -> Tensor:
        """How often the first end stands at each place; the last: nowhere."""
        return PRIOR + torch.bincount(self.content(tokens).sum(1), minlength=self.num_lengths)

    def log_prob_of_length(self, tokens: Tensor, counts: Tensor | None) -> Tensor:
        """log p(e) of each item's own: (B,); zero where all items are as long."""
        if counts is None:
            return torch.zeros(len(tokens), device=tokens.device)
        return counts.log().log_softmax(0)[self.content(tokens).sum(1)]

    def ended(
        self, tokens: Tensor, hidden: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Items with an end drawn where what is known leaves it open: after the last known token of
        the content, not after the first known end."""
        place = torch.arange(self.length, device=tokens.device)
        is_end = tokens == self.spec.end
        last = torch.where(~hidden & ~is_end, place, -1).amax(1)  # (B,)
        first = torch.where(~hidden & is_end, place, self.length).amin(1)
        places = torch.arange(self.length + 1, device=tokens.device)
        fits = (places > last[:, None]) & (places <= first[:, None])  # (B, L + 1)
        logits = counts.log().masked_fill(~fits, NEVER)
        end = categorical(logits.to(generator.device), generator).to(tokens.device)
        content = place < end[:, None]
        return tokens.masked_fill(~content, self.spec.end or 0), hidden & content

    def known(self, known: Tensor, x: Tensor) -> Tensor:
        """Which tokens of the line are known (B, L), by a mask of items."""
        return known.expand_as(x).flatten(1)


class Field(NamedTuple):
    """Where a part lies in the line, where its tokens start, and which of its values there are."""

    name: str
    here: slice
    offset: int
    size: int
    places: Tensor  # among its values, flattened
    needs: Tensor  # how many positions there have to be, for each of these to be real


class PartsLine(nn.Module):
    """Parts of tokens: of a graph, its size, its positions and its pairs."""

    def __init__(self, spec: ProductSpec) -> None:
        super().__init__()
        self.spec = spec
        first = list(dict.fromkeys(spec.lengths.values()))
        rest = [name for name in spec.parts if name not in first]
        self.fields: list[Field] = []
        start = offset = 0
        for name in (*first, *rest):
            part = spec.parts[name]
            places, size = torch.arange(part.num_values), part.vocab_size or 1
            needs = places // math.prod(part.shape[1:]) + 1
            if name in spec.pairs:
                num = part.shape[0]
                upper = [i * num + j for i in range(num) for j in range(i + 1, num)]
                places = torch.tensor(upper, dtype=torch.long)
                needs = places % num + 1  # of i < j the second
            here = slice(start, start + len(places))
            self.fields.append(Field(name, here, offset, size, places, needs))
            start, offset = here.stop, offset + size
        self.length, self.vocab_size = start, offset
        self.sizes, self.told = self.fields[: len(first)], self.fields[len(first) :]
        self.part: list[int] = []
        self.num_lengths = sum(field.size for field in self.sizes)

    def specs(self, mask: int, before: int) -> tuple[Spec, Spec]:
        """What a network sees, each part with a mask of its own, and what it tells."""
        parts, told = self.spec.parts, [field.name for field in self.told]
        seen = {
            name: TensorSpec(
                "token", part.shape, (part.vocab_size or 1) + (name in told), None, part.layout
            )
            for name, part in parts.items()
        }
        logits = {name: parts[name].with_channels(parts[name].vocab_size or 1) for name in told}
        pairs = self.spec.pairs
        return ProductSpec(seen, self.spec.lengths, pairs), ProductSpec(logits, pairs=pairs)

    def tokens(self, x: Any) -> Tensor:
        """Parts -> (B, L)."""
        x = self.spec.canonical(x)
        return torch.cat(
            [
                x[field.name].reshape(len(x[field.name]), -1)[:, field.places] + field.offset
                for field in self.fields
            ],
            1,
        )

    def items(self, tokens: Tensor) -> dict[str, Tensor]:
        """Inverse of `tokens`."""
        return self.spec.canonical(self._parts(tokens))

    def content(self, tokens: Tensor) -> Tensor:
        """Which positions (B, L) are to be told: what there is, but for how much of it."""
        known = tokens.clone()  # what is hidden may be any token of its own
        for field in self.told:
            known[:, field.here] = field.offset
        x = self._parts(known)
        masks, found = self.spec.mask(x), torch.zeros_like(tokens, dtype=torch.bool)
        for field in self.told:
            mask, part = masks[field.name], x[field.name]
            real = torch.ones_like(part, dtype=torch.bool) if mask is None else mask
            found[:, field.here] = real.expand_as(part).reshape(len(part), -1)[:, field.places]
        return found

    def seen(self, tokens: Tensor, mask: int) -> dict[str, Tensor]:
        """What a network sees of tokens, some of which are the mask."""
        hidden = tokens == mask
        own = tokens.clone()
        for field in self.told:
            here = field.here
            own[:, here] = own[:, here].masked_fill(hidden[:, here], field.offset + field.size)
        return self._parts(own)

    def logits(self, told: dict[str, Tensor]) -> Tensor:
        """What a network tells of each part -> (B, V, L)."""
        some = told[self.told[0].name]
        logits = some.new_full((len(some), self.vocab_size, self.length), NEVER)
        for field in self.told:
            own = told[field.name].flatten(2)[..., field.places]
            logits[:, field.offset : field.offset + field.size, field.here] = own
        return logits

    def log_probs(self, told: dict[str, Tensor], tokens: Tensor) -> Tensor:
        """What a network tells of each part -> log q of tokens (B, L)."""
        return self.logits(told).log_softmax(1).gather(1, tokens[:, None])[:, 0]

    def counts(self, tokens: Tensor) -> Tensor:
        """How often each length came, of one part after the other."""
        found = [
            PRIOR + torch.bincount(tokens[:, f.here.start] - f.offset, minlength=f.size)
            for f in self.sizes
        ]
        return torch.cat(found) if found else torch.zeros(0)

    def log_prob_of_length(self, tokens: Tensor, counts: Tensor | None) -> Tensor:
        """log p of the lengths of each item: (B,)."""
        total = torch.zeros(len(tokens), device=tokens.device)
        for field, own in self._counted(counts):
            log_p = own.log().log_softmax(0)
            total = total + log_p[tokens[:, field.here.start] - field.offset]
        return total

    def ended(
        self, tokens: Tensor, hidden: Tensor, counts: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Items with lengths drawn where they are hidden, such that what is known to be real stays
        so, and what is known to be nothing."""
        tokens, content = tokens.clone(), self.content(tokens)
        for field, own in self._counted(counts):
            low, high = self._limits(field, ~hidden, content)
            places = torch.arange(field.size, device=tokens.device)
            fits = (places >= low[:, None]) & (places <= high[:, None])
            logits = own.log().masked_fill(~fits, NEVER)
            drawn = categorical(logits.to(generator.device), generator).to(tokens) + field.offset
            place = field.here.start
            tokens[:, place] = torch.where(hidden[:, place], drawn, tokens[:, place])
        return self.tokens(self._parts(tokens)), hidden & self.content(tokens)

    def known(self, known: Any, x: Any) -> Tensor:
        """Which tokens of the line are known (B, L), by a mask of each part."""
        found = []
        for field in self.fields:
            own = known[field.name].expand_as(x[field.name])
            found.append(own.reshape(len(own), -1)[:, field.places])
        return torch.cat(found, 1)

    def _limits(self, length: Field, known: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest length (B,) that agree with what is known."""
        low = torch.zeros(len(known), dtype=torch.long, device=known.device)
        high = torch.full_like(low, length.size - 1)
        for field in self.told:
            if self.spec.lengths.get(field.name) != length.name or not len(field.places):
                continue
            needs, here = field.needs.to(known.device), field.here
            real, seen = content[:, here], known[:, here]
            low = torch.maximum(low, torch.where(seen & real, needs, 0).amax(1))
            high = torch.minimum(high, torch.where(seen & ~real, needs - 1, length.size).amin(1))
        return low, high

    def _counted(self, counts: Tensor | None) -> list[tuple[Field, Tensor]]:
        if counts is None:
            return []
        split = torch.split(counts, [field.size for field in self.sizes])
        return list(zip(self.sizes, split, strict=True))

    def _parts(self, tokens: Tensor) -> dict[str, Tensor]:
        """(B, L) -> parts, with nothing where the line has none of them."""
        found = {}
        for field in self.fields:
            shape = self.spec.parts[field.name].shape
            part = tokens.new_zeros(len(tokens), math.prod(shape))
            part[:, field.places] = tokens[:, field.here] - field.offset
            found[field.name] = part.view(len(tokens), *shape)
        return {name: found[name] for name in self.spec.parts}
