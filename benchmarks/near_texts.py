"""Are edited copies of texts found, and do windows of one text not flood what is found?

    python benchmarks/near_texts.py /data/wikitext-2/train.txt

2,000 paragraphs of at least 300 characters stand in a folder as JSON lines, 100 of them a second
time after one edit. A row says how many of the copies are found beside their original, and how many
groups are no such pair. Then one long text is cut into windows that share half of their characters.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from morphogen.data.duplicates import find_duplicates

NUM, COPIES, LEAST = 2_000, 100, 300


def typos(text: str, share: float, draw: random.Random) -> str:
    """A share of the letters replaced."""
    return "".join(draw.choice("abcdefgh") if draw.random() < share else c for c in text)


def swapped(text: str, share: float, draw: random.Random) -> str:
    """A share of the words moved to other places."""
    words = text.split()
    for _ in range(int(share * len(words) / 2)):
        i, j = draw.randrange(len(words)), draw.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def shortened(text: str, share: float, draw: random.Random) -> str:
    """A stretch of the words left out."""
    words = text.split()
    gone = int(share * len(words))
    start = draw.randrange(len(words) - gone + 1)
    return " ".join(words[:start] + words[start + gone :])


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "capitals, white space": lambda text, draw: text.upper().replace(" ", "  "),
    "1 % of letters": lambda text, draw: typos(text, 0.01, draw),
    "3 % of letters": lambda text, draw: typos(text, 0.03, draw),
    "5 % of letters": lambda text, draw: typos(text, 0.05, draw),
    "10 % of words moved": lambda text, draw: swapped(text, 0.1, draw),
    "25 % of words moved": lambda text, draw: swapped(text, 0.25, draw),
    "10 % left out": lambda text, draw: shortened(text, 0.1, draw),
    "25 % left out": lambda text, draw: shortened(text, 0.25, draw),
    "40 % left out": lambda text, draw: shortened(text, 0.4, draw),
}


def groups(texts: list[str]) -> list[set[int]]:
    """What is found to be the same, by number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        found = find_duplicates(path, "text").groups
    return [{number(name) for name in (each.keep, *each.leave_out)} for each in found]


def number(name: str) -> int:
    """The row of an item, from 0: "texts.jsonl@12" is the twelfth."""
    return int("".join(c for c in name.rpartition("texts.jsonl")[2] if c.isdigit())) - 1


def main() -> None:
    """Print a row for each edit, and one for windows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", type=Path)
    told, draw = parser.parse_args(), random.Random(0)
    lines = told.text.read_text().split("\n")
    every = [line.strip() for line in dict.fromkeys(lines) if len(line) >= LEAST]
    texts = draw.sample(every, NUM)
    first = groups(texts)
    print(f"{NUM:,} paragraphs, {len(first)} groups among them before any edit")
    known = {number for group in first for number in group}
    for name, edit in EDITS.items():
        start = time.perf_counter()
        found = groups(texts + [edit(text, draw) for text in texts[:COPIES]])
        pairs = sum(any({i, NUM + i} <= group for group in found) for i in range(COPIES))
        other = sum(min(group) >= COPIES and not group <= known for group in found)
        seconds = time.perf_counter() - start
        print(f"{name:<24} found {pairs:>3} of {COPIES}, {other} other groups, {seconds:.1f} s")
    whole = " ".join(every)
    for share in (0.5, 0.25):
        step = int(1000 * (1 - share))
        windows = [whole[i : i + 1000] for i in range(0, step * NUM, step)]
        print(f"{NUM:,} windows that share {share:.0%}: {len(groups(windows))} groups")


if __name__ == "__main__":
    main()
