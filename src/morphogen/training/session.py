"""One training run with its folder: checkpoints, previews, the log, the bundle at the end.

OUT/log.jsonl  curves.png  samples/  checkpoint/     while it trains
OUT/config.json  model.safetensors ...               the bundle, when it ends or is stopped
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from morphogen.core import discover
from morphogen.core.adapter import merged
from morphogen.core.amounts import size
from morphogen.core.border import reading
from morphogen.core.bundle import Bundle
from morphogen.core.codec_storage import codec_tensors
from morphogen.core.config import describe, read_log
from morphogen.core.errors import TrainingError
from morphogen.core.family import Family
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.core.storage import below, write_text
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data, load
from morphogen.data.differences import compare
from morphogen.data.listing import read_hashes, write_hashes
from morphogen.data.packing import Packed
from morphogen.data.places import files_of, load_options, place_of
from morphogen.data.progress import listening
from morphogen.training import adapting, pursuing
from morphogen.training.aside import Aside
from morphogen.training.beside import MOST, beside, loss, told
from morphogen.training.checkpoint import (
    ALONE,
    clear_leftovers,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from morphogen.training.choice import choices, with_usual_network
from morphogen.training.curves import draw_curves
from morphogen.training.device import (
    choose_device,
    compile_if_it_pays,
    environment,
    recompute_if_asked,
)
from morphogen.training.forecast import Forecast, forecast
from morphogen.training.hold import hold
from morphogen.training.log_file import LogFile
from morphogen.training.loop import Log, Run, Snapshot, train_steps
from morphogen.training.memory import check_batch, check_items, check_network, held_batch
from morphogen.training.options import TrainOptions
from morphogen.training.probe import Probe
from morphogen.training.proof import examples, prove
from morphogen.training.resume import gone_on_with, reading_of
from morphogen.training.sharding import whole
from morphogen.training.sheets import Sheets
from morphogen.training.stopping import stop_on_signals
from morphogen.training.symptoms import UNPAID
from morphogen.training.watch import Watch, numbers_of

OnLog = Callable[[Log], None]


class Session:
    """One run with its folder."""

    def __init__(
        self, family: Family, data: Data, recipe: Recipe, options: TrainOptions, out: Path
    ) -> None:
        self.data, self.recipe, self.out = data, recipe, out
        device = choose_device(options.device)
        objective = pursuing.pursued(recipe, family.to(device), data, out)
        self.run = Run(
            family, data.train, options, device, adapts=bool(recipe.start), objective=objective,
            codec=data.codec,
        )  # fmt: skip
        self.first, self.shared = self.run.processes.is_first, self.run.processes.share_weights
        recompute_if_asked(family, options)
        compile_if_it_pays(family, options, device)
        self.watch, self.probe = Watch.over(family, options, objective), Probe(self.run, data.test)
        self.sheets, self.aside = Sheets(self.run), Aside()
        self.unlogged: dict[str, float] = {}  # measured between two logs
        self.environments: list[dict[str, Any]] = []  # where it has run, and from which step on
        self.origin: dict[str, Any] = {}  # of weights that others made, where it began with such

    @classmethod
    def started(cls, data: Data, recipe: Recipe, out: Path, base: Bundle | None = None) -> Session:
        """A new run; one that begins with the bundle `base`, which is used up."""
        resolved = resolve(with_usual_network(recipe, data.codec, data.spec), data.spec)
        family_class = discover.find("family", resolved.family["name"])
        defaults = family_class.train_defaults_for(data.spec)
        if base is not None:
            defaults = defaults | adapting.train_defaults(resolved, data)
            defaults |= pursuing.train_defaults(resolved, defaults)
            resolved = adapting.started(base, resolved, out)
        options = TrainOptions.resolve(resolved.train, defaults)
        if "batch_size" not in resolved.train:
            fitting = held_batch(options.batch_size, data.spec)
            options = replace(options, batch_size=fitting)
        resolved = replace(resolved, train=options.to_json(), modality=dict(recipe.modality))
        device = choose_device(options.device)
        check_items(data.spec, options, device)
        if not resolved.wrapper:
            check_network(resolved, data.spec, data.conditions, options, device)
        torch.manual_seed(options.seed)
        data = data.unconditional() if options.unconditional else data
        if base is not None:
            family = adapting.adapted(base, resolved, data)
        else:
            family = build_family(resolved, data.spec, data.conditions)
        session = cls(family, data.having(family.required), resolved, options, out)
        session.origin = {} if base is None else dict(base.origin)
        return session

    @classmethod
    def resumed(
        cls, data: Data | Path | str | None, out: Path, given: Recipe, *, trust: bool = False
    ) -> Session:
        """The run whose checkpoint lies in `out`; with `trust`, importing what it names. Raises
        `RecipeError` where `given` asks for other settings than it was begun with."""
        snapshot, about, codec_tensors = read_checkpoint(out)
        if trust:
            discover.vouch(about)
        own = below("model/", snapshot.tensors)
        family, codec, recipe = Bundle.rebuilt(about, codec_tensors, own, out, trust=trust)
        if family.adapter is not None:
            family.adapter.split(family)
        recipe = gone_on_with(recipe, given, out, reading_of(codec, about["data"]))
        if not isinstance(data, Data):
            hint = f"morphogen train DATA --resume --out {in_shell(out)}"
            source = place_of(about["data"], hint) if data is None else data
            data = load(source, codec=codec, **load_options(about["data"]))
        check_unchanged(data, about["data"], out)
        data = pursuing.laid_out(data, recipe)
        options = TrainOptions.resolve(recipe.train, {})
        data = data.unconditional() if options.unconditional else data
        session = cls(family, data.having(family.required), recipe, options, out)
        with reading("the checkpoint", out):
            session.run.restore(snapshot)
        session.environments = about.get("run", {}).get("environments", [])
        session.origin = about.get("origin", {})
        return session

    # -- training --------------------------------------------------------------------------------

    def forecast(self) -> Forecast:
        """Measure a few steps; raise `TrainingError` when memory or disk cannot hold the run."""
        if self.run.state.step == 0:
            self.run.prepare()
        check_batch(self.run)
        needs = forecast(self.run)
        place = next(path for path in (self.out, *self.out.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if needs.disk_bytes > free:
            raise TrainingError(
                "there is not enough disk space for this run",
                found=f"{size(free)} free",
                expected=f"{size(needs.disk_bytes)}",
                where=self.out,
                hint="free some space, or choose another folder with --out",
            )
        return needs

    def train(self, on_log: OnLog) -> Bundle:
        """Run to the end of the budget, or to Ctrl-C."""
        with hold(self.out):
            clear_leftovers(self.out)
            return self._train_held(on_log)

    def _train_held(self, on_log: OnLog) -> Bundle:
        self._note_environment()
        log_file = LogFile(self.out / "log.jsonl", self.run.state.step) if self.first else None

        def tell(log: Log) -> None:
            if self.first:
                assert log_file is not None
                log_file.append(log)
                on_log(log)
                for alarm in self.watch.see(log):
                    tell(replace(self._event(alarm.text()), alarm=alarm.to_json()))
                    for shown in self._drawn() if alarm.kind == UNPAID else ():
                        tell(self._event(shown))

        with listening(lambda progress: on_log(replace(self._event(None), doing=progress))):
            if self.run.state.step == 0:
                self._begin(tell)
            else:
                if self.first:
                    self._replay()
                tell(self._event(f"resumed at step {self.run.state.step}"))
            with stop_on_signals(self.run):
                self._train(tell)
            if self.run.is_stopped:
                self._checkpoint(self.run.snapshot())
            bundle = self._finish(tell)
        if (spent := self.aside.text()) is not None:
            tell(self._event(spent))
        if self.run.is_stopped:
            tell(self._event(f"stopped: a usable bundle is in {self.out}; go on with --resume"))
        elif self.first:
            remove_checkpoints(self.out)
            tell(self._event(f"bundle written to {self.out}"))
        return bundle

    def _begin(self, tell: OnLog) -> None:
        """What is told, proved and measured before the first step."""
        for chosen in choices(self.data):
            tell(self._event(chosen))
        if self.recipe.start:
            tell(self._event(adapting.told(self.run.family)))
        for shown in examples(self.data):
            tell(self._event(shown))
        with self.aside.doing("proof"):
            if (proved := prove(self.run.family, self.data)) is not None:
                tell(self._event(proved))
        with self.aside.doing("forecast"):
            needs = self.forecast()
        tell(self._event(needs.text()))
        if self.run.schedule.num_steps is None:
            self.probe.expect(needs.num_steps)
        if self.first:
            write_hashes(self.out, self.data.files)

    def _train(self, tell: OnLog) -> None:
        """Pass the logs on; put each snapshot to use (checkpoint, preview)."""
        options, last_checkpoint = self.run.options, -float("inf")
        self.sheets.is_due()  # of points that were passed before the run was interrupted
        for log in train_steps(self.run):
            if self.first or self.shared:
                log.values |= self.unlogged | self.probe.measure(log)
                self.unlogged = {}
            tell(log)
            if log.snapshot is None:
                continue
            (waited,) = self.run.processes.agree(time.monotonic() - last_checkpoint)
            if waited >= options.checkpoint_every:
                self._checkpoint(log.snapshot)
                last_checkpoint = time.monotonic()
            if self.sheets.is_due():
                picture = None if self.sheets.is_last else self._preview()
                if picture is not None:
                    tell(self._event(f"samples in {picture}"))
                for shown in self._drawn():
                    tell(self._event(shown))

    def _drawn(self) -> list[str]:
        """What was drawn last towards an objective, for people."""
        return self.run.objective.shown() if self.run.objective else []

    def _checkpoint(self, snapshot: Snapshot) -> None:
        if self.first or self.shared:
            about, codec = self._about(), codec_tensors(self.data.codec)
            together = self.run.processes if self.shared else ALONE
            write_checkpoint(self.out, snapshot, about, codec, together)

    def _about(self) -> dict[str, Any]:
        return {
            **describe(self.run.family, self.data.codec, self.recipe, trains=True),
            "data": self.data.about(),
            "run": self._record(),
            **({"origin": self.origin} if self.origin else {}),
        }

    def bundle(self) -> Bundle:
        """The family as it is now, in memory; where weights are shared out, all have to ask."""
        return Bundle(
            self._whole_family() if self.shared else self.run.family,
            self.data.codec, self.recipe, self.data.about(), self.data.priors,
            run=self._record(), increments=self.run.schedule.record(), origin=self.origin,
        )  # fmt: skip

    def _whole_family(self) -> Family:
        """A copy of the family that has all of its weights."""
        shared = self.run.family
        with torch.random.fork_rng(devices=[]):
            copy = build_family(self.recipe, shared.spec, shared.built_for)
        copy.load_state_dict({name: whole(each) for name, each in shared.state_dict().items()})
        return copy.to(self.run.device).eval()

    def _record(self) -> dict[str, Any]:
        """What repeating this run takes besides the recipe, the data and the schedule."""
        state = self.run.state
        return {
            "steps": state.step,
            "seconds": round(state.seconds, 3),
            "rolled_back": state.rolled_back,
            **({"kept_step": self.run.best.step} if self.run.best is not None else {}),
            "environments": self.environments,
        }

    def _note_environment(self) -> None:
        """Record where the run goes on, if that is not where it was."""
        now = environment(self.run.device, self.run.processes.world_size)
        if not self.environments or now.items() - self.environments[-1].items():
            self.environments = [*self.environments, {"from_step": self.run.state.step, **now}]

    def _preview(self) -> Path | None:
        """A sheet of samples from the averaged weights; None for families that do not sample."""
        if not (self.first or self.shared):
            return None
        with self.run.averaged(), merged(self.run.family):
            bundle = self.bundle()
            return self._sheet(bundle, f"{self.run.state.step:06d}") if self.first else None

    def _sheet(self, bundle: Bundle, name: str) -> Path | None:
        if (samples := self.sheets.drawn(bundle)) is None:
            return None
        if samples.x is not None and (found := self.probe.sample_diversity(samples.x)) is not None:
            self.unlogged["sample_diversity"] = found
        return samples.save(self.out / "samples" / f"{name}{self.data.codec.suffix}")

    def _finish(self, tell: OnLog) -> Bundle:
        """Settle the family and write the bundle, its curves and last samples."""
        if self.run.best is not None and self.run.best.weights:
            tell(self._event(self.run.best.text()))
        self.unlogged |= self.run.finish()
        if (adapter := self.run.family.adapter) is not None:
            adapter.merge(self.run.family)  # for good
        bundle = self.bundle()
        if self.first:
            with self.aside.doing("writing"):
                bundle.save(self.out)
            with self.aside.doing("samples"):
                self._sheet(bundle, "final")
            if self.unlogged:
                tell(replace(self._event(None), values=self.unlogged))
            if self.recipe.start:
                bundle.metrics["beside"] = self._beside(bundle, tell)
            bundle.metrics["alarms"] = [alarm.to_json() for alarm in self.watch.alarms]
            write_text(self.out / "metrics.json", json.dumps(bundle.metrics, indent=2) + "\n")
            draw_curves(self.out / "log.jsonl", self.out / "curves.png")
        self.run.processes.wait()
        return bundle

    def _beside(self, bundle: Bundle, tell: OnLog) -> dict[str, Any]:
        """The adapted model and its base on held-out items."""
        objective, forgetting = self.run.objective, self.run.options.forgetting
        usual = "bits per learned token" if isinstance(self.data.train, Packed) else "loss"
        what = usual if objective is None else objective.scored
        scored = loss if objective is None else objective.scores
        most = MOST if objective is None else pursuing.MOST
        trained_on = self.run.state.step * self.run.options.batch_size
        found = beside(
            bundle,
            self.data.test,
            forgetting,
            scored,
            most=most,
            trained_on=trained_on,
            doing=self.aside.doing,
        )
        for line in told(found, what):
            tell(self._event(line))
        return found

    def _replay(self) -> None:
        """Show the watch what was logged before the run was interrupted."""
        schedule = self.run.schedule
        for facts in read_log(self.out / "log.jsonl"):
            if facts["step"] <= self.run.state.step:
                left = (schedule.budget.seconds or 0.0) - facts["seconds"]
                log = Log(facts["step"], facts["seconds"], left, schedule.num_steps)
                list(self.watch.see(replace(log, values=numbers_of(facts))))

    def _event(self, text: str | None) -> Log:
        state = self.run.state
        remaining = self.run.schedule.remaining(state, 0.0)
        return Log(state.step, state.seconds, remaining, self.run.schedule.num_steps, event=text)


def check_unchanged(data: Data, before: Mapping[str, Any], out: Path) -> None:
    """Raise `TrainingError` unless `data` is what the run in `out` noted, `before`."""
    if data.digest == before["digest"]:
        return
    files = files_of(before, read_hashes(out) or [], data.files)
    changes = compare(files, data.files, "trained on", "now")
    named = f"{changes.brief()}; " if changes.num_same or changes.changed else ""
    raise TrainingError(
        "the data is not what the run was started with",
        found=f"{named}digest {data.digest[:16]}, {len(data.train)} items",
        expected=f"digest {before['digest'][:16]}, {before['num_train']} items",
        where=before["source"],
        hint="put the data back as it was, or start a new run with another --out",
    )
