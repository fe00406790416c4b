"""From data and a recipe to a bundle: what `morphogen train` and `mg.train` do."""

from __future__ import annotations

import reprlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, RecipeError, TrainingError
from morphogen.core.family import weights_digest
from morphogen.core.recipe import Recipe
from morphogen.core.storage import expanded
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data, load
from morphogen.data.places import bundle_at, place_of, remember, remember_bundle
from morphogen.sources import kept_surveys
from morphogen.training import adapting, chain, pursuing
from morphogen.training.aside import Aside
from morphogen.training.chain import Chain
from morphogen.training.checkpoint import clear_leftovers, nothing_to_resume
from morphogen.training.choice import noting, with_usual_family
from morphogen.training.distributed import Processes
from morphogen.training.hold import hold
from morphogen.training.resume import check_through, gone_on_with, model_of
from morphogen.training.session import OnLog, Session
from morphogen.training.through import around, in_latents, suits_model


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
    start: Path | str | None = None,
    adapter: str | None = None,
    objective: str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    trust: bool = False,
    on_log: OnLog | None = None,
) -> Bundle:
    """Train a family, or a chain of them such as "vq_vae+autoregressive" (see `training.chain`), on
    data and return the bundle, which is also written to `out`. Where neither `family` nor the
    recipe names one, it is that which such data is usually learned with (see `training.choice`).

    `through` is a trained bundle whose latents are learned in place of the data (latent diffusion,
    VQ + transformer), or what it sees in the items, where it decodes none (see `training.through`).
    `start` is one whose weights training begins with: all of them are trained, or the `adapter`
    alone (see `training.adapting`), on the data, or towards an `objective` (see
    `training.pursuing`). With `resume`, the run in `out` goes on where its last checkpoint stands,
    and data and recipe default to its own. Ctrl-C ends the training early with a usable bundle and
    a checkpoint to resume from. Components that the files named here (`recipe`, `through`, `start`,
    the run that goes on) call by a dotted path are imported only with `trust`.

    Raises `MorphogenError`s that say what to type next.
    """
    stages = sessions(
        data, family, recipe=recipe, settings=settings, backbone=backbone, budget=budget,
        seed=seed, through=through, start=start, adapter=adapter, objective=objective, out=out,
        resume=resume, trust=trust,
    )  # fmt: skip
    if on_log is not None and not callable(on_log):
        raise TrainingError(
            "logs are given to a function", found=f"on_log={reprlib.repr(on_log)}",
            hint="on_log=lambda log: print(log.step, log.values)",
        )  # fmt: skip
    with closing(stages):  # lets go of the folder, whatever happens
        return [session.train(on_log or (lambda log: None)) for session in stages][-1]


def prepare(data: Data | Path | str | None, family: str | None = None, **arguments: Any) -> Session:
    """All that comes before the first step of `train`, with the same arguments."""
    with closing(sessions(data, family, **arguments)) as stages:
        return next(stages)


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
    start: Path | str | None = None,
    adapter: str | None = None,
    objective: str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    dry: bool = False,
    trust: bool = False,
) -> Generator[Session]:
    """What `train` runs, with the same arguments: one session, or one for each stage of a chain,
    prepared when the one before is over. The folder is held (see `training.hold`) until the last.
    With `dry`, nothing is written: for forecasts.
    """
    settings = _listed(settings)
    typed = [setting.partition("=")[2] for setting in settings]
    discover.vouch([family, backbone, adapter, objective, typed])
    wanted = recipe if isinstance(recipe, Recipe) else _read(recipe)
    if trust:
        discover.vouch(wanted.to_json())
    given = {
        ("family", "name"): family, ("backbone", "name"): backbone, ("train", "budget"): budget,
        ("train", "seed"): seed, ("start", "from"): start and str(expanded(start)),
        ("wrapper", "name"): adapter, ("objective", "name"): objective,
    }  # fmt: skip
    wanted = _with_arguments(wanted, given).with_settings(settings)
    if resume:
        folder = _existing(out)
        with hold(folder):
            clear_leftovers(folder)
            yield from _resumed(data, wanted, through, folder, trust=trust)
        return
    if data is None:
        raise TrainingError("there is no data to train on", hint="morphogen train photos/")
    pursuing.check_start(wanted)
    if "from" in wanted.start:
        yield from _adapting(data, wanted, through, out, dry=dry, trust=trust)
        return
    if wanted.wrapper:
        raise TrainingError(
            "an adapter is put on a trained model, and none is named",
            found=f"--adapter {wanted.wrapper.get('name', 'lora')}",
            hint="--from models/base",
        )
    bundle = None if through is None else _opened(through, trust)
    with ExitStack() as held:
        with kept_surveys():
            if "name" not in wanted.family and not isinstance(data, (Data, Path, str)):
                data = load(data, **wanted.reading)  # in memory: what it is shows when it is read
            wanted, told = with_usual_family(wanted, data, bundle)
            place = expanded(out) if out else _next_folder(wanted)
            folder = held.enter_context(nullcontext(place) if dry else _new(place))
            loaded, about = _loaded(data, wanted, bundle)
        kept = remember_bundle(bundle.path) if bundle and bundle.path else None
        asked = Chain(wanted, about, kept, weights_digest(bundle.family) if bundle else None)
        yield from chain.sessions(noting(loaded, told), asked, folder, dry=dry, trust=trust)


def _adapting(
    data: Data | Path | str,
    wanted: Recipe,
    through: Bundle | Path | str | None,
    out: Path | str | None,
    *,
    dry: bool,
    trust: bool,
) -> Iterator[Session]:
    """The session that begins with a trained bundle."""
    if through is not None:
        raise TrainingError(
            "what starts from a bundle learns what that learned", found="--from and --through",
            hint="leave --through out: a model of latents brings its codec",
        )  # fmt: skip
    aside = Aside()
    with aside.doing("opening the base"):
        base = adapting.opened(wanted, trust)
    wanted = adapting.with_base(wanted, base)
    with ExitStack() as held:
        place = expanded(out) if out else _next_folder(wanted)
        folder = held.enter_context(nullcontext(place) if dry else _new(place))
        loaded = data
        if not isinstance(data, Data):
            reading = {k: v for k, v in wanted.reading.items() if k in adapting.READING}
            reading.pop("modality", None)
            with aside.doing("reading"), kept_surveys():
                loaded = load(data, codec=adapting.codec_on(base, data, wanted), **reading)
        assert isinstance(loaded, Data)
        remember(loaded.source, loaded.digest, loaded.files)
        session = Session.started(pursuing.laid_out(loaded, wanted), wanted, folder, base)
        session.aside = aside
        yield session


def _resumed(
    data: Data | Path | str | None,
    given: Recipe,
    through: Bundle | Path | str | None,
    folder: Path,
    *,
    trust: bool,
) -> Iterator[Session]:
    """The sessions that are left of the run in `folder`, which nothing `given` may change."""
    begun, at = Chain.of(folder), f"--resume --out {in_shell(folder)}"
    if begun is None:
        bundle = None if through is None else _opened(through, trust)
        session = Session.resumed(data, folder, given, trust=trust)
        if bundle is not None:  # the checkpoint holds the model that it was begun with
            known, without = model_of(session.data.codec), f"morphogen train {at}"
            check_through(known, bundle, folder, without)
        yield session
        return
    wanted = gone_on_with(begun.recipe, given, folder)
    if trust:
        discover.vouch(wanted.to_json())
    if through is None and (begun.through or begun.model):
        through = bundle_at(begun.through or "", f"morphogen train DATA {at} --through BUNDLE")
    bundle = None if through is None else _opened(through, trust)
    if bundle is not None and (begun.model or not begun.through):  # else of a time without digests
        again = f"the bundle as it was, or begin anew with another --out, such as {folder}-2"
        check_through(begun.model, bundle, folder, again)
    source = place_of(begun.data, f"morphogen train DATA {at}") if data is None else data
    loaded, _ = _loaded(source, wanted, bundle)
    asked = replace(begun, recipe=wanted)
    yield from chain.sessions(loaded, asked, folder, resume=True, trust=trust)


def _opened(through: Bundle | Path | str, trust: bool) -> Bundle:
    """A bundle to learn through. Raises `MorphogenError` before any data is read where there is
    none, or nothing can be learned through it."""
    bundle = through if isinstance(through, Bundle) else Bundle.open(through, trust=trust)
    around(bundle)
    return bundle


def _loaded(
    data: Data | Path | str, wanted: Recipe, bundle: Bundle | None
) -> tuple[Data, dict[str, Any]]:
    """The data in the view that suits the family, or as the latents of `bundle`; and what a chain
    notes of it."""
    suits = suits_model(bundle) if bundle else chain.suits(wanted)
    loaded = data if isinstance(data, Data) else load(data, **wanted.reading, suits=suits)
    if view := isinstance(data, Data) and wanted.reading.get("view"):
        loaded = loaded.in_view(view)
    elif isinstance(data, Data):
        loaded = loaded.suited(suits)
    remember(loaded.source, loaded.digest, loaded.files)
    about = {name: loaded.about()[name] for name in ("source", "digest")}
    return (in_latents(loaded, bundle, wanted.family) if bundle is not None else loaded), about


def _read(recipe: Path | str | None) -> Recipe:
    return Recipe() if recipe is None else Recipe.read(recipe)


def _listed(settings: Iterable[str]) -> list[str]:
    """Settings as they were given. Raises `RecipeError` for anything but texts in a row."""
    if not isinstance(settings, (str, Mapping)) and isinstance(settings, Iterable):
        settings = list(settings)
        if all(isinstance(each, str) for each in settings):
            return settings
    raise RecipeError(
        "settings are a list of texts",
        found=f"{type(settings).__name__}: {reprlib.repr(settings)}",
        hint='settings=["train.batch_size=64", "backbone.num_layers=4"]',
    )


def _with_arguments(recipe: Recipe, given: Mapping[tuple[str, str], Any]) -> Recipe:
    tables = recipe.to_json()
    for (table, key), value in given.items():
        if value is not None:
            tables[table][key] = value
    return Recipe(**tables)


def _existing(out: Path | str | None) -> Path:
    if out is None:
        raise BundleError("which run is to be resumed?", hint="--out models/boots --resume")
    if not (folder := expanded(out)).is_dir():
        raise nothing_to_resume(folder)
    return folder


def _next_folder(recipe: Recipe) -> Path:
    """Where a run goes that was given no folder: the same for all processes."""
    base, number = recipe.family_name, 1
    while Path("models", f"{base}-{number}").exists():
        number += 1
    (agreed,) = Processes.join().agree(number)
    return Path("models", f"{base}-{agreed:.0f}")


@contextmanager
def _new(folder: Path) -> Iterator[Path]:
    """The folder to write to, held: never one that already holds a run. One that was made for a run
    that is refused is taken away. Of several processes the first sees to it."""
    if not Processes.join().is_first:
        yield folder
        return
    is_new = not folder.exists()
    try:
        with hold(folder):
            if (folder / "config.json").exists() or chain.has_begun(folder):
                raise TrainingError(
                    "the folder already holds a run, which is not overwritten",
                    where=folder,
                    hint=f"--resume to go on with it, or another --out, such as {folder}-2",
                )
            clear_leftovers(folder)
            yield folder
    finally:
        if is_new:
            with suppress(OSError):  # it holds something
                folder.rmdir()
