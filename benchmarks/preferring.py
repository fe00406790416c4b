"""What people prefer, learned by SmolLM2-135M with DPO: minutes of ours, and of TRL's.

    python benchmarks/preferring.py BASE PAIRS --minutes 5

BASE is a bundle (`morphogen import models/published/smollm2 --out BASE`), PAIRS a file of prompts,
each with an answer that was chosen and one that was rejected. Both train the same pairs, as many a
step, with a low-rank adapter of the same rank on the same layers, beta and peak rate, each in a
process of its own, one after the other. A pair that is held out is told rightly where the chosen
answer has become more probable by more than the other; one program, the peer's, says of both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from _adapters import export, told_by
from morphogen.training.run import sessions
from morphogen.training.session import Session

PEER = Path(__file__).parent / "peers" / "trl_dpo.py"
BATCH_SIZE, RANK, ALPHA, BETA, RATE = 4, 8, 16.0, 0.1, 3e-4
MOST_HELD = 64  # pairs by which both are judged


def main() -> None:
    """A line of JSON for each."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("base", type=Path)
    options.add_argument("pairs", type=Path)
    options.add_argument("--minutes", type=float, default=5.0, help="of each")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.ours:
        print(json.dumps(ours(given)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        session = session_of(given, folder / "out")
        write_pairs(session, folder)
        export(given.base, "transformers", folder / "base")
        common = ["--minutes", str(given.minutes), "--threads", str(given.threads)]
        here = [sys.executable, __file__, str(given.base), str(given.pairs), "--ours", name]
        peer = [sys.executable, str(PEER), name, "--beta", str(BETA), "--lr", str(RATE)]
        peer += ["--rank", str(RANK), "--alpha", str(ALPHA), "--batch-size", str(BATCH_SIZE)]
        for what, command in (
            ("ours", [*here, *common]),
            ("TRL", [*peer, *common]),
            ("held out", [*peer, *common, "--judge", "ours", "TRL"]),
        ):
            print(json.dumps({"what": what, **told_by(command)}))


def session_of(given: argparse.Namespace, out: Path) -> Session:
    """A run that learns the pairs."""
    settings = [
        f"train.batch_size={BATCH_SIZE}", f"train.lr={RATE}", f"wrapper.rank={RANK}",
        f"wrapper.alpha={ALPHA}", f"objective.beta={BETA}", "train.num_previews=0",
        "modality.length=512",
    ]  # fmt: skip
    (session,) = sessions(
        given.pairs, out=out, start=given.base, adapter="lora", objective="dpo",
        settings=settings, budget=f"{given.minutes}m",
    )  # fmt: skip
    return session


def write_pairs(session: Session, folder: Path) -> None:
    """The pairs of both splits as tokens: what was asked, and the two answers."""
    for name, split, most in (
        ("trained", session.data.train, len(session.data.train)),
        ("held_out", session.data.test, MOST_HELD),
    ):
        with (folder / f"{name}.jsonl").open("w") as file:
            for number in range(min(len(split), most)):
                other = split.other(torch.tensor([number]))
                second = other.x[0, split.gap :], other.weight[0, split.gap :] > 0
                file.write(json.dumps(parts(split.document(number), second)) + "\n")


def parts(*sides: tuple[torch.Tensor, torch.Tensor]) -> dict[str, list[int]]:
    """A pair in parts. Each side is tokens, and which of them are the answer."""
    found = {}
    for name, (tokens, learned) in zip(("chosen", "rejected"), sides, strict=True):
        begin, *_, end = learned.nonzero()[:, 0].tolist()
        found["prompt"] = tokens[:begin].tolist()
        found[name] = tokens[begin : end + 1].tolist()
    return found


def ours(given: argparse.Namespace) -> dict[str, float]:
    """Train, and write the adapter as PEFT reads it."""
    session = session_of(given, given.ours / "out")
    session.train(lambda log: None)
    export(given.ours / "out", "peft", given.ours / "ours")
    return {"steps": session.run.state.step}


if __name__ == "__main__":
    main()
