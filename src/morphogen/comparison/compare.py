"""Every family that fits the data, at equal wall-clock, over several seeds: which one is best here?

    runs/<family>-<seed>/     one bundle each, with run.json when it is done
    comparison.json           leaderboard and protocol
    comparison.html           the same with sample sheets side by side

A chain such as `vq_vae+autoregressive` enters as a family does, its stages sharing the budget (see
`training.chain`). Each run is a process of its own, so that memory and processor time are its own,
and trains with the family's default recipe. What is done is not done again: the same command goes
on where an interrupted comparison stopped, in the middle of a run too, and with more seeds it adds
theirs. With `early_stop`, a first round of a quarter of the budget and one seed sends home the
families that are hopelessly behind (successive halving, Jamieson & Talwalkar 2016).

A budget is a time, and a machine that was busy gives less in it. A run that made far fewer steps
than another seed of its family is set aside and run once more; who still did is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import morphogen
from morphogen.comparison.leaderboard import Leaderboard, leaderboard, steps_lacking
from morphogen.comparison.page import write_comparison
from morphogen.comparison.runs import WATTS_PER_CORE, Job, OnStanding, Runs, run_all
from morphogen.core import discover
from morphogen.core.border import read_json
from morphogen.core.capability import CanSample, missing
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.recipe import Recipe
from morphogen.core.storage import write_text
from morphogen.data.dataset import Data, load
from morphogen.training.chain import entrants, families_of, part_of, why_not
from morphogen.training.options import Budget

SCORE = "frechet_ratio"
SET_ASIDE = ".starved"  # behind the name of such a run's folder
FIRST_ROUND, HOPELESS = 0.25, 4.0  # share of the budget; times the best ratio of that round


def compare(
    source: Path | str,
    *,
    families: Sequence[str] | None = None,
    budget: str = "5m",
    seeds: int = 3,
    out: Path | str = "comparison",
    num: int = 10_000,
    settings: Sequence[str] = (),
    early_stop: bool = False,
    workers: int = 1,
    on: str = "local",
    on_standing: OnStanding = lambda standing: None,
    on_data: Callable[[Data], object] = lambda data: None,
) -> Leaderboard:
    """Train every family that fits, `seeds` times each, and rank them by their distance to
    held-out data in multiples of the floor.

    `families` names those to enter, chains such as "vq_vae+autoregressive" among them. `workers`
    runs at once share this machine's cores evenly; `on` is "local", "ray" (a Ray on this machine)
    or the address of a Ray cluster whose machines can read `source`. `on_standing` hears how far it
    is, `on_data` what it is about. A run that fails is listed with its reason; the others stand.
    Raises `DataError` when there is nothing to compare on, `RecipeError` for a family that does not
    exist or does not fit.
    """
    if not isinstance(source, (str, Path)):
        raise DataError(
            "each run of a comparison reads the data for itself",
            found=f"{type(source).__name__} in memory", expected="the path of a file or folder",
            hint='np.save("data.npy", array), then mg.compare("data.npy")',
        )  # fmt: skip
    if not Path(source).exists():
        raise DataError(
            "a comparison reads its data from disk, in every run anew", found=str(source),
            hint="save arrays with numpy.savez and give the file",
        )  # fmt: skip
    discover.vouch([list(families or ()), [each.partition("=")[2] for each in settings]])
    data, out = load(source, **Recipe().with_settings(settings).reading), Path(out)
    entrants, absent = suitable(data, families)
    on_data(data)
    jobs = [
        Job(str(Path(source).absolute()), family, seed, budget, num, tuple(settings),
            str(out.absolute() / "runs" / f"{family}-{seed}"))
        for seed in range(seeds) for family in entrants
    ]  # fmt: skip
    protocol = _check_same(out, data, budget, settings, num)
    execute = partial(run_all, workers=workers, on=on, on_standing=on_standing)
    if early_stop and len(entrants) > 1:
        hopeless = _first_round([job for job in jobs if job.seed == 0], out, execute)
        absent |= hopeless
        jobs = [job for job in jobs if job.family not in hopeless]
    found, failed = _finished(jobs, execute)
    if Budget.parse(budget).seconds is not None:
        again = _starved(found)
        for job in again:
            Path(job.out).rename(job.out + SET_ASIDE)
        anew, failed_anew = _finished(again, execute)
        found, failed = found | anew, failed | failed_anew
    absent |= failed
    runs = list(found.values())
    board = leaderboard(runs, SCORE, absent, {**protocol, "seeds": seeds})
    write_comparison(out, board, runs)
    about = {"energy": f"processor seconds at {WATTS_PER_CORE:g} W a core (an estimate)"}
    write_text(
        out / "comparison.json",
        json.dumps({**board.to_json(), **about, "runs": runs}, indent=2) + "\n",
    )
    return board


def _finished(
    jobs: Sequence[Job], execute: Callable[[Sequence[Job]], Runs]
) -> tuple[dict[Job, dict[str, Any]], dict[str, str]]:
    """The runs that came to an end, and the families that did not, with the reason."""
    found, failed = {}, {}
    for job, run in execute(jobs):
        if "error" in run:
            failed[job.family] = f"seed {job.seed}: {run['error']}"
        else:
            found[job] = run
    return found, failed


def _starved(found: Mapping[Job, Mapping[str, Any]]) -> list[Job]:
    """Runs that made far fewer steps than another seed of theirs and were not run again yet."""
    runs = list(found.values())
    return [
        job
        for job, run in found.items()
        if steps_lacking(run, runs) and not Path(job.out + SET_ASIDE).exists()
    ]


def suitable(data: Data, families: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Families and chains that can learn the data and sample it; why the others are absent."""
    found, absent = [], {}
    for name in families or entrants():
        reason = _why_not(name, data)
        if reason is None:
            found.append(name)
        else:
            absent[name] = reason
    if families and absent:
        name, reason = next(iter(absent.items()))
        raise RecipeError(
            f"{name} cannot be compared on this data: {reason}",
            expected=", ".join(suitable(data)[0]),
            hint="leave --family out to take all that fit",
        )
    return found, absent


def _why_not(name: str, data: Data) -> str | None:
    """Why a family or a chain cannot be compared on this data; None when it can."""
    if lacking := missing(discover.find("family", families_of(name)[-1]), CanSample):
        return f"it draws no items (no {', '.join(lacking)})"
    return why_not(name, data)


def _check_same(
    out: Path, data: Data, budget: str, settings: Sequence[str], num: int
) -> dict[str, object]:
    """Keep what makes runs comparable beside them; raise when the folder holds another's."""
    Budget.parse(budget)
    protocol: dict[str, object] = {
        "data_digest": data.digest,
        "budget": budget,
        "settings": list(settings),
        "num": num,
        "code_version": morphogen.__version__,
    }
    file = out / "protocol.json"
    if file.exists():
        before = read_json(file)
        for name, wanted in protocol.items():
            if before.get(name) != wanted:
                raise RecipeError(
                    "the folder holds a comparison under other conditions",
                    found=f"{name}: {before.get(name)}",
                    expected=f"{name}: {wanted}",
                    where=out,
                    hint=f"another --out, such as {out}-2, or the same options to go on with it",
                )
    else:
        write_text(file, json.dumps(protocol, indent=2) + "\n")
    return protocol


def _first_round(
    jobs: Sequence[Job], out: Path, execute: Callable[[Sequence[Job]], Runs]
) -> dict[str, str]:
    """Families that are hopelessly behind after a part of the budget, with the reason."""
    part = part_of(Budget.parse(jobs[0].budget), FIRST_ROUND)
    folder = out.absolute() / "first_round"
    first = [
        replace(job, budget=part, num=min(job.num, 2000), out=str(folder / job.name))
        for job in jobs
    ]
    ratios = {
        job.family: float(run["evaluation"]["scores"][SCORE]["value"])
        for job, run in execute(first)
        if SCORE in run.get("evaluation", {}).get("scores", {})
    }
    best = min(ratios.values(), default=0.0)
    return {
        family: f"stopped early: {ratio:.3g} after {part}, where the best had {best:.3g}"
        for family, ratio in ratios.items()
        if ratio > HOPELESS * best
    }
