"""What every check uses: stating a promise, drawing small data, reading a component's options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from morphogen.core.random import generator
from morphogen.core.schema import REQUIRED, convert, options
from morphogen.core.spec import ProductSpec, Spec


def promise(kept: object, sentence: str) -> None:
    """Raise `AssertionError` with `sentence` unless the promise is kept."""
    if not kept:
        raise AssertionError(sentence)


@contextlib.contextmanager
def works(what: str) -> Iterator[None]:
    """Turn an exception inside into the broken promise that `what` works."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def leaves_global_rng(what: str) -> Iterator[None]:
    """Hold `what` to drawing from the generator it was given, and from no other."""
    before = torch.get_rng_state()
    yield
    promise(
        torch.equal(before, torch.get_rng_state()),
        f"{what} draws from the global generator: draw with core.random and the generator given",
    )


@contextlib.contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generator inside, and put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Equal shapes and equal values, up to rounding; of items of parts, part by part."""
    if isinstance(a, dict) or isinstance(b, dict):
        named = isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys()
        return named and all(close(a[name], b[name], tolerance) for name in a)
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * 0.1, equal_nan=True)


def draw_data(spec: Spec, size: int, seed: int) -> Any:
    """Random data of a spec: (size, *shape), or parts by name; items end where they may."""
    if isinstance(spec, ProductSpec):
        seeds = enumerate(spec, 1000 * seed)
        return spec.canonical({name: draw_data(part, size, own) for own, (name, part) in seeds})
    draw = generator(seed)
    shape = (size, *spec.shape)
    if spec.kind == "token":
        drawn = torch.randint(spec.vocab_size or 1, shape, generator=draw)
        if spec.sizes is not None:
            drawn = drawn % torch.tensor(spec.sizes)
        return spec.canonical(drawn)
    if spec.levels:
        return spec.dequantise(torch.randint(spec.levels, shape, generator=draw))
    return torch.randn(shape, generator=draw) * 0.5


def check_values(x: Any, spec: Spec, size: int, what: str) -> None:
    """Hold `x` to being `size` items of `spec`: shape, kind of numbers, finite, in range, and
    nothing but padding where nothing is real."""
    if isinstance(spec, ProductSpec):
        promise(isinstance(x, dict) and x.keys() == spec.parts.keys(), f"{what} lacks parts")
        for name, part in spec:
            check_values(x[name], part, size, f"{what}, part {name!r}")
        promise(close(spec.canonical(x), x), f"{what} has values where the length says none are")
        return
    expected = (size, *spec.shape)
    promise(tuple(x.shape) == expected, f"{what} has shape {tuple(x.shape)}, not {expected}")
    if spec.kind == "token":
        promise(x.dtype == torch.int64, f"{what} holds tokens as {x.dtype}, not int64")
        low, high = int(x.min()), int(x.max())
        fits = low >= 0 and high < (spec.vocab_size or 1)
        promise(fits, f"{what} holds tokens {low}..{high} outside [0, {spec.vocab_size})")
        if spec.sizes is not None:
            own = bool((x < torch.tensor(spec.sizes, device=x.device)).all())
            promise(own, f"{what} holds tokens that their columns do not have")
        promise(torch.equal(spec.canonical(x), x), f"{what} goes on after the end of items")
        return
    promise(x.is_floating_point(), f"{what} holds {x.dtype}, not real numbers")
    promise(torch.isfinite(x).all(), f"{what} is not finite")
    if spec.levels:
        promise(float(x.abs().max()) <= 1 + 1e-5, f"{what} leaves [-1, 1]: {float(x.abs().max())}")


def perturb(module: nn.Module, scale: float = 0.05, seed: int = 7) -> None:
    """Move every parameter a little, so that gates which start at zero let gradients through."""
    draw = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter), alpha=scale)


def check_described(component: Callable[..., Any]) -> None:
    """A summary line of its own; options each with a comment, a type and a default that fits."""
    name = component.__name__
    doc = vars(component).get("__doc__") if isinstance(component, type) else component.__doc__
    summary = (doc or "").strip().partition("\n")[0]
    promise(summary, f"{name} has no docstring: its first line is what `morphogen list` shows")
    for option in options(component).values():
        promise(
            option.comment,
            f"{name}.{option.name} has no trailing comment: put the argument on a line of its own "
            "with one, it is what --help shows",
        )
        promise(option.type is not Any, f"{name}.{option.name} has no type")
        if option.default is REQUIRED:
            continue
        try:
            same = convert(option.default, option.type) == option.default
        except (TypeError, ValueError):
            same = False
        promise(
            same, f"{name}.{option.name}: the default {option.default!r} is no {option.type_name}"
        )


def small_options(component: Callable[..., Any]) -> dict[str, int]:
    """Options that make a component small: widths of 32, two layers, four sampling steps."""
    chosen = {}
    for option in options(component).values():
        if option.name == "model_dim" and option.default is None:  # chosen by the size of the data
            chosen[option.name] = 32
        if option.type is not int or not isinstance(option.default, int):
            continue
        if option.name.endswith("_dim") and option.default > 32:
            chosen[option.name] = 32
        elif option.name in ("num_layers", "num_blocks") and option.default > 2:
            chosen[option.name] = 2
        elif option.name == "num_steps" and option.default > 4:
            chosen[option.name] = 4
    return chosen
