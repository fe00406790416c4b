"""From data and a recipe to a bundle: what `morphogen train` and `mg.train` do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, TrainingError
from morphogen.core.recipe import Recipe
from morphogen.data.dataset import Data, load
from morphogen.training import chain
from morphogen.training.chain import Chain, in_latents
from morphogen.training.session import OnLog, Session


def train(
    data: Data | Path | str | None,
    family: str | None = None,
    *,
    recipe: Recipe | Path | str | None = None,
    settings: Iterable[str] = (),
    backbone: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    through: Bundle | Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    on_log: OnLog | None = None,
) -> Bundle:
    """Train a family, or a chain of them such as "vq_vae+autoregressive" (see `training.chain`), on
    data and return the bundle, which is also written to `out`.

    `through` is a trained bundle whose latents are learned in place of the data (latent diffusion,
    VQ + transformer). With `resume`, the run in `out` goes on where its last checkpoint stands, and
    data and recipe default to its own. Ctrl-C ends the training early with a usable bundle and a
    checkpoint to resume from.

    Raises `MorphogenError`s that say what to type next.
    """
    stages = sessions(
        data, family, recipe=recipe, settings=settings, backbone=backbone, budget=budget,
        seed=seed, through=through, out=out, resume=resume,
    )  # fmt: skip
    return [session.train(on_log or (lambda log: None)) for session in stages][-1]


def prepare(data: Data | Path | str | None, family: str | None = None, **arguments: Any) -> Session:
    """All that comes before the first step of `train`, with the same arguments."""
    return next(sessions(data, family, **arguments))


def sessions(
    data: Data | Path | str | None,
    family: str | None = None,
    *,
    recipe: Recipe | Path | str | None = None,
    settings: Iterable[str] = (),
    backbone: str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    through: Bundle | Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
) -> Iterator[Session]:
    """What `train` runs, with the same arguments: one session, or one for each stage of a chain,
    prepared when the one before is over."""
    begun = Chain.of(_existing(out)) if resume else None
    if resume and begun is None:
        yield Session.resumed(data, _existing(out))
        return
    if begun is not None:
        wanted, data, through = begun.recipe, data or begun.source, through or begun.through
    else:
        wanted = recipe if isinstance(recipe, Recipe) else _read(recipe)
        wanted = _with_arguments(wanted, family, backbone, budget, seed).with_settings(settings)
    if data is None:
        raise TrainingError("there is no data to train on", hint="morphogen train photos/")
    bundle = through if isinstance(through, Bundle) or through is None else Bundle.open(through)
    suits = chain.suits_model(bundle) if bundle else chain.suits(wanted)
    loaded = data if isinstance(data, Data) else load(data, **wanted.reading, suits=suits)
    if view := isinstance(data, Data) and wanted.reading.get("view"):
        loaded = loaded.in_view(view)
    elif isinstance(data, Data):
        loaded = loaded.suited(suits)
    source = loaded.about()["source"]
    if bundle is not None:
        loaded = in_latents(loaded, bundle)
    folder = _existing(out) if resume else _new_folder(out, wanted)
    asked = Chain(wanted, source, str(bundle.path) if bundle and bundle.path else None)
    yield from chain.sessions(loaded, asked, folder, resume=resume)


def _read(recipe: Path | str | None) -> Recipe:
    return Recipe() if recipe is None else Recipe.read(recipe)


def _with_arguments(
    recipe: Recipe, family: str | None, backbone: str | None, budget: str | None, seed: int | None
) -> Recipe:
    tables = recipe.to_json()
    given = {
        ("family", "name"): family,
        ("backbone", "name"): backbone,
        ("train", "budget"): budget,
        ("train", "seed"): seed,
    }
    for (table, key), value in given.items():
        if value is not None:
            tables[table][key] = value
    return Recipe(**tables)


def _existing(out: Path | str | None) -> Path:
    if out is None:
        raise BundleError("which run is to be resumed?", hint="--out models/boots --resume")
    return Path(out)


def _new_folder(out: Path | str | None, recipe: Recipe) -> Path:
    """The folder to write to: never one that already holds a run."""
    if out is None:
        base, number = recipe.family.get("name", "flow_matching"), 1
        while Path("models", f"{base}-{number}").exists():
            number += 1
        return Path("models", f"{base}-{number}")
    out = Path(out)
    if (out / "config.json").exists() or chain.has_begun(out):
        raise TrainingError(
            "the folder already holds a run, which is not overwritten",
            where=out,
            hint=f"--resume to go on with it, or another --out, such as {out}-2",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(
            f"cannot write to the folder: {error.strerror}",
            where=out,
            hint="choose a folder that you may write to with --out",
        ) from error
    return out
