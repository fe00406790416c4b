"""English to German under a clock: BLEU, beside an encoder-decoder of `transformers`.

    python benchmarks/translation.py                        10 minutes each, the test split
    python benchmarks/translation.py --minutes 2 --split val --num 200       for trying recipes

Multi30k, 29,000 pairs. A translation is an item (German) with a condition that is text (English):
a decoder that attends to what a reader of the condition says. The peer has the same vocabularies,
width, layers, batches and time, on the same threads, right after; it is trained with AdamW and a
warm-up, in batches of one length. Both translate greedily, and by a beam. Which recipe, was decided
on the validation split. BLEU is sacrebleu's, of cased text, with its signature; load and processor
time are told, since a machine that is shared gives less than it has.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import morphogen as mg
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.data.dataset import Data

HERE = Path(__file__).parent
PEER = HERE / "peers" / "transformers_translator.py"
DATA = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/multi30k"
MODEL_DIM, DECODER_LAYERS, READER_LAYERS, BATCH_SIZE, VOCAB_SIZE = 128, 3, 2, 32, 4096
SETTINGS = [
    f"backbone.model_dim={MODEL_DIM}",
    f"backbone.num_layers={DECODER_LAYERS}",
    "backbone.tied=yes",
    f"family.cond_dim={MODEL_DIM}",
    f"family.cond_layers={READER_LAYERS}",
    "family.drop_prob=0",  # no sentence is translated from nothing
    f"train.batch_size={BATCH_SIZE}",
    "train.num_previews=0",
]


def main() -> None:
    """Train ours, then the peer; a line of JSON for each, and their ratio."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--minutes", type=float, default=10.0, help="training of each")
    options.add_argument("--split", default="test_2016_flickr", help="or val, while developing")
    options.add_argument("--num", type=int, default=1000, help="sentences that are translated")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", choices=["ours", "peer"])
    options.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="1: greedily")
    options.add_argument("--set", nargs="*", default=[], help="settings, as of `morphogen train`")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    asked = [pair[: given.num] for pair in pairs(given.split)]
    found: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, seconds = Path(folder), 60 * given.minutes
        data = load(out)
        if given.only != "peer":
            found["ours"] = report("ours", asked, *ours(data, asked[0], seconds, given, out))
        if given.only != "ours":
            found["peer"] = report("peer", asked, *peer(data, asked[0], seconds, given, out))
    if len(found) == 2:
        ratios = {beam: round(found["ours"][beam] / max(found["peer"][beam], 0.01), 2)
                  for beam in given.beams}  # fmt: skip
        print(json.dumps({"ours / peer, by beam": ratios}))


def pairs(split: str) -> tuple[list[str], list[str]]:
    """The English and the German sentences of a split."""
    english, german = (
        gzip.decompress((DATA / f"{split}.{language}.gz").read_bytes())
        .decode()
        .rstrip("\n")
        .split("\n")
        for language in ("en", "de")
    )
    return english, german


def load(folder: Path) -> Data:
    """The pairs as a user has them: a table with a column for each language."""
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["en", "de", "split"])
        for split in ("train", "val"):
            rows.writerows([*pair, split] for pair in zip(*pairs(split), strict=True))
    return mg.load(
        table, "text", column="de", conditions="en", tokenizer="bpe", vocab_size=VOCAB_SIZE
    )


def ours(
    data: Data, english: list[str], seconds: float, given: argparse.Namespace, folder: Path
) -> tuple[dict[int, list[str]], dict[str, Any]]:
    """Translations by a model of ours, for each beam, and facts about its training."""
    began, log = spent(), []
    bundle: Bundle = mg.train(
        data, "autoregressive", budget=f"{seconds:.0f}s", settings=[*SETTINGS, *given.set],
        on_log=lambda line: log.append(line.step), out=folder / "bundle",
    )  # fmt: skip
    facts = {
        "steps": max(log),
        "parameters": sum(p.numel() for p in bundle.family.parameters()),
        "cpu_s": round(spent() - began),
        "decoding_s": {},
    }
    made = {}
    for beam in given.beams:
        begun = time.perf_counter()
        asked = [Item(sentence) for sentence in english]
        made[beam] = bundle.task("translate", *asked, beam=beam).values["text"]
        facts["decoding_s"][beam] = round(time.perf_counter() - begun, 1)
    return made, facts


def peer(
    data: Data, english: list[str], seconds: float, given: argparse.Namespace, folder: Path
) -> tuple[dict[int, list[str]], dict[str, Any]]:
    """The same by the peer, which is given tokens and gives tokens."""
    codec, reader = data.codec, data.codec.condition_codecs["en"]
    train = data.train.batch(torch.arange(len(data.train)))
    asked = torch.stack([data.codec.encode_condition("en", sentence) for sentence in english])
    tokens, translated = folder / "tokens.npz", folder / "translated.npz"
    np.savez(
        tokens, source=train.cond["en"], target=train.x, asked=asked,
        source_end=reader.spec.end, target_end=codec.spec.end,
    )  # fmt: skip
    shape = {
        "--dim": MODEL_DIM, "--decoder-layers": DECODER_LAYERS, "--encoder-layers": READER_LAYERS,
        "--batch-size": BATCH_SIZE, "--seconds": seconds, "--threads": given.threads,
        "--tokens": tokens, "--out": translated,
    }  # fmt: skip
    words = [str(word) for pair in shape.items() for word in pair]
    words += ["--beams", *map(str, given.beams)]
    subprocess.run([sys.executable, str(PEER), *words], check=True)
    found = np.load(translated)
    made = {
        beam: codec.decode_many(torch.from_numpy(found[f"beam_{beam}"])) for beam in given.beams
    }
    return made, json.loads(str(found["facts"]))


def report(
    who: str, asked: list[list[str]], made: dict[int, list[str]], facts: dict[str, Any]
) -> dict[int, float]:
    """Print a line; returns BLEU for each beam."""
    from sacrebleu.metrics import BLEU

    judge = BLEU()
    bleu = {beam: judge.corpus_score(german, [asked[1]]).score for beam, german in made.items()}
    line = {
        "who": who,
        "bleu": {"greedy" if beam == 1 else f"beam {beam}": round(bleu[beam], 2) for beam in bleu},
        "signature": str(judge.get_signature()),
    }
    shown = {
        "load": round(os.getloadavg()[0], 1),
        "example": [*(each[0] for each in asked), *(german[0] for german in made.values())],
    }
    print(json.dumps(line | facts | shown, ensure_ascii=False), flush=True)
    return bleu


def spent() -> float:
    """Seconds that processors have worked for this process."""
    return time.process_time()


if __name__ == "__main__":
    main()
