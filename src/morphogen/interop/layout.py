"""What a published layout is: a table that is read both ways.

    ours                                 theirs
    layers.0.self_attn.q_proj.weight  ->  model.layers.0.self_attn.q_proj.weight
    q_proj, k_proj, v_proj            ->  h.0.attn.c_attn.weight, one below the other and turned

A table is data: the options of `token_transformer` that an architecture has, its words for those
that it leaves open, what else its config.json says, and steps, each of which has an inverse.
Writing and reading are therefore one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core.driver import listed
from morphogen.core.errors import BundleError, did_you_mean
from morphogen.core.schema import defaults

Facts = Mapping[str, Any]  # options of a network, and its sizes; see `export.facts_of`

# Sizes are as the weights say, and the last two of no matter to what is computed.
_FREE = {
    "model_dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "hidden_dim",
    "rotary_base", "tied", "across_documents", "ngram_slots", "dropout_prob",
}  # fmt: skip
OPTIONS = defaults(TokenTransformer)
_PLAIN = {name: value for name, value in OPTIONS.items() if name not in _FREE} | {"ngrams": 1}


@dataclass(frozen=True)
class Step:
    """One tensor under two names; `{}` stands for the number of a layer."""

    ours: tuple[str, ...]
    theirs: str

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        """Tensors of ours -> one of theirs."""
        return own[0]

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        """Inverse of `there`."""
        return [their]


class Turned(Step):
    """The same, with rows for columns."""

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        return own[0].T

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        return [their.T]


class Shifted(Step):
    """The gains of a norm, which are one less there."""

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        return own[0] - 1

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        return [their + 1]


class Joined(Step):
    """Several of one size that are one there, one below the other."""

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        return torch.cat(list(own))

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        return their.chunk(len(self.ours))


class JoinedAndTurned(Joined):
    """The same, with rows for columns."""

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        return super().there(own, facts).T

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        return super().back(their.T, facts)


@dataclass(frozen=True)
class Interleaved(Step):
    """Rows of queries or keys, whose pairs that rotary positions turn stand side by side there, and
    half a head apart here: in the files of llama.cpp and llama2.c. `heads` is the fact of how many
    heads they have."""

    heads: str = "num_heads"

    def there(self, own: Sequence[Tensor], facts: Facts) -> Tensor:
        halves = own[0].reshape(facts[self.heads], 2, -1, *own[0].shape[1:])  # (H, 2, E / 2, ..)
        return halves.transpose(1, 2).reshape(own[0].shape)

    def back(self, their: Tensor, facts: Facts) -> Sequence[Tensor]:
        pairs = their.reshape(facts[self.heads], -1, 2, *their.shape[1:])
        return [pairs.transpose(1, 2).reshape(their.shape)]


def _as_it_is(value: Any, facts: Facts | None = None) -> Any:
    """What is put alike on both sides."""
    return value


@dataclass(frozen=True)
class Word:
    """What config.json calls a fact, what it means where it does not say, how it puts it, and which
    values it has words for, if not for any."""

    name: str
    default: Any = None
    there: Callable[[Any, Facts], Any] = _as_it_is
    back: Callable[[Any], Any] = _as_it_is
    among: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One architecture."""

    model_type: str
    architecture: str
    has: Mapping[str, Any]  # facts that are otherwise than in a plain network
    words: Mapping[str, Word]  # fact -> what config.json calls it
    says: Mapping[str, Any]  # what else stands there, or is meant
    outside: tuple[Step, ...]
    layer: tuple[Step, ...]
    head: tuple[Step, ...]  # unless it is tied
    beside: tuple[Step, ...] = ()  # what else there is of a head
    not_first: frozenset[str] = frozenset()  # theirs, that the first layer is without
    prefix: str = ""  # of the names of all weights but those of the head
    ignores: str = r"\.rotary_emb\.inv_freq$"  # tensors that are no weights
    family: str = "autoregressive"

    # -- facts -------------------------------------------------------------------------------------

    def misfits(self, facts: Facts) -> dict[str, Any]:
        """Facts that this architecture has otherwise, as it has them."""
        wanted = {name: value for name, value in _PLAIN.items() if name not in self.words}
        wanted |= self.has
        for name, word in self.words.items():
            if word.among and facts[name] not in word.among:
                wanted[name] = word.among[0]
        return {name: value for name, value in wanted.items() if facts[name] != value}

    def facts(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a config.json says of a network of this kind: its options, and its sizes."""
        known = {name: value for name, value in self.has.items() if name in OPTIONS}
        for name, word in self.words.items():
            known[name] = word.back(config.get(word.name, word.default))
        return {"ngrams": 1, **known}

    def otherwise(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What this architecture says, where a config says something else."""
        return {
            name: value for name, value in self.says.items() if config.get(name, value) != value
        }

    def config(self, facts: Facts) -> dict[str, Any]:
        """Inverse of `facts`: config.json, but for what it says of tokens."""
        words = {w.name: w.there(facts[name], facts) for name, w in self.words.items()}
        return {
            "architectures": [self.architecture], "model_type": self.model_type,
            **self.says, **words,
        }  # fmt: skip

    # -- weights -----------------------------------------------------------------------------------

    def to_theirs(self, own: Mapping[str, Tensor], facts: Facts) -> dict[str, Tensor]:
        """Weights of a network -> those of a file. Raises `BundleError` for one without place."""
        left = dict(own)
        found = {
            step.theirs: step.there([left.pop(name) for name in step.ours], facts)
            for step in self._steps(facts)
        }
        if left:
            raise BundleError(f"{self.model_type} has no place for a weight", found=min(left))
        return found

    def to_ours(self, their: Mapping[str, Tensor], facts: Facts) -> dict[str, Tensor]:
        """Inverse of `to_theirs`, of weights that `checked` has let through."""
        found: dict[str, Tensor] = {}
        for step in self._steps(facts):
            found |= dict(zip(step.ours, step.back(their[step.theirs], facts), strict=True))
        return found

    def checked(
        self, their: Mapping[str, Tensor], own: Mapping[str, Tensor], facts: Facts, where: object
    ) -> dict[str, Tensor]:
        """The weights of a file that a network with weights like `own` takes, under their full
        names. Raises `BundleError`, which lists those that are missing, too many, or of another
        shape."""
        wanted = {name: tuple(t.shape) for name, t in self.to_theirs(own, facts).items()}
        found = {n: t for n, t in their.items() if not re.search(self.ignores, n)}
        if self.prefix and not any(name.startswith(self.prefix) for name in found):
            found = {n if n in wanted else self.prefix + n: t for n, t in found.items()}
        copies = {step.theirs for step in self.head} if facts["tied"] else set()
        for name in copies & found.keys() - wanted.keys():  # of the embedding, written out again
            if any(t is not found[name] and torch.equal(t, found[name]) for t in found.values()):
                del found[name]
        misfits = {
            "missing": sorted(wanted.keys() - found.keys()),
            "too many": sorted(found.keys() - wanted.keys()),
            "of another shape": [
                f"{name} {tuple(found[name].shape)} in place of {shape}"
                for name, shape in wanted.items()
                if name in found and tuple(found[name].shape) != shape
            ],
        }
        if told := [listed(kind, names) for kind, names in misfits.items() if names]:
            raise BundleError(
                f"the weights are not those of this {self.model_type}",
                found="; ".join(told), expected=f"{len(wanted)} tensors", where=where,
            )  # fmt: skip
        return found

    def _steps(self, facts: Facts) -> Iterator[Step]:
        for step in self.outside:
            yield replace(step, theirs=self.prefix + step.theirs)
        for number in range(facts["num_layers"]):
            for step in self.layer:
                if number == 0 and step.theirs in self.not_first:
                    continue
                names = tuple(name.format(number) for name in step.ours)
                yield replace(step, ours=names, theirs=self.prefix + step.theirs.format(number))
        yield from self.beside
        if not facts["tied"]:
            yield from self.head


def same(*names: str) -> tuple[Step, ...]:
    """Tensors that are called alike on both sides."""
    return tuple(Step((name,), name) for name in names)


def renamed(names: Mapping[str, str], *kinds: str) -> tuple[Step, ...]:
    """Tensors under other names, each of these kinds: weight, bias."""
    return tuple(
        Step((f"{own}.{kind}",), f"{their}.{kind}")
        for own, their in names.items()
        for kind in kinds or ("weight",)
    )


def nearest(
    model_type: str, layouts: Sequence[Layout], where: object, driven: Iterable[str] = ()
) -> list[Layout]:
    """The tables of an architecture. Raises `BundleError` where there is none, naming these and
    what is `driven` by other libraries."""
    found = [layout for layout in layouts if layout.model_type == model_type]
    if not found:
        known = sorted({layout.model_type for layout in layouts} | {*driven})
        raise BundleError(
            f"this architecture has no table yet.{did_you_mean(model_type, known)}",
            found=model_type, expected=", ".join(known), where=where,
        )  # fmt: skip
    return found
