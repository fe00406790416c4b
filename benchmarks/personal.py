"""Is personal data in captions found, and are harmless numbers left alone?

    python benchmarks/personal.py                                    the held-out part
    python benchmarks/personal.py --part selection                   what the rules were chosen on
    python benchmarks/personal.py --peers peers/bin/python           with the peers, see peers/

The labelled set is `personal_texts.py`. A labelled span is found when a finding of its kind touches
it, and whole when one covers it. A false alarm is a text without personal data in which something
is found. Beside it, real captions (Multi30k, which holds no numbers of persons) in English and
German, and how long 10,000 captions take. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from morphogen.data.personal import Finder
from personal_texts import UNSEEN, Labelled, harmless, with_personal_data

HERE = Path(__file__).parent
CAPTIONS = Path(os.environ.get("MORPHOGEN_SHARED", HERE.parents[1] / "shared")) / "data/multi30k"
SEEDS = {"selection": 0, "second": 1, "held_out": 2}
MEASURED = ["email", "phone", "iban", "card", "ip", "national"]
NOT_LOOKED_FOR = ["name", "address"]
OWN = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IBAN_CODE": "iban", "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
}  # fmt: skip
NAMES = {"UUID", "milliseconds"}  # and all whose kind ends with "file"
Found = Sequence[tuple[str, int, int]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=list(SEEDS), default="held_out")
    parser.add_argument("--rounds", type=int, default=10, help="values per template and locale")
    parser.add_argument("--peers", help="the Python that has the peers installed")
    given = parser.parse_args()
    seed = SEEDS[given.part]
    texts = with_personal_data(given.part, given.rounds, seed)
    alike = harmless(given.part, 100, seed)
    answers = {"ours": ours([*texts, *alike])}
    if given.peers:
        answers |= peers(given.peers, [each.text for each in [*texts, *alike]])
    print(f"{given.part}: {len(texts):,} texts, {len(alike):,} harmless\n")
    recall_table(texts, answers)
    by_locale(texts, answers["ours"][1])
    false_alarms(alike, {name: each[1][len(texts) :] for name, each in answers.items()})
    for name, (seconds, found) in answers.items():
        print(f"{name}: {1000 * seconds / len(found):.2f} ms of processor time a text")
    if CAPTIONS.is_dir():
        real_captions(seed)


def ours(texts: Sequence[Labelled]) -> tuple[float, list[Found]]:
    """What `data check` finds; the texts that are file names are looked at as such."""
    finder = Finder()
    start = time.process_time()
    names = [each.harmless in NAMES or each.harmless.endswith("file") for each in texts]
    found = [finder.find(each.text, is_name) for each, is_name in zip(texts, names, strict=True)]
    seconds = time.process_time() - start
    return seconds, [
        [(OWN.get(f.kind, "national"), f.start, f.end) for f in each] for each in found
    ]


def peers(python: str, texts: list[str]) -> dict[str, tuple[float, list[Found]]]:
    """What the peers find, in their own environment."""
    script = str(HERE / "peers/personal_finders.py")
    done = subprocess.run(
        [python, script], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    answers = json.loads(done.stdout)
    return {name: (each["seconds"], each["found"]) for name, each in answers.items()}


def recall_table(texts: Sequence[Labelled], answers: dict[str, tuple[float, list[Found]]]) -> None:
    """Per kind: how many are found, and how many findings of the kind are right."""
    print("| kind | finder | found of labelled | recall | whole | precision |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in MEASURED + NOT_LOOKED_FOR:
        for name, (_, found) in answers.items():
            labelled = touched = whole = right = number = 0
            for text, each in zip(texts, found, strict=False):
                spans = [(a, b) for k, a, b in text.spans if k == kind]
                mine = [(a, b) for k, a, b in each if k == kind]
                labelled += len(spans)
                touched += sum(any(s < b and a < e for s, e in mine) for a, b in spans)
                whole += sum(any(s <= a and b <= e for s, e in mine) for a, b in spans)
                number += len(mine)
                right += sum(any(s < b and a < e for a, b in spans) for s, e in mine)
            number += sum(k == kind for each in found[len(texts) :] for k, _, _ in each)
            if kind in NOT_LOOKED_FOR:
                touched = sum(
                    any(s < b and a < e for _, s, e in each)
                    for text, each in zip(texts, found, strict=False)
                    for k, a, b in text.spans
                    if k == kind
                )
            print(
                f"| {kind} | {name} | {touched:,} of {labelled:,} | {share(touched, labelled)} "
                f"| {share(whole, labelled)} | {share(right, number)} |"
            )


def by_locale(texts: Sequence[Labelled], found: list[Found]) -> None:
    """Ours by country, where the country matters."""
    print("\n| kind | " + " | ".join(places := sorted({each.locale for each in texts})) + " |")
    print("| --- |" + " --- |" * len(places))
    for kind in ("phone", "national"):
        hits: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for text, each in zip(texts, found, strict=False):
            for k, a, b in text.spans:
                if k == kind:
                    total[text.locale] += 1
                    hits[text.locale] += any(q == kind and s < b and a < e for q, s, e in each)
        cells = [f"{hits[p]} of {total[p]}" if total[p] else "" for p in places]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print(f"(not in the other parts: {', '.join(p for p in places if p in UNSEEN)})\n")


def false_alarms(alike: Sequence[Labelled], answers: dict[str, list[Found]]) -> None:
    """How many harmless texts something is found in, and in which."""
    for name, found in answers.items():
        which = Counter(text.harmless for text, each in zip(alike, found, strict=True) if each)
        listed = ", ".join(f"{number} {kind}" for kind, number in which.most_common(9))
        count = sum(which.values())
        print(f"{name}: false alarms {count:,} of {len(alike):,}, {share(count, len(alike))}")
        print(f"    {listed or 'none'} (of 100 each)")


def real_captions(seed: int) -> None:
    """False alarms and time on captions that people wrote."""
    finder, draw = Finder(), random.Random(seed)
    for language in ("en", "de"):
        with gzip.open(CAPTIONS / f"train.{language}.gz", "rt", encoding="utf-8") as stream:
            captions = draw.sample(stream.read().splitlines(), 10_000)
        start = time.process_time()
        flagged = [caption for caption in captions if finder.find(caption)]
        seconds = time.process_time() - start
        numbers = sum(any(map(str.isdecimal, caption)) for caption in captions)
        print(
            f"real captions ({language}): false alarms {len(flagged)} of 10,000, of which "
            f"{numbers} hold a digit; {seconds:.1f} s"
        )
        for caption in flagged[:5]:
            print(f"    {caption}")


def share(part: int, whole: int) -> str:
    """A share with its Wilson interval of 95 %."""
    if not whole:
        return ""
    z, p = 1.959964, part / whole
    centre = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole**2))
    return f"{p:.3f} ({max(centre - half, 0):.3f} to {min(centre + half, 1):.3f})"


if __name__ == "__main__":
    main()
