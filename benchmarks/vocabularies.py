"""Tokenizers of a text: seconds of processor time to train and to encode, bytes of a token.

python benchmarks/vocabularies.py TEXT.txt
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from morphogen.modalities.text.tokenizers import BPE, Byte, Char, Tokenizer

SIZES = (1024, 4096, 16384)
PIECE = 1 << 20  # bytes, as files are cut
Made = TypeVar("Made")


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What is made, and the processor time of all threads."""
    start = time.process_time()
    return make(), time.process_time() - start


def main(path: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    made: dict[str, Callable[[], Tokenizer]] = {
        "byte": Byte,
        "char": lambda: Char(set(text)),
        **{f"bpe {size:,}": lambda size=size: BPE.train(pieces, size) for size in SIZES},
    }
    print("| tokenizer | vocabulary | bytes a token | train, s | encode, MB/s |")
    print("|---|---|---|---|---|")
    for name, make in made.items():
        tokenizer, training = timed(make)
        counts, encoding = timed(lambda t=tokenizer: [len(t.encode(p.encode())) for p in pieces])
        size = len(text.encode())
        print(
            f"| {name} | {tokenizer.vocab_size:,} | {size / sum(counts):.2f} | {training:.1f} "
            f"| {size / 1e6 / encoding:.1f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1])
