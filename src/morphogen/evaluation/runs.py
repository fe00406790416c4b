"""The runs of a comparison: one process each, on this machine or on a Ray cluster.

    run_one(job)            train and evaluate, in this process
    run_all(jobs, ...)      every job, apart; a failure is a reason, not the end

A run leaves `run.json` in its folder; one that did is not run again, and one that was interrupted
goes on from its checkpoint.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from morphogen.core.bundle import Bundle
from morphogen.core.errors import MorphogenError, RecipeError
from morphogen.core.storage import write_text
from morphogen.evaluation.evaluate import evaluate
from morphogen.training.run import train

WATTS_PER_CORE = 10.0  # of a busy core, with its share of memory and power supply
Runs = Iterator[tuple["Job", dict[str, Any]]]
Execute = Callable[[Sequence["Job"]], Runs]


@dataclass(frozen=True)
class Job:
    """One training and its evaluation, as a process that may run elsewhere is told of it."""

    source: str
    family: str
    seed: int
    budget: str
    num: int
    settings: tuple[str, ...]
    out: str

    @property
    def name(self) -> str:
        """What its folder is called."""
        return Path(self.out).name


def run_one(job: Job) -> dict[str, Any]:
    """Train, or go on with what an interruption left, and evaluate; leave run.json in the folder.

    Call it in a process of its own: memory and processor time are those of the whole process.
    """
    out = Path(job.out)
    started = time.process_time()
    if not (out / "config.json").exists() or (out / "checkpoint").exists():
        resumable = (out / "checkpoint").exists()
        train(
            job.source, job.family, budget=job.budget, seed=job.seed, settings=job.settings,
            out=out, resume=resumable,
        )  # fmt: skip
    trained = time.process_time() - started
    bundle = Bundle.open(out)
    record = evaluate(bundle, job.source, num=job.num, seed=job.seed)
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there
    run = {
        "family": job.family,
        "seed": job.seed,
        "seconds": last["seconds"],
        "steps": last["step"],
        "num_parameters": sum(p.numel() for p in bundle.family.parameters()),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
        "watt_hours": trained * WATTS_PER_CORE / 3600,
        "alarms": sorted({alarm["kind"] for alarm in bundle.metrics.get("alarms", [])}),
        "evaluation": record,
        "sheet": next(
            (str(p.relative_to(out)) for p in sorted((out / "samples").glob("final.*"))), None
        ),
    }
    write_text(out / "run.json", json.dumps(run, indent=2) + "\n")
    return run


def run_all(jobs: Sequence[Job], *, workers: int, on: str, on_run: Callable[[str], None]) -> Runs:
    """Every job with its run, or with {"error": reason}; those done before come at once.

    `workers` processes at once share this machine's cores, where `on` is "local"; else they are
    tasks on Ray. `on_run` hears a line for every run that ends.
    """
    left = []
    for job in jobs:
        file = Path(job.out, "run.json")
        if file.exists():
            yield job, json.loads(file.read_text())
        else:
            left.append(job)
    execute = _locally(workers) if on == "local" else _on_ray(on)
    for number, (job, run) in enumerate(execute(left), 1):
        said = run.get("error") or f"done, {run['steps']:,} steps"
        on_run(f"[{number}/{len(left)}] {job.family}, seed {job.seed}: {said}")
        yield job, run


def _locally(workers: int) -> Execute:
    """`workers` processes at once, the cores shared evenly."""
    threads = max(1, torch.get_num_threads() // workers)  # fewer where OMP_NUM_THREADS says so

    def execute(jobs: Sequence[Job]) -> Runs:
        with ThreadPoolExecutor(workers) as pool:
            running = {pool.submit(_in_a_process, job, threads): job for job in jobs}
            try:
                for done in as_completed(running):
                    yield running[done], done.result()
            except BaseException:
                for each in running:
                    each.cancel()
                raise

    return execute


def _in_a_process(job: Job, threads: int) -> dict[str, Any]:
    """Run a job apart; a failure is a reason and not the end of the comparison."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "morphogen.evaluation.runs", json.dumps(asdict(job))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        run: dict[str, Any] = json.loads(Path(job.out, "run.json").read_text())
        return run
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"error": lines[-1]}


def _on_ray(address: str) -> Execute:
    """Jobs as tasks of a Ray cluster, each on all cores of a machine; folders travel back."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise RecipeError(
            "comparing on a cluster needs Ray, which is not installed",
            hint="pip install 'morphogen[ray]'",
        ) from error

    def remote(job: Job, threads: int) -> tuple[dict[str, Any], bytes]:
        with tempfile.TemporaryDirectory() as folder:
            here = replace(job, out=str(Path(folder, job.name)))
            run, packed = _in_a_process(here, threads), io.BytesIO()
            if Path(here.out).exists():
                with tarfile.open(fileobj=packed, mode="w") as archive:
                    archive.add(here.out, arcname=job.name)
            return run, packed.getvalue()

    def execute(jobs: Sequence[Job]) -> Runs:
        if not ray.is_initialized():
            ray.init(address=None if address == "ray" else address, log_to_driver=False)
        cores = int(min(n["Resources"].get("CPU", 1) for n in ray.nodes() if n["Alive"]))
        task = ray.remote(num_cpus=cores)(remote)
        running = {task.remote(job, cores): job for job in jobs}
        while running:
            (done,), _ = ray.wait(list(running))
            job = running.pop(done)
            run, packed = ray.get(done)
            if packed:
                with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                    archive.extractall(Path(job.out).parent, filter="data")
            yield job, run

    return execute


def _main(text: str) -> None:
    """What the process of a run does."""
    about: Mapping[str, Any] = json.loads(text)
    try:
        run_one(Job(**{**about, "settings": tuple(about["settings"])}))
    except MorphogenError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    _main(sys.argv[1])
