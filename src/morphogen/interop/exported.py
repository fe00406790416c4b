"""What every way out of the workbench needs: the parts and facts of a language model, the layout
that has a place for them, and what was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphogen.backbones.token_transformer import TokenTransformer
from morphogen.core import discover
from morphogen.core.amounts import size
from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.recipe import resolve
from morphogen.families.autoregressive import Autoregressive
from morphogen.families.masked import Masked
from morphogen.interop.layout import Layout
from morphogen.interop.layouts import LAYOUTS
from morphogen.modalities.text import Text

NETWORK = "network."  # where the family keeps it


@dataclass
class Exported:
    """A folder that others read, and what to know of it."""

    path: str
    layout: str
    files: dict[str, int] = field(default_factory=dict)  # name -> bytes
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.path}, in the layout of {self.layout}:"]
        lines += [f"  {name:<24}{size(num)}" for name, num in self.files.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """What a layout has to have a place for: the options of the network, every default filled in,
    and its sizes."""
    network: Any = bundle.family.network
    facts = dict(resolve(bundle.recipe, bundle.family.spec).backbone)
    first = network.layers[0]
    facts |= {
        "ngrams": 1 if network.ngrams is None else network.ngrams.most,
        "num_heads": first.self_attn.q_proj.out_features // network.head_dim,
        "num_kv_heads": network.num_kv_heads,
        "head_dim": network.head_dim,
        "query_dim": network.head_dim,  # whose root scores are divided by
        "hidden_dim": first.mlp.up_proj.out_features,
        "tied": network.tied,
        "vocab_size": network.in_spec.vocab_size,
        "length": network.in_spec.shape[0],
    }
    whole = facts["num_heads"] * facts["head_dim"] == facts["model_dim"]
    return facts | {"grouped": facts["num_kv_heads"] < facts["num_heads"], "uneven": not whole}


def fitting(facts: Mapping[str, Any], layouts: Sequence[Layout] = LAYOUTS) -> Layout:
    """The layout that has a place for all of this. Raises `RefusedPair` where none has."""
    near = min(layouts, key=lambda layout: len(layout.misfits(facts)))
    if misfits := near.misfits(facts):
        raise RefusedPair(
            "no layout has a place for this network",
            found=", ".join(f"backbone.{name} = {facts[name]}" for name in misfits),
            expected=", ".join(f"{name} = {value}" for name, value in misfits.items())
            + f", as {near.model_type} has it, the nearest",
            hint="--format peft, for who has the base"
            if set(misfits) == {"prompt"}
            else " ".join(f"--set backbone.{name}={value}" for name, value in misfits.items()),
        )
    return near


def language_model(bundle: Bundle, *, encoders: bool = False) -> tuple[Any, Text]:
    """The family and the codec of one, or of a published encoder where these are meant too. Raises
    `RefusedPair` for any other bundle."""
    family, codec = bundle.family, bundle.codec
    network = getattr(family, "network", None)
    is_encoder = encoders and isinstance(family, Masked) and family.start is not None
    reason = None
    if not isinstance(codec, Text):
        reason = f"its items are no texts, but those of {discover.name_of(type(codec))}"
    elif not isinstance(family, Autoregressive) and not is_encoder:
        reason = f"the family {discover.name_of(type(family))} does not go on with a text"
    elif not isinstance(network, TokenTransformer):
        reason = f"its network is a {discover.name_of(type(network))}, not a token_transformer"
    elif family.conditions:
        reason = f"it learned with conditions ({', '.join(family.conditions)})"
    if reason is not None:
        raise RefusedPair(
            f"this bundle has no form that others read: {reason}",
            expected="a language model without conditions",
            hint="morphogen train texts/ --family autoregressive --set train.unconditional=yes",
        )
    assert isinstance(codec, Text)
    return family, codec


def check_empty(folder: Path) -> None:
    """Raise `BundleError` where there is something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError("the folder is not empty", where=folder, hint="--to another folder")


def template_of(bundle: Bundle, end: str) -> str | None:
    """The chat template, if there is one. A model that learned from conversations here saw ends
    before each, as many as its codec says."""
    own = getattr(bundle.codec, "template", None)
    if own is None:
        return bundle.origin.get("chat_template")
    gap = getattr(bundle.codec, "gap", 0)
    return f"{{{{ {json.dumps(end * gap)} }}}}{own.source}"
