"""What does each family make of one text in the same time of a processor?

    python benchmarks/families_on_text.py INPUT.TXT --processor 180
    python benchmarks/families_on_text.py INPUT.TXT --only vae vae+flow_matching

INPUT.TXT is Tiny Shakespeare, cut as in `shakespeare.py`. As many steps are made as fit the time of
one processor, which two short runs measure, so that it matters less what else the machine does; how
long they took in the end, with the start of the command, is told. Told of each: bits per byte of
held-out text, on one scale, where the family has a likelihood (a bound where it is one; of whole
windows where it gives none of single tokens); what anyone would count in samples, beside the same
of held-out text (`metrics/text_statistics.py`); the beginnings of two samples. At the end, where
`autoregressive` is among them, what it makes of the samples of all, in bits per byte: what it finds
surprising is no such text, though what repeats itself does not surprise it.

A vae is given windows of 32 bytes, which its vector of 64 numbers can hold, and tried with the KL
term weighed 0.3, too: at 1 the vector says next to nothing of the text.
"""

from __future__ import annotations

import argparse
import math
import resource
from pathlib import Path
from typing import Any

import torch

from _scored_text import bits_of, trained
from morphogen.core.capability import HasLogProb, missing
from morphogen.core.codec import Item
from morphogen.core.metric import Texts
from morphogen.metrics.text_statistics import text_statistics
from shakespeare import OWN, TRAINED

SAMPLES, BYTES, SHOWN = 32, 200, 200  # texts drawn, bytes of each that are read, and shown
COUNTED = ("new_words", "distinct_2", "repeated_4grams")
TRIED = (4, 16)  # steps of the short runs that measure one
READER = "autoregressive"
CODE = ["modality.length=32", "modality.tokenizer=byte", "family.latent_dim=64"]
LOOSE = [*CODE, "family.beta=0.3"]
ENTRANTS = {
    READER: OWN["ours"],
    "lstm": OWN["lstm"],
    "masked": OWN["masked"],
    "vae": ("vae", CODE),
    "vae, beta 0.3": ("vae", LOOSE),
    "vae+flow_matching": ("vae+flow_matching", LOOSE),
}


def main() -> None:
    """Train each entrant; print what there is to say of it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("text", type=Path)
    options.add_argument("--processor", type=float, default=180.0, help="seconds of one processor")
    options.add_argument("--bytes", type=int, default=1 << 17, help="of held-out text, scored")
    options.add_argument("--only", nargs="*", choices=ENTRANTS, default=list(ENTRANTS))
    given = options.parse_args()
    text = given.text.read_text()
    train, held = text[:TRAINED], text[TRAINED:]
    real = [held[i : i + BYTES] for i in range(0, len(held) - BYTES, BYTES)]
    written, reader = {"held-out text": real[:SAMPLES]}, None
    print(f"held-out text: {counted(real[:SAMPLES], real[SAMPLES:])}", flush=True)
    for name in given.only:
        family, settings = ENTRANTS[name]
        settings = [f"family.name={family}", *settings]
        budget = steps_in(given.processor, train, held, settings)
        before = spent()
        with trained(train, held, budget, settings) as (bundle, data, _):
            took = f"{budget} in {spent() - before:.0f} s of a processor"
            bits = likelihood(bundle, data, given.bytes)
        written[name] = texts_of(bundle)
        reader = bundle if name == READER else reader
        print(f"{name}: {took}; {bits}; {counted(written[name], real)}", flush=True)
        for shown in written[name][:2]:
            print(f"    {shown[:SHOWN]!r}", flush=True)
    for name, texts in written.items() if reader else ():
        print(f"{name}: read by {READER} at {surprise(reader, texts):.2f} bits per byte")


def steps_in(seconds: float, train: str, held: str, settings: list[str]) -> str:
    """The budget of steps that takes one processor so long."""
    took = []
    for steps in TRIED:
        before = spent()
        with trained(train, held, f"{steps}steps", settings):
            took.append(spent() - before)
    return f"{max(round(seconds * (TRIED[1] - TRIED[0]) / (took[1] - took[0])), 1)}steps"


def spent() -> float:
    """Seconds that processors gave to processes started here and over."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def likelihood(bundle: Any, data: Any, most: int) -> str:
    """Bits per byte of held-out text, and how they are to be read."""
    if data.codec.inner is not None or missing(bundle.family, HasLogProb):
        return "no likelihood of texts"
    scored = bits_of(bundle, data, most)
    low, high = scored.interval(0)
    value = float(scored.bits.sum() / scored.units.sum())
    return f"{value:.3f} bits per byte ({low:.2f} to {high:.2f}), {bundle.family.log_prob_is}"


def texts_of(bundle: Any) -> list[str]:
    """Samples of so many bytes: what is learned in short windows is drawn in several."""
    spec, codec = bundle.codec.innermost.spec, bundle.codec.innermost
    each = -(-BYTES // int(codec.num_units(torch.zeros(1, *spec.shape, dtype=torch.long))))
    pieces = bundle.sample(SAMPLES * each, seed=0).items
    return ["".join(pieces[i : i + each])[:BYTES] for i in range(0, len(pieces), each)]


def counted(texts: list[str], real: list[str]) -> str:
    """What there is to count in texts."""
    both: dict[str, Any] = {"spec": None, "generated": texts, "reference": real, "decode": list}
    found = text_statistics(Texts(**both))
    return ", ".join(f"{name} {found[name]:.3f}" for name in COUNTED)


@torch.no_grad()
def surprise(reader: Any, texts: list[str]) -> float:
    """Bits per byte of texts, each read from its beginning."""
    nats, num_bytes, codec = 0.0, 0.0, reader.codec
    for text in texts:
        tokens = codec.encode_stream(Item(text))[:-1]
        nats -= float(reader.family.token_log_prob(tokens[None], {}).sum())
        num_bytes += float(codec.num_units(tokens[None]))
    return nats / num_bytes / math.log(2)


if __name__ == "__main__":
    main()
