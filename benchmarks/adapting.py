"""Low-rank adapting of SmolLM2-135M: a step, and minutes of them, beside PEFT.

    python benchmarks/adapting.py BASE RECORDS                  the step: tokens/s, memory
    python benchmarks/adapting.py BASE RECORDS --minutes 8      trained for so long: held-out loss

BASE is a bundle (`morphogen import models/published/smollm2 --out BASE`), RECORDS a file of
instructions. Both train the same conversations in the same order, eight a step, with the same
rank on the same layers, each in a process of its own, one after the other. Tokens are those of
conversations; what pads a batch counts for nothing. The loss is that of answers held out, in nats
a token, by one program, the peer's: ours goes there as a folder of PEFT's kind.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _adapters import export, told_by
from morphogen.training.run import sessions
from morphogen.training.session import Session

PEER = Path(__file__).parent / "peers" / "peft_lora.py"
BATCH_SIZE, RANK, ALPHA = 8, 8, 16.0
MOST_HELD = 64  # conversations by which both are judged


def main() -> None:
    """A line of JSON for each, and their ratios."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("base", type=Path)
    options.add_argument("records", type=Path)
    options.add_argument("--steps", type=int, default=4, help="that are timed")
    options.add_argument("--minutes", type=float, help="train for so long, in place of steps")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.ours:
        print(json.dumps(ours(given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_batches(session_of(given, Path(folder) / "out"), Path(folder), given)
        common = ["--threads", str(given.threads), "--folder", folder]
        common += ["--minutes", str(given.minutes)] if given.minutes else []
        here = [sys.executable, __file__, str(given.base), str(given.records), "--ours"]
        found = {
            "ours": told_by([*here, "--steps", str(given.steps), *common]),
            "PEFT": told_by([sys.executable, str(PEER), *common]),
        }
        if given.minutes:
            judged = ["--judge", *(str(Path(folder) / name) for name in found)]
            found["nats"] = told_by([sys.executable, str(PEER), *common[:4], *judged])
    for name, facts in found.items():
        print(json.dumps({"what": name, **facts}))
    ratios = {key: round(found["ours"][key] / found["PEFT"][key], 3) for key in found["ours"]}
    print(json.dumps({"what": "ours / PEFT", **ratios}))


def session_of(given: argparse.Namespace, out: Path) -> Session:
    """A run that adapts the base to the records."""
    settings = [f"train.batch_size={BATCH_SIZE}", f"wrapper.rank={RANK}", f"wrapper.alpha={ALPHA}"]
    settings += ["train.num_previews=0"]
    (session,) = sessions(
        given.records, out=out, start=given.base, adapter="lora", settings=settings,
        budget=f"{given.minutes or 1}m",
    )  # fmt: skip
    return session


def write_batches(session: Session, folder: Path, given: argparse.Namespace) -> None:
    """The conversations that steps and the held-out loss meet, and the base as `transformers`
    reads it: what the peer works on."""
    run = session.run
    num = given.steps + 1 if not given.minutes else 4 * len(session.data.train) // BATCH_SIZE
    trained = torch.cat([run.order.rows(step) for step in range(num)])
    save(folder / "trained.npz", session.data.train, trained.tolist())
    assert session.data.test is not None
    save(folder / "held_out.npz", session.data.test, range(min(len(session.data.test), MOST_HELD)))
    export(given.base, "transformers", folder / "base")


def save(path: Path, split: Any, windows: Any) -> None:
    """Conversations end to end: tokens, which of them are learned, how long each is."""
    found = [split.document(number) for i in windows for number in split.windows[i]]
    tokens, learned = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    np.savez(path, tokens=tokens, learned=learned, lengths=[len(t) for t, _ in found])


def ours(given: argparse.Namespace) -> dict[str, float]:
    """Our facts: see `facts`."""
    session = session_of(given, given.folder / "out")
    if given.minutes:
        session.train(lambda log: None)
        export(given.folder / "out", "peft", given.folder / "ours")
        return {"steps": session.run.state.step}
    run, split = session.run, session.data.train
    run.step()
    run.state.step += 1
    seconds, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for _ in range(given.steps):
        tokens += sum(int(split.lengths[i]) for i in run.order.rows(run.state.step).tolist())
        run.step()
        run.state.step += 1
    return facts(tokens, time.perf_counter() - seconds, time.process_time() - cpu)


def facts(tokens: int, seconds: float, cpu: float) -> dict[str, float]:
    """What is told of timed steps; both programs write the same."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "tokens/s": round(tokens / seconds, 1),
        "tokens/processor s": round(tokens / cpu, 1),
        "peak GiB": round(peak, 2),
    }


if __name__ == "__main__":
    main()
