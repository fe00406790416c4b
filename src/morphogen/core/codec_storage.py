"""A fitted codec as JSON and tensors, with the codecs of its items' conditions.

    {"axis": "modality", "name": "image", "view": "", "state": {...},
     "conditions": {"label": {"axis": "modality", "name": "category", "state": {...}}}}

The tensors of a condition's codec are called `condition.NAME.*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from morphogen.core import discover
from morphogen.core.codec import Codec
from morphogen.core.errors import BundleError
from morphogen.core.storage import below


def describe_codec(codec: Codec) -> dict[str, Any]:
    """What `rebuild_codec` needs beside the tensors, as JSON."""
    known = {} if codec.inner is not None else codec.condition_codecs  # else with the inner's
    return {
        "axis": "wrapper" if ".wrappers." in type(codec).__module__ else "modality",
        "name": discover.name_of(type(codec)),
        "view": codec.view,
        "state": codec.state(),
        "conditions": {name: describe_codec(each) for name, each in known.items()},
    }


def codec_tensors(codec: Codec) -> dict[str, Tensor]:
    """The weights of a codec and of those of its conditions, by name; none for most."""
    named = dict(codec.tensors())
    if codec.inner is None:
        for name, each in codec.condition_codecs.items():
            inside = codec_tensors(each)
            named |= {f"condition.{name}.{key}": tensor for key, tensor in inside.items()}
    return named


@contextmanager
def without_conditions(codec: Codec, names: Iterable[str]) -> Iterator[None]:
    """Let a codec read no conditions of these names, for as long."""
    known = codec.condition_codecs
    before = dict(known)
    for name in names:
        known.pop(name, None)
    try:
        yield
    finally:
        known.clear()
        known.update(before)


def rebuild_codec(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Codec:
    """Inverse of `describe_codec` and `codec_tensors`."""
    codec_class = discover.find(entry["axis"], entry["name"])
    if not (isinstance(codec_class, type) and issubclass(codec_class, Codec)):
        raise BundleError(f"{entry['name']} is no codec", expected="morphogen list modalities")
    own = {key: value for key, value in tensors.items() if not key.startswith("condition.")}
    codec: Codec = codec_class.from_state(entry["state"], own)
    for name, each in entry.get("conditions", {}).items():
        inside = below(f"condition.{name}.", tensors)
        codec.condition_codecs[name] = rebuild_codec(each, inside)
    view = entry.get("view", codec.view)
    return codec if view == codec.view else codec.use_view(view)
