"""A trained model as a folder that rebuilds itself.

    config.json          format, spec, conditions, resolved recipe, codec, data, hashes of the files
    model.safetensors    the weights (the averaged ones, where training averaged); of an adapter,
                         its own alone: those of its base lie where [start] of the recipe says;
                         quantised ones (`wrappers.int8`) as they are
    codec.safetensors    the codec's own weights, when it has any (latent codecs)
    schedule.safetensors what each step added to the progress, where the budget was a time
    metrics.json  samples/  log.jsonl  README.md

No pickle, no code. A bundle from a stranger is safe to open: names in it are looked up among the
installed components, and dotted paths are refused unless the caller says `trust=True`, which
vouches for all of them (see `core.discover`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import morphogen
from morphogen.core import discover
from morphogen.core.adapter import merged
from morphogen.core.capability import why_not
from morphogen.core.codec import Codec, Item
from morphogen.core.codec_storage import codec_tensors, without_conditions
from morphogen.core.conditioning import absent, check_conditions
from morphogen.core.config import (
    check_priors,
    describe,
    load_weights,
    read_config,
    read_metrics,
    read_unchanged,
    rebuild,
)
from morphogen.core.device import usable_device
from morphogen.core.encoded import moved, rows
from morphogen.core.errors import BundleError, RecipeError, RefusedPair
from morphogen.core.family import Family, drawing_state
from morphogen.core.folder import CODEC, FORMAT, MODEL, SCHEDULE, VERSION
from morphogen.core.following import ChecksAsked
from morphogen.core.inputs import inputs_of, is_encoded, items_of
from morphogen.core.origin import facts_of
from morphogen.core.provenance import Provenance
from morphogen.core.random import generator as new_generator
from morphogen.core.recipe import Recipe, build_family, is_on_base
from morphogen.core.result import Result
from morphogen.core.schema import check_options
from morphogen.core.spec import TensorSpec
from morphogen.core.start import checked_base
from morphogen.core.storage import expanded, sha256, write_tensors, write_text
from morphogen.core.visible import in_shell
from morphogen.core.writing import Marking

LEAST_SHARE = 1e-4  # of items without a class, to be drawn without one
SAMPLE_BATCH = 250  # items generated at once: a batch that fits small machines and fills large ones


@dataclass
class Bundle:
    """A family with its weights, the codec of its data, and the record of how it came to be."""

    family: Family
    codec: Codec
    recipe: Recipe
    data: dict[str, Any] = field(default_factory=dict)  # digest, counts, source
    # label -> class frequencies; number -> quantiles of it, encoded
    priors: dict[str, list[float]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    run: dict[str, Any] = field(default_factory=dict)  # how it was trained: steps, environments
    increments: Tensor | None = None  # (steps,) of the progress, where the budget was a time
    origin: dict[str, Any] = field(default_factory=dict)  # of weights that others made
    provenance: Provenance | None = None  # what is left in and beside what it makes
    judge: Bundle | None = None  # of pairs: says which of several draws is the best

    # -- disk ------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> Path:
        """Write the bundle; config.json goes last, so that a folder with one is complete."""
        path = expanded(path)
        if path.exists() and not path.is_dir():
            raise BundleError(
                "a bundle is a folder, and a file is called so", where=path, hint=f"{path}-bundle"
            )
        (path / "config.json").unlink(missing_ok=True)  # of the bundle that this one replaces
        write_tensors(path / MODEL, drawing_state(self.family))
        files = {MODEL: sha256(path / MODEL)}
        # What its training alone asked for is not read again, nor are the items by it.
        with without_conditions(self.codec, self.family.unheard):
            about = describe(self.family, self.codec, self.recipe)
            tensors = codec_tensors(self.codec)
        if tensors:
            write_tensors(path / CODEC, tensors)
            files[CODEC] = sha256(path / CODEC)
        if self.increments is not None:
            schedule = write_tensors(path / SCHEDULE, {"increments": self.increments})
            files[SCHEDULE] = sha256(schedule)
        write_text(path / "metrics.json", json.dumps(self.metrics, indent=2) + "\n")
        config = {
            "format": FORMAT,
            "version": VERSION,
            "written_by": morphogen.__version__,
            **about,
            "data": self.data,
            "priors": self.priors,
            "run": self.run,
            **({"origin": self.origin} if self.origin else {}),
            "files": files,
        }
        write_text(path / "config.json", json.dumps(config, indent=2) + "\n")
        self.path = path
        return path

    @classmethod
    def open(cls, path: Path | str, *, trust: bool = False, device: str = "cpu") -> Bundle:
        """Rebuild a bundle from its folder; an adapter's, on the base that it says.

        Raises `BundleError` when a file is missing, was changed, or is of a newer version, and
        `RecipeError` for a `device` that is not there.
        """
        path, place = expanded(path), usable_device(device)
        config = read_config(path)
        if trust:
            discover.vouch(config)
        tensors = {
            name: read_unchanged(path / name, config["files"][name])
            for name in (MODEL, CODEC, SCHEDULE)
            if name in config["files"]
        }
        family, codec, recipe = cls.rebuilt(
            config, tensors.get(CODEC, {}), tensors[MODEL], path, trust=trust
        )
        family.to(place).eval()
        check_priors(config["priors"], family.conditions)
        increments = tensors.get(SCHEDULE, {}).get("increments")
        metrics = read_metrics(path)
        return cls(
            family, codec, recipe, config["data"], config["priors"], metrics=metrics, path=path,
            run=config.get("run", {}), increments=increments, origin=config.get("origin", {}),
        )  # fmt: skip

    @classmethod
    def rebuilt(
        cls,
        about: Mapping[str, Any],
        codec: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        path: Path,
        *,
        trust: bool = False,
    ) -> tuple[Family, Codec, Recipe]:
        """The parts of a bundle or checkpoint in the folder `path`, as it is described, with its
        weights; an adapter on its base, merged.

        Raises `BundleError` where they do not fit, or the base is not there or another one.
        """
        if not is_on_base(about["recipe"]):
            family, reader, recipe = rebuild(about, codec, weights, path)
        else:
            at = checked_base(about["recipe"].get("start", {}), path)
            base = cls.open(at, trust=trust).whole()
            own = base.family.state_dict()
            family, reader, recipe = rebuild(about, codec, own, path)
            family.load_state_dict(own)
        load_weights(family, recipe, weights, path / MODEL)
        return family, reader, recipe

    def whole(self) -> Bundle:
        """The same model with plain weights of its own: the adapter in those of its base."""
        if self.family.adapter is None:
            return self
        own_options = getattr(self.family.adapter, "in_network", {})
        recipe = replace(self.recipe, wrapper={}, backbone={**self.recipe.backbone, **own_options})
        spec, conditions = self.family.spec, self.family.conditions
        with torch.random.fork_rng(devices=[]):
            plain = build_family(recipe, spec, conditions)
        with merged(self.family):
            own = self.family.state_dict()
            plain.load_state_dict({name: own[name].clone() for name in plain.state_dict()})
        return replace(self, family=plain.eval(), recipe=recipe, path=None)

    # -- work ------------------------------------------------------------------------------------

    def sample(
        self,
        num: int = 16,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """Draw `num` new items. Conditions not given are drawn as often as the data has them."""
        return self.task("generate", seed=seed, cond=cond, num=num, **options)

    def sample_parts(
        self,
        num: int,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[Result]:
        """The items of `sample`, drawn in parts of `SAMPLE_BATCH`, of which none is kept."""
        draw = new_generator(seed)
        num = check_options(discover.find("task", "generate"), {"num": num}, "generate")["num"]
        drawn = self.conditions(num, {} if cond is None else cond, draw, drawn=True)
        for start in range(0, num, SAMPLE_BATCH):
            part = slice(start, min(start + SAMPLE_BATCH, num))
            share = {name: rows(value, part) for name, value in drawn.items()}
            yield self.task("generate", seed=draw, cond=share, num=part.stop - start, **options)

    def task(
        self,
        name: str,
        *inputs: Any,
        seed: int | torch.Generator = 0,
        cond: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """Run a task on inputs: items, paths that the codec reads, or a tensor (N, *shape).

        Raises `RefusedPair` when the model lacks what the task needs, naming what that is.
        """
        discover.vouch([name, options])  # the caller's own words
        check_conditions(cond, self.family.conditions)
        run = discover.find("task", name)
        if reason := why_not(self.family, run):
            raise RefusedPair(
                f"the task {name!r} does not apply to this model: it {reason}",
                found=type(self.family).__name__,
                hint=f"morphogen tasks {in_shell(self.path or 'BUNDLE')}",
            )
        arguments = check_options(run, options, name)
        parameters = inspect.signature(run).parameters
        given = inputs_of(
            self.codec, self.family.spec, name, parameters, inputs, where=self.path, given=arguments
        )
        draw = seed if isinstance(seed, torch.Generator) else new_generator(seed)
        num = int(arguments.get("num", 16)) if given.num is None else given.num
        came = {key: value for key, value in given.cond.items() if key in self.family.conditions}
        said = {**came, **(cond or {})}
        arguments["cond"] = self.conditions(num, said, draw, drawn=not inputs)
        device = self.family.device
        arguments |= given.arguments
        for key, value in arguments.items():
            if isinstance(value, Tensor) or key == "x":
                arguments[key] = moved(value, device)
            elif key == "sequences":
                arguments[key] = [row.to(device) for row in value]
        arguments["cond"] = {key: value.to(device) for key, value in arguments["cond"].items()}
        if "codec" in parameters:
            arguments["codec"] = self.codec
        if "marking" in parameters:
            arguments["marking"] = self.marking
        if "judge" in parameters:
            arguments["judge"] = self.judge
        with torch.no_grad():
            result: Result = run(self.family, generator=draw, **arguments)
        result.codec, result.inputs = self.codec, given.arguments.get("x")
        where = self.path.resolve().name if self.path else "in memory"
        model = f"{discover.name_of(type(self.family))} {where}"
        result.made_by = f"{model}, {name}, seed {draw.initial_seed()}"
        if self.provenance is not None:
            result.provenance = self.provenance
            result.about = facts_of(self, name, draw.initial_seed())
            result.sources = [Path(each) for each in inputs if isinstance(each, (str, Path))]
        self._name_classes(result)
        return result

    @property
    def marking(self) -> Marking | None:
        """What marks texts while they are drawn, where that was asked for."""
        return None if self.provenance is None else self.provenance.marking

    def _name_classes(self, result: Result) -> None:
        """Put class names in place of class indices, and numbers in their own unit."""
        for name, values in result.values.items():
            reader = self.codec.condition_codecs.get(name)
            if reader is None or not isinstance(values, list):
                continue
            known = self.codec.class_names(name)
            if known and all(isinstance(value, int) for value in values):
                result.values[name] = [known[each] if each >= 0 else None for each in values]
            elif not known and reader.spec.kind == "real" and reader.spec.layout == "vector":
                result.values[name] = [reader.decode(torch.tensor(value)) for value in values]

    def tasks(self) -> dict[str, str | None]:
        """Every task: None when it applies to this model, else the reason why it does not."""
        return {
            name: why_not(self.family, discover.find("task", name))
            for name in discover.names("task")
        }

    def encode(self, *inputs: Any) -> Any:
        """Items, paths or a ready tensor, or dict of tensors, -> (N, *shape)."""
        if is_encoded(inputs):
            self.family.spec.check(inputs[0], "input")
            return inputs[0]
        return self.codec.encode_many(self.items(*inputs))

    def items(self, *inputs: Any) -> list[Item]:
        """What a task's inputs stand for: items as they are, raw values, and paths to read."""
        return items_of(self.codec, inputs)

    def conditions(
        self, num: int, given: Mapping[str, Any], draw: torch.Generator, *, drawn: bool
    ) -> dict[str, Tensor]:
        """Encode the conditions given by name, one value for all or a list of `num`, and draw those
        that were not (if `drawn`) as the training items have them."""
        known = self.family.conditions
        check_conditions(given, known)
        cond = {name: self._condition(name, value, num) for name, value in given.items()}
        for name, prior in self.priors.items():
            if drawn and prior and name not in cond and name in known:
                cond[name] = _drawn(prior, known[name], num, draw)
        return cond

    def _condition(self, name: str, value: Any, num: int) -> Tensor:
        """A condition as given -> (num, *shape). What is one value, and what a list of them, only
        the condition's codec knows."""
        spec = self.family.conditions[name]
        reader = self.codec.condition_codecs.get(name)
        if isinstance(value, Tensor):
            rows = value if value.dim() > len(spec.shape) else value[None]
            spec.check(rows, f"condition {name!r}")
            if spec.kind == "token" and rows.is_floating_point():
                raise RecipeError(
                    f"{name!r} takes classes by their number", found=str(rows.dtype),
                    expected="whole numbers", hint=f"cond={{{name!r}: tensor.long()}}",
                )  # fmt: skip
        elif reader is None or reader.is_one(value):
            rows = self._encode_condition(name, value)[None]
        elif len(value):
            rows = torch.stack([self._encode_condition(name, each) for each in value])
        else:
            rows = absent(spec)[None][:0]
        if len(rows) not in {1, num}:
            raise RecipeError(
                f"there are not as many values of {name!r} as items",
                found=f"{len(rows)} values for {num} items",
                expected=f"one value for all, or {num}",
            )
        return rows if len(rows) == num else rows.expand(num, *spec.shape).clone()

    def _encode_condition(self, name: str, value: Any) -> Tensor:
        if value is None or (isinstance(value, str) and not value.strip()):  # nothing is said
            return absent(self.family.conditions[name])
        reader = self.codec.condition_codecs.get(name)
        if isinstance(value, str) and reader is not None:
            value = reader.parse(value)
        if isinstance(reader, ChecksAsked):
            reader.check_asked(value)
        return self.codec.encode_condition(name, value)


def _drawn(prior: list[float], spec: TensorSpec, num: int, draw: torch.Generator) -> Tensor:
    """Classes as often as in `prior`, whose sum falls short by the part that has none; numbers
    between its quantiles."""
    weights = torch.tensor(prior)
    if spec.kind == "token":
        left = 1 - float(weights.double().sum())
        if left > LEAST_SHARE:  # of items without a class
            weights = torch.cat([weights, weights.new_tensor([left])])
        label = torch.multinomial(weights, num, replacement=True, generator=draw)
        return torch.where(label < len(prior), label, -1)
    place = torch.rand(num, generator=draw) * (len(prior) - 1)
    below = place.long().clamp(max=max(len(prior) - 2, 0))
    above = (below + 1).clamp(max=len(prior) - 1)
    return torch.lerp(weights[below], weights[above], place - below)[:, None]
