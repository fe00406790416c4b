r"""Soft prompts: a few vectors before every text, learned in place of words.

    h = [p_1 .. p_n, E x_1 .. E x_L],    p (n, D) learned, all else as it is

Lester et al. 2021 (arXiv:2104.08691). They begin as words of the vocabulary, take part in attention
as words do, and stand before every text: also before each of those that are packed into a window.
There is nothing to merge: a model with a soft prompt is one whose network begins with it
(`backbone.prompt`), which is how it is kept where it needs no base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from morphogen.core import discover
from morphogen.core.errors import RecipeError, RefusedPair


class Prompt:
    """Trains vectors that stand before every text, and nothing else."""

    train_defaults: ClassVar[dict[str, Any]] = {"lr": 3e-2}
    on_base: ClassVar[bool] = True

    def __init__(
        self,
        *,
        num: int = 20,  # vectors
    ) -> None:
        if num < 1:
            raise RecipeError("a prompt has a vector at least", found=num, where="wrapper.num")
        self.num = num

    @property
    def in_network(self) -> Mapping[str, Any]:
        """Options of a network that has it without an adapter."""
        return {"prompt": self.num}

    def put_on(self, family: Any) -> None:
        """Freeze a family, and let vectors stand before what its network reads.

        Raises `RefusedPair` for a network that does not read words, or has a prompt already.
        """
        network: Any = getattr(family, "network", None)
        reason = None
        if not hasattr(network, "begin_with"):
            name = discover.name_of(type(network if network is not None else family))
            reason = f"{name} reads no row of tokens that something could stand before"
        elif network.places is not None:
            reason = "its learned places leave no room before a text"
        elif network.num_before:
            reason = f"it begins with {network.num_before} vectors already"
        if reason is not None:
            raise RefusedPair(
                f"a soft prompt does not go on this network: {reason}",
                expected="a token_transformer with rotary positions",
                hint="--adapter lora, which goes on any network",
            )
        given = frozenset(name for name, _ in family.named_parameters(remove_duplicate=False))
        family.requires_grad_(False)
        network.begin_with(self.num)
        family.adapter, family.given = self, given

    def merge(self, family: Any) -> None:
        """Nothing: the network reads it as it is."""

    def split(self, family: Any) -> None:
        """Nothing: it stays."""

    @contextmanager
    def switched_off(self, family: Any) -> Iterator[None]:
        """A block in which nothing stands before a text."""
        network = family.network
        own, network.prompt = network.prompt, None
        try:
            yield
        finally:
            network.prompt = own
