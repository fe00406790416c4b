"""What a trained model computes, as graphs of ONNX: for runtimes that know no PyTorch.

    denoise(x, t)       E[x | x_t], a step of sampling              (denoisers)
    encode(x)           latents                                      (autoencoders, VAEs, ..)
    decode(z)           items                                        (these, and GANs)
    predict_next(x)     logits of the token after a text             (autoregressive models)
    predict(x)          class probabilities, or values               (supervised models)
    features(x)         what stands for items                        (encoders, where no other is)

each with the model's conditions as further inputs. Tokens are int64, all else float32. A graph is
run by onnxruntime, on as many items as it was not made with, before the folder gets its name;
`export.json` holds how far it is from what the bundle computes.
"""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.core.bundle import Bundle
from morphogen.core.capability import (
    CanDecode,
    CanDenoise,
    CanEncode,
    CanPredict,
    CanPredictNext,
    HasFeatures,
    missing,
)
from morphogen.core.errors import BundleError, RefusedPair
from morphogen.core.extras import extra
from morphogen.core.random import generator, randint, randn
from morphogen.core.spec import ProductSpec, TensorSpec
from morphogen.core.storage import partial_of, write_text
from morphogen.interop.exported import Exported, check_empty

GRAPHS = {
    "denoise": CanDenoise, "encode": CanEncode, "decode": CanDecode,
    "predict_next": CanPredictNext, "predict": CanPredict, "features": HasFeatures,
}  # fmt: skip
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
CONDITIONED = ("denoise", "predict_next")  # and `decode`, where it takes conditions
TOLERANCE = 1e-3  # of the largest number that comes out
MADE_WITH, TRIED_WITH = 2, 3  # items


@dataclass
class Graph:
    """A method of a family, with what it is given."""

    name: str
    inputs: dict[str, TensorSpec]  # of one item each
    conditions: tuple[str, ...]  # those of the inputs that are conditions
    grows: bool  # the length of the first input may be another

    def given(self, num: int, length: int, seed: int) -> tuple[Tensor, ...]:
        """Items drawn at random."""
        draw, drawn = generator(seed), []
        for name, spec in self.inputs.items():
            shape = (num, *spec.shape)
            if self.grows and name == "x":
                shape = (num, length)
            if spec.kind == "token":
                drawn.append(randint(spec.vocab_size or 2, shape, draw))
            elif name == "t":
                drawn.append(randn(shape, draw).sigmoid())
            else:
                drawn.append(randn(shape, draw))
        return tuple(drawn)


class _Module(nn.Module):
    """A graph as a module: its inputs in a row -> what comes out."""

    def __init__(self, family: Any, graph: Graph) -> None:
        super().__init__()
        self.family, self.graph = family, graph

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.graph.inputs, given, strict=True))
        cond = {name: named.pop(name) for name in self.graph.conditions}
        called = getattr(self.family, self.graph.name)
        out: Tensor = called(*named.values(), cond) if cond else called(*named.values())
        return out


def export_onnx(bundle: Bundle, folder: Path) -> Exported:
    """Write the graphs of a bundle into `folder`, which must be empty or not there.

    Raises `RefusedPair` for a model that has none, `MorphogenError` without the packages that this
    needs, and `BundleError` where a graph computes something else than the bundle.
    """
    _check_packages()
    graphs = graphs_of(bundle)
    check_empty(folder)
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        record = {graph.name: _written(bundle, graph, partial) for graph in graphs}
        write_text(partial / "export.json", json.dumps({"graphs": record}, indent=2) + "\n")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    notes = [
        f"{name}({', '.join(told['inputs'])}): {told['max_difference']:.1e} at most from the "
        f"bundle in onnxruntime" + ("" if told["any_number"] else "; for one item at a time")
        for name, told in record.items()
    ]
    return Exported(str(folder), "ONNX graphs", files, notes)


def graphs_of(bundle: Bundle) -> list[Graph]:
    """The graphs that a model has. Raises `RefusedPair` where there are none."""
    family, spec = bundle.family, bundle.family.spec
    if isinstance(spec, ProductSpec):
        raise RefusedPair("items of several parts have no form in ONNX here", found=str(spec))
    has = [name for name, capability in GRAPHS.items() if not missing(family, capability)]
    if getattr(family, "log_prob_is", "exact") != "exact":  # told as one of many orders has it
        has = [name for name in has if name != "predict_next"]
    has = [name for name in has if name != "features"] or has
    if not has:
        raise RefusedPair(
            "this model has nothing that is a graph",
            found=type(family).__name__,
            expected=f"one that can {', '.join(GRAPHS)}",
        )
    return [_graph(family, name, spec) for name in has]


def _graph(family: Any, name: str, spec: TensorSpec) -> Graph:
    inputs = {"z": family.latent_spec} if name == "decode" else {"x": spec}
    if name == "denoise":
        inputs["t"] = TensorSpec("real", ())
    takes = name in CONDITIONED or (name == "decode" and _takes_conditions(family.decode))
    conditions = tuple(family.conditions) if takes else ()
    inputs |= {each: family.conditions[each] for each in conditions}
    return Graph(name, inputs, conditions, grows=name == "predict_next")


def _takes_conditions(method: Any) -> bool:
    return "cond" in inspect.signature(method).parameters


@torch.no_grad()
def _written(bundle: Bundle, graph: Graph, folder: Path) -> dict[str, Any]:
    """Write one graph and try it -> what to know of it."""
    path, module = folder / f"{graph.name}.onnx", _Module(bundle.family, graph).eval()
    length = max(bundle.family.spec.shape[0] // 2, 1) if graph.grows else 0
    any_number = True
    with _quiet():
        try:
            _export(module, graph, graph.given(MADE_WITH, length, 0), path, any_number)
        except Exception as error:  # of many kinds, where a number of items is taken for fixed
            any_number = False
            try:
                _export(module, graph, graph.given(1, length, 0), path, any_number)
            except Exception:
                raise RefusedPair(
                    f"PyTorch makes no graph of {graph.name}: {str(error).splitlines()[0][:200]}",
                    found=type(bundle.family).__name__,
                ) from error
    other = max(length - 1, 1) if any_number else length
    given = graph.given(TRIED_WITH if any_number else 1, other, 1)
    expected, found = module(*given), _run(path, dict(zip(graph.inputs, given, strict=True)))
    apart = float((expected - found).abs().max())
    most = TOLERANCE * max(float(expected.abs().max()), 1.0)
    if not apart <= most:
        raise BundleError(
            f"onnxruntime makes something else of {graph.name}, so it is not handed out",
            found=f"a difference of {apart:.2g}",
            expected=f"{most:.2g} at most",
        )
    return {
        "inputs": {
            name: _told(spec, any_number, tensor, graph.grows and name == "x")
            for (name, spec), tensor in zip(graph.inputs.items(), given, strict=True)
        },
        "any_number": any_number, "max_difference": apart, "tolerance": most,
    }  # fmt: skip


def _told(spec: TensorSpec, free: bool, given: Tensor, grows: bool) -> str:
    """What an input is, as a person reads it."""
    sizes = ["B" if free else 1, *given.shape[1:]]
    if grows and free:
        sizes[1] = "N"
    return f"{'int64' if spec.kind == 'token' else 'float32'} {' x '.join(map(str, sizes))}"


def _export(
    module: nn.Module, graph: Graph, given: tuple[Tensor, ...], path: Path, any_number: bool
) -> None:
    free = torch.export.Dim.DYNAMIC
    axes: Any = [{0: free} if any_number else {} for _ in given]
    if graph.grows and any_number:
        axes[0][1] = free
    # The graph is traced before the exporter sees it: by itself, that goes on with fixed sizes.
    traced = torch.export.export(module, given, dynamic_shapes=(tuple(axes),), strict=False)
    torch.onnx.export(
        traced, (), path, dynamo=True, external_data=False, verbose=False,
        input_names=list(graph.inputs), output_names=["y"],
    )  # fmt: skip


def _run(path: Path, given: dict[str, Tensor]) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = {each.name: given[each.name].numpy() for each in session.get_inputs()}
    return torch.from_numpy(session.run(None, named)[0])


def _check_packages() -> None:
    for name in PACKAGES:
        extra(name, "onnx", "ONNX is written")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
