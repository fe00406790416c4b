"""The promises of a codec: `check_codec(MyCodec, "a/folder/it/reads")`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from morphogen.core import discover
from morphogen.core.codec import Codec, Item, Recognition, Report
from morphogen.core.encoded import Encoded, equal, stacked, unstacked
from morphogen.core.spec import Spec, TensorSpec
from morphogen.core.storage import read_tensors, write_tensors
from morphogen.data.views import choose_view
from morphogen.testing._promises import (
    check_described,
    check_values,
    close,
    global_seed,
    leaves_global_rng,
    promise,
    works,
)


def check_codec(
    codec_class: type[Codec],
    source: Path | str | None = None,
    items: Sequence[Item] | None = None,
) -> None:
    """Hold a codec to its contract, on a clean source that it reads, or on items given directly."""
    name = codec_class.__name__
    check_described(codec_class)
    with works(f"{name}()"):
        codec = codec_class()
    if source is not None:
        items = _read(codec, source)
    if not items:
        raise AssertionError(f"{name}: pass a source or items to check it on")
    with works(f"{name}.fit"):
        fitted = codec.fit(items)
    promise(fitted is codec, f"{name}.fit does not return the codec")
    promise(codec.view in codec.views, f"{name}.view {codec.view!r} is none of {codec.views}")
    for view in codec.views:
        with works(f"{name}.use_view({view!r})"):
            codec.use_view(view)
        _check_encoding(codec, items)
        _check_round_trip(codec, items)
        _check_units(codec, items)
    if source is not None:  # what is read for its own sake; a condition is learned with an item
        _check_family(codec)
    _check_state(codec, items)
    _check_write(codec, items)


def _read(codec: Codec, source: Path | str) -> list[Item]:
    name = type(codec).__name__
    found = type(codec).recognises(source)
    promise(isinstance(found, Recognition), f"{name} does not recognise {source}")
    promise(found and 0 < found.sure <= 1 and found.why, f"{name}.recognises says {found}")
    with tempfile.TemporaryDirectory() as folder:
        promise(type(codec).recognises(folder) is None, f"{name} recognises an empty folder")
    report = Report(str(source))
    with works(f"{name}.read"):
        items = list(codec.read(source, report))
    promise(items, f"{name}.read yields nothing from {source}")
    promise(not report.skipped, f"{name}.read skips items of a clean source: {report.skipped}")
    promise(all(item.name for item in items), f"{name}.read yields items without a name")
    again = [item.name for item in codec.read(source, Report(str(source)))]
    promise(again == [item.name for item in items], f"{name}.read changes its order")
    return items


def _check_encoding(codec: Codec, items: Sequence[Item]) -> None:
    """Tensors of the spec, in range, the same at every call and in batches."""
    name = type(codec).__name__
    rows = []
    for seed in (1, 2):
        with global_seed(seed), works(f"{name}.encode"), leaves_global_rng(f"{name}.encode"):
            rows.append(stacked([codec.encode(item) for item in items]))
    check_values(rows[0], codec.spec, len(items), f"{name}.encode")
    for part, _, x in _parts(codec.spec, rows[0]):
        if x.is_floating_point():
            largest = float(x.abs().max())
            promise(largest <= 1 + 1e-5, f"{name}.encode{part} leaves [-1, 1]: {largest}")
    promise(equal(*rows), f"{name}.encode differs between two equal calls")
    with works(f"{name}.encode_many"):
        many = codec.encode_many(items)
    promise(close(many, rows[0]), f"{name}.encode_many is not encode of each")


def _check_round_trip(codec: Codec, items: Sequence[Item]) -> None:
    """Decoding is deterministic, and loses at most a level of what encoding kept."""
    name = type(codec).__name__
    x = codec.encode_many(items)
    decoded = []
    for seed in (1, 2):
        with global_seed(seed), works(f"{name}.decode"), leaves_global_rng(f"{name}.decode"):
            decoded.append(codec.decode_many(x))
    promise(len(decoded[0]) == len(items), f"{name}.decode_many gives {len(decoded[0])} values")
    with works(f"{name}.encode of decoded values"):
        one, two = (_encode(codec, values) for values in decoded)
        single = _encode(codec, [codec.decode(row) for row in unstacked(x)])
    promise(close(one, two), f"{name}.decode differs between two equal calls")
    promise(close(one, single), f"{name}.decode_many is not decode of each")
    for (part, spec, was), (_, _, now) in zip(
        _parts(codec.spec, x), _parts(codec.spec, one), strict=True
    ):
        if spec.kind == "token":
            promise(torch.equal(now, was), f"{name}: encode(decode(x)) is not x{part}")
        elif spec.levels:
            lost = float((now - was).abs().max()) * (spec.levels - 1) / 2
            promise(
                lost < 1.01, f"{name}: encode(decode(x)) is {lost:.1f} levels away from x{part}"
            )


def _check_units(codec: Codec, items: Sequence[Item]) -> None:
    """Every item has a positive number of units, that bits are counted per."""
    name = type(codec).__name__
    with works(f"{name}.num_units"):
        units = codec.num_units(codec.encode_many(items))
    fits = tuple(units.shape) == (len(items),) and bool((units > 0).all())
    promise(fits, f"{name}.num_units gives {units}: not a positive number for each item")
    if getattr(codec, "windows", None) is not None:
        with works(f"{name}.encode_stream"):
            streams = [codec.encode_stream(item) for item in items]  # type: ignore[attr-defined]
        flat = all(stream.dim() == 1 and len(stream) > 0 for stream in streams)
        promise(flat, f"{name}.encode_stream gives no sequence of tokens for some item")


def _check_family(codec: Codec) -> None:
    """The family that the data is usually learned with takes it, in some view."""
    name = type(codec).__name__
    with works(f"{name}.family"):
        refusal = discover.find("family", codec.family).refusal
    refused = refusal(choose_view(codec, suits=refusal).spec, {})
    promise(refused is None, f"{name}.family {codec.family!r} does not take its items: {refused}")


def _parts(spec: Spec, x: Encoded) -> list[tuple[str, TensorSpec, Tensor]]:
    """("", spec, x) of a tensor; of items of parts, each with its name for a message."""
    if isinstance(spec, TensorSpec) or not isinstance(x, dict):
        return [("", spec, x)]  # type: ignore[list-item]
    return [(f" in part {name!r}", part, x[name]) for name, part in spec]


def _encode(codec: Codec, values: Sequence[object]) -> Encoded:
    return codec.encode_many([Item(value, f"value {i}") for i, value in enumerate(values)])


def _check_state(codec: Codec, items: Sequence[Item]) -> None:
    """Plain JSON and safetensors rebuild the codec."""
    name = type(codec).__name__
    with works(f"{name}.state as JSON"):
        state = json.loads(json.dumps(codec.state()))
    tensors = codec.tensors()
    with tempfile.TemporaryDirectory() as folder, works(f"{name}.from_state"):
        if tensors:
            tensors = read_tensors(write_tensors(Path(folder) / "codec.safetensors", tensors))
        rebuilt = type(codec).from_state(state, tensors)
    promise(rebuilt.spec == codec.spec, f"{name}: the spec is {rebuilt.spec} after from_state")
    x, again = codec.encode_many(items), rebuilt.encode_many(items)
    promise(close(x, again), f"{name}: encode differs after from_state")
    one, two = (_encode(codec, each.decode_many(x)) for each in (codec, rebuilt))
    promise(close(one, two), f"{name}: decode differs after from_state")


def _check_write(codec: Codec, items: Sequence[Item]) -> None:
    name = type(codec).__name__
    promise(codec.suffix.startswith("."), f"{name}.suffix is {codec.suffix!r}, not like '.png'")
    values = codec.decode_many(codec.encode_many(items))
    with tempfile.TemporaryDirectory() as folder:
        for columns in (None, 2):
            target = Path(folder) / f"values{columns}{codec.suffix}"
            with works(f"{name}.write"):
                written = codec.write(values, target, columns)
            exists = written.exists() and (written.is_dir() or written.stat().st_size > 0)
            promise(exists, f"{name}.write returns {written}, where there is nothing")
    with works(f"{name}.html"):
        shown = codec.html(values, 2)
    promise(isinstance(shown, str) and shown, f"{name}.html shows nothing")
    own = not any(mark in shown for mark in ('src="http', 'href="http', "<script"))
    promise(own, f"{name}.html needs something from elsewhere")
    with works(f"{name}.brief"):
        words = [codec.brief(value, 20) for value in values]
    promise(all(len(each) <= 20 for each in words), f"{name}.brief is longer than it was asked")
