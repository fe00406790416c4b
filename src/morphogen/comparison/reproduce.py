"""Train a bundle again from its own record, and say whether the same model came out.

    identical               every weight is the same, bit by bit
    the same within 0.001   none is further off than that, relative to the largest of its tensor
    different               else; or a score is outside its interval; or the data has changed

The record is the bundle: the resolved recipe, the source of the data with its digest and files, the
codec, the number of steps, what each added to the progress where the budget was a time (decision
0005), and where the steps were made. What differs from that now is found before any training.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from morphogen.comparison.reproduction import Change, Reproduction, ScoreAgain
from morphogen.core.border import reading
from morphogen.core.bundle import Bundle
from morphogen.core.errors import BundleError, MeasurementError, TrainingError
from morphogen.core.measurement import Measurement, check_comparable
from morphogen.core.start import checked_base
from morphogen.core.visible import in_shell
from morphogen.data.dataset import Data, load
from morphogen.data.differences import compare as compare_files
from morphogen.data.listing import read_hashes
from morphogen.data.places import files_of, load_options, place_of
from morphogen.evaluation.evaluate import evaluate, read_scores
from morphogen.evaluation.features import hash_tensors
from morphogen.training.chain import has_begun, is_finished
from morphogen.training.device import choose_device, environment
from morphogen.training.options import Budget
from morphogen.training.run import prepare
from morphogen.training.schedule import Replay
from morphogen.training.session import OnLog, Session

TOLERANCE = 1e-3  # by which weights may differ, relative to the largest of their tensor
SAME_SCORE = 1e-6  # relative


def reproduce(
    bundle: Bundle | Path | str,
    *,
    data: Data | Path | str | None = None,
    out: Path | str | None = None,
    tolerance: float = TOLERANCE,
    dry_run: bool = False,
    on_start: Callable[[Reproduction], None] = lambda found: None,
    on_log: OnLog = lambda log: None,
) -> Reproduction:
    """Train a bundle again from its record into `out`, by default its name with "-again".

    `data` is where the data lies now, if not where it was. `on_start` sees what differs from the
    record before any training; with `dry_run`, or if the data has changed, nothing is trained. The
    same call goes on with a reproduction that was interrupted. Raises `BundleError` when the record
    is not enough.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    with reading("the record of the run", bundle.path):
        _check_record(bundle)
    name = str(bundle.path or "model")
    out = Path(out or f"{name.rstrip('/')}-again")
    if not dry_run:
        _check_folder(out)
    found = Reproduction(name, str(out), bundle.run["steps"], tolerance)
    device = _device(bundle)
    with _threads(bundle.run["environments"][-1]["num_threads"]):
        found.changes = _changes(bundle, device)
        loaded = _load(bundle, data)
        _check_data(found, bundle, loaded)
        on_start(found)
        if found.data is not None or dry_run:
            return found
        again = _train(bundle, loaded, out, device, on_log)
        found.is_trained = True
        _compare_weights(found, bundle, again)
        _compare_scores(found, bundle, again, loaded, data)
    return found


# -- the record ----------------------------------------------------------------------------------


def _check_record(bundle: Bundle) -> None:
    """Raise `BundleError` when the bundle does not say all that training it again takes."""
    lacking = {"steps", "rolled_back", "environments"} - bundle.run.keys()
    if lacking or not bundle.run["environments"]:
        found = "no record of its run: it was written by an older version of Morphogen"
    elif _is_by_time(bundle) and len(_increments(bundle)) != bundle.run["steps"]:
        found = f"{len(_increments(bundle)):,} of {bundle.run['steps']:,} steps of its schedule"
    else:
        return
    raise BundleError(
        "the bundle does not record all that training it again takes",
        found=found,
        expected="steps, environments and, where the budget was a time, the schedule",
        where=bundle.path,
        hint="train it anew, with the same recipe and the number of steps as its --budget",
    )


def _is_by_time(bundle: Bundle) -> bool:
    return Budget.parse(bundle.recipe.train["budget"]).seconds is not None


def _increments(bundle: Bundle) -> list[float]:
    return [] if bundle.increments is None else bundle.increments.tolist()


def _check_folder(out: Path) -> None:
    if is_finished(out):
        raise TrainingError(
            "the folder already holds a model, which is not overwritten",
            where=out,
            hint=f"--out {out}-2, or remove it",
        )


def _device(bundle: Bundle) -> str:
    """The device to train on: of the kind that the run was made on, if there is one."""
    recorded = bundle.run["environments"][-1]["device"]
    for name in (bundle.recipe.train.get("device", "auto"), recorded):
        try:
            if choose_device(name).type == recorded:
                return str(name)
        except TrainingError:
            continue
    return "auto"


def _changes(bundle: Bundle, device: str) -> list[Change]:
    """What is not here and now as it was where the run was made."""
    now = environment(choose_device(device))
    environments = bundle.run["environments"]
    found = []
    for each in environments:
        since = f" from step {each['from_step']:,} on" if len(environments) > 1 else ""
        found += [
            Change(fact.replace("_", " ") + since, _short(each.get(fact, "?")), _short(value))
            for fact, value in now.items()
            if each.get(fact) != value
        ]
    return found


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


@contextmanager
def _threads(num: int) -> Iterator[None]:
    """As many threads as the run had: sums are split among them, and rounded accordingly."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- the data ------------------------------------------------------------------------------------


def _load(bundle: Bundle, data: Data | Path | str | None) -> Data:
    """The data as the bundle's own codec reads it."""
    inner = bundle.codec.inner
    if isinstance(data, Data):
        return data.through(bundle.codec) if inner and data.spec == inner.spec else data
    source = data or place_of(bundle.data, _hint(bundle))
    return load(source, codec=bundle.codec, **load_options(bundle.data))


def _hint(bundle: Bundle) -> str:
    return f"morphogen reproduce {in_shell(bundle.path)} --data FOLDER"


def _check_data(found: Reproduction, bundle: Bundle, data: Data) -> None:
    """Say which files are not what they were."""
    if bundle.codec.inner is not None:
        found.notes.append(
            "it learned the latents of another model, whose weights are taken from the bundle"
        )
    recorded = bundle.data.get("digest", "")
    if data.digest == recorded:
        return
    hashes = read_hashes(bundle.path) if bundle.path is not None else None
    before = None if hashes is None else files_of(bundle.data, hashes, data.files)
    found.data = compare_files(before or {}, data.files if before else {}, "trained on", "now")
    found.changes.append(Change("data digest", recorded[:12], data.digest[:12]))
    if before is None:
        found.notes.append("the bundle has no list of its files to tell which of them changed")
    elif not found.data:
        found.notes.append("no file changed: the code reads or encodes them otherwise now")


# -- training ------------------------------------------------------------------------------------


def _train(bundle: Bundle, data: Data, out: Path, device: str, on_log: OnLog) -> Bundle:
    resume = has_begun(out)
    settings = [f"train.device={device}"]
    recipe = None if resume else bundle.recipe
    start: Path | None = None
    if recipe is not None and recipe.start and bundle.path is not None:
        start = checked_base(recipe.start, bundle.path)
    session = prepare(data, recipe=recipe, start=start, settings=settings, out=out, resume=resume)
    if resume and not _is_of(session, bundle):
        raise TrainingError(
            "the folder holds another run, which is not overwritten",
            where=out,
            hint=f"--out {out}-2, or remove it",
        )
    run = session.run
    run.schedule = Replay(
        run.options,
        len(run.split),
        steps=bundle.run["steps"],
        rolled_back=bundle.run["rolled_back"],
        increments=_increments(bundle),
    )
    again = session.train(on_log)
    if run.is_stopped:
        raise TrainingError(
            "the reproduction was stopped before its end",
            found=f"{run.state.step:,} of {bundle.run['steps']:,} steps",
            where=out,
            hint="the same command goes on where it was stopped",
        )
    return again


def _is_of(session: Session, bundle: Bundle) -> bool:
    """Whether a run that is gone on with follows the bundle's recipe, on whatever device."""
    tables = session.recipe.to_json()
    return all(
        tables[name].get(option) == value
        for name, table in bundle.recipe.to_json().items()
        for option, value in table.items()
        if option != "device" and (name, option) != ("start", "from")  # from its own folder
    )


# -- what came out -------------------------------------------------------------------------------


def _compare_weights(found: Reproduction, bundle: Bundle, again: Bundle) -> None:
    before, after = bundle.family.state_dict(), again.family.state_dict()
    found.num_tensors = len(before)
    found.tensors = differing(before, after)
    if found.tensors and not found.changes:
        found.notes.append(
            "nothing in the record says why: either the recorded weights were changed, or this "
            "device does not round in the same way every time"
        )


def differing(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """The tensors that are not the same bit by bit, each with its largest difference relative to
    its largest value; infinite where there is none to speak of."""
    found = {}
    for name in sorted({*before, *after}):
        if name not in before or name not in after or before[name].shape != after[name].shape:
            found[name] = math.inf
            continue
        first, second = before[name].detach().cpu(), after[name].detach().cpu()
        if hash_tensors({name: first}) == hash_tensors({name: second}):
            continue
        difference = (first.double() - second.double()).abs().max()
        relative = float(difference / first.double().abs().max().clamp(min=1e-30))
        found[name] = relative if math.isfinite(relative) else math.inf
    return found


def _compare_scores(
    found: Reproduction,
    bundle: Bundle,
    again: Bundle,
    loaded: Data,
    data: Data | Path | str | None,
) -> None:
    """Evaluate as the bundle was evaluated, with the same judge, and compare score by score."""
    record = bundle.metrics.get("evaluation")
    if not record:
        found.notes.append(f"no scores are recorded: morphogen evaluate {in_shell(found.bundle)}")
        return
    with reading("the evaluation in metrics.json", bundle.path):
        protocol, recorded = record["protocol"], read_scores(record)
        known, seed, device = (protocol[name] for name in ("data_digest", "seed", "device"))
    if bundle.path is not None and again.path is not None:
        for file in bundle.path.glob("features-*"):
            shutil.copy(file, again.path / file.name)
    source = place_of(bundle.data, _hint(bundle)) if data is None else data
    same = known == loaded.digest
    scores = read_scores(
        evaluate(
            again,
            loaded if same else source,
            num=protocol.get("num_generated"),
            seed=seed,
            device=device if device == "cpu" else None,
        )
    )
    for name, before in sorted(recorded.items()):
        found.scores.append(score_again(before, scores.get(name)))


def score_again(before: Measurement, now: Measurement | None) -> ScoreAgain:
    """Whether a score is what it was: equal, within the interval, or not; or why it is not said."""
    if now is None:
        return ScoreAgain(before.name, before.value, None, "not compared: it is not measured now")
    try:
        check_comparable(now, before)
    except MeasurementError as error:
        reason = f"not compared: {error.where} differ{'' if ',' in str(error.where) else 's'}"
        return ScoreAgain(before.name, before.value, now.value, reason)
    if math.isclose(before.value, now.value, rel_tol=SAME_SCORE, abs_tol=SAME_SCORE):
        verdict = "equal"
    else:
        verdict = "within the interval" if _overlap(before, now) else "differs"
    return ScoreAgain(before.name, before.value, now.value, verdict)


def _overlap(first: Measurement, second: Measurement) -> bool:
    """Whether two intervals have a value in common; a score without one is a point."""
    (a, b), (c, d) = (
        (m.value, m.value) if m.low is None or m.high is None else (m.low, m.high)
        for m in (first, second)
    )
    return a <= d and c <= b
