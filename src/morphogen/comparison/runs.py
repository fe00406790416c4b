"""The runs of a comparison: one process each, on this machine or on a Ray cluster.

    run_one(job)            train and evaluate, in this process
    run_all(jobs, ...)      every job, apart; a failure is a reason, not the end

A run leaves `run.json` in its folder; one that did is not run again, and one that was interrupted
goes on from its checkpoint. What its process complained of is in `stderr.txt`.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from morphogen.comparison.pace import Pace, Standing
from morphogen.core.border import COUNT, REAL, read_json
from morphogen.core.bundle import Bundle
from morphogen.core.config import METRICS, read_log, read_metrics
from morphogen.core.errors import MorphogenError, RecipeError, TrainingError
from morphogen.core.extras import extra
from morphogen.core.storage import write_text
from morphogen.evaluation.evaluate import evaluate
from morphogen.training.chain import has_begun, is_finished, stage_folders
from morphogen.training.options import Budget
from morphogen.training.run import train

DONE = {"family": str, "steps": COUNT, "seconds": REAL, "evaluation": METRICS["evaluation?"]}
WATTS_PER_CORE = 10.0  # of a busy core, with its share of memory and power supply
# Nothing is unpacked elsewhere; Python before 3.11.4 cannot see to that.
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
TICK = 1.0  # seconds between two looks at what is running
STDERR, ERROR = "stderr.txt", "error: "  # the file, and what its line with the reason starts with
Runs = Iterator[tuple["Job", dict[str, Any]]]
OnStanding = Callable[[Standing], None]
See = Callable[[Sequence["Job"]], object]
Execute = Callable[[Sequence["Job"], See], Runs]  # tells what is running, now and then


@dataclass(frozen=True)
class Job:
    """One training and its evaluation, as a process that may run elsewhere is told of it."""

    source: str
    family: str  # or a chain of them
    seed: int
    budget: str
    num: int
    settings: tuple[str, ...]
    out: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return Path(self.out).name

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.family}, seed {self.seed}"


def run_one(job: Job) -> dict[str, Any]:
    """Train, or go on with what an interruption left, and evaluate; leave run.json in the folder.

    Call it in a process of its own: memory and processor time are those of the whole process.
    Raises `TrainingError` when the training was stopped before its budget was spent.
    """
    out = Path(job.out)
    started = time.process_time()
    if not is_finished(out):
        train(
            job.source, job.family, budget=job.budget, seed=job.seed, settings=job.settings,
            out=out, resume=has_begun(out),
        )  # fmt: skip
    if not is_finished(out):
        raise TrainingError("stopped before its budget was spent: the same command goes on with it")
    trained = time.process_time() - started
    bundle = Bundle.open(out)
    record = evaluate(bundle, job.source, num=job.num, seed=job.seed)
    stages = [_last_log(folder) for folder in stage_folders(out)]
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there
    run = {
        "family": job.family,
        "seed": job.seed,
        "seconds": sum(log["seconds"] for log in stages),
        "steps": sum(log["step"] for log in stages),
        "num_parameters": _num_parameters(bundle),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
        "watt_hours": trained * WATTS_PER_CORE / 3600,
        "alarms": sorted({kind for folder in stage_folders(out) for kind in _alarms(folder)}),
        "evaluation": record,
        "sheet": next(
            (str(p.relative_to(out)) for p in sorted((out / "samples").glob("final.*"))), None
        ),
    }
    write_text(out / "run.json", json.dumps(run, indent=2) + "\n")
    return run


def _last_log(folder: Path) -> dict[str, Any]:
    return read_log(folder / "log.jsonl")[-1]


def _alarms(folder: Path) -> set[str]:
    return {alarm["kind"] for alarm in read_metrics(folder).get("alarms", [])}


def _num_parameters(bundle: Bundle) -> int:
    """Of the model and of those in whose latents it works."""
    models, codec = [bundle.family], bundle.codec
    while (inner := codec.inner) is not None:
        models.append(codec.model)  # type: ignore[attr-defined]
        codec = inner
    return sum(p.numel() for model in models for p in model.parameters())


def run_all(jobs: Sequence[Job], *, workers: int, on: str, on_standing: OnStanding) -> Runs:
    """Every job with its run, or with {"error": reason}; those done before come at once.

    `workers` processes at once share this machine's cores, where `on` is "local"; else they are
    tasks on Ray. `on_standing` hears what is running and how long the rest takes.
    """
    left = []
    for job in jobs:
        file = Path(job.out, "run.json")
        if file.exists():
            yield job, read_json(file, DONE)
        else:
            left.append(job)
    if not left:
        return
    pace = Pace(len(left), Budget.parse(left[0].budget).seconds)

    def see(running: Sequence[Job]) -> None:
        on_standing(pace.see([job.title for job in running]))

    execute = _locally(workers) if on == "local" else _on_ray(on)
    for job, run in execute(left, see):
        if failed := "error" in run:
            folder = Path(job.out).parent.name
            run = {"error": f"{run['error']} (see {folder}/{job.name}/{STDERR})"}
        said = f"failed: {run['error']}" if failed else f"done, {run['steps']:,} steps"
        on_standing(pace.end(job.title, f"{job.title}: {said}", failed=failed))
        yield job, run


def _locally(workers: int) -> Execute:
    """`workers` processes at once, the cores shared evenly."""
    threads = max(1, torch.get_num_threads() // workers)  # fewer where OMP_NUM_THREADS says so

    def execute(jobs: Sequence[Job], see: See) -> Runs:
        with ThreadPoolExecutor(workers) as pool:
            left = {pool.submit(_in_a_process, job, threads): job for job in jobs}
            try:
                while left:
                    see([job for each, job in left.items() if each.running()])
                    done, _ = wait(left, timeout=TICK, return_when=FIRST_COMPLETED)
                    for each in done:
                        yield left.pop(each), each.result()
            except BaseException:
                for each in left:
                    each.cancel()
                raise

    return execute


def _in_a_process(job: Job, threads: int) -> dict[str, Any]:
    """Run a job apart; a failure is a reason and not the end of the comparison."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    # -P: modules that lie in the folder where we are started are not Morphogen's.
    command = [sys.executable, "-P", "-m", "morphogen.comparison.runs", json.dumps(asdict(job))]
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / STDERR).open("w") as said:
        code = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=said, check=False
        ).returncode
    if code == 0:
        run: dict[str, Any] = read_json(out / "run.json", DONE)
        return run
    return {"error": why_ended(code, (out / STDERR).read_text())}


def why_ended(code: int, said: str) -> str:
    """Why a process failed, in a line: the signal that ended it, else what it called its error,
    else the last that it said."""
    if code < 0:
        memory = ", which is what happens when memory runs out" if code == -signal.SIGKILL else ""
        return f"it was ended by {signal.Signals(-code).name}{memory}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines or [f"it ended with exit code {code}"])[-1]


def _on_ray(address: str) -> Execute:
    """Jobs as tasks of a Ray cluster, each on all cores of a machine; folders travel back."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = extra("ray", "ray", "models are compared on a cluster", raises=RecipeError)

    def remote(job: Job, threads: int) -> tuple[dict[str, Any], bytes]:
        with tempfile.TemporaryDirectory() as folder:
            here = replace(job, out=str(Path(folder, job.name)))
            run, packed = _in_a_process(here, threads), io.BytesIO()
            if Path(here.out).exists():
                with tarfile.open(fileobj=packed, mode="w") as archive:
                    archive.add(here.out, arcname=job.name)
            return run, packed.getvalue()

    def execute(jobs: Sequence[Job], see: See) -> Runs:
        if not ray.is_initialized():
            ray.init(address=None if address == "ray" else address, log_to_driver=False)
        machines = [int(n["Resources"].get("CPU", 1)) for n in ray.nodes() if n["Alive"]]
        cores = min(machines)
        at_once = sum(each // cores for each in machines)
        task = ray.remote(num_cpus=cores)(remote)
        left = {task.remote(job, cores): job for job in jobs}
        while left:
            see(list(left.values())[:at_once])  # they start in the order they were asked for
            done, _ = ray.wait(list(left), timeout=TICK)
            for each in done:
                job = left.pop(each)
                run, packed = ray.get(each)
                if packed:
                    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                        archive.extractall(Path(job.out).parent, **SAFELY)
                yield job, run

    return execute


def _main(text: str) -> None:
    """What the process of a run does."""
    about: Mapping[str, Any] = json.loads(text)
    try:
        run_one(Job(**{**about, "settings": tuple(about["settings"])}))
    except MorphogenError as error:
        sys.exit(f"{ERROR}{error}")
    except Exception as error:
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")
        sys.exit(f"{ERROR}{type(error).__name__}: {first}")


if __name__ == "__main__":
    _main(sys.argv[1])
