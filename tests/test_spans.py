"""Shared spans of texts and a corpus: what brute force finds, in blocks of any size."""

from __future__ import annotations

import random

import numpy as np
import pytest

from morphogen.evaluation.spans import END, Symbols, grid, shared


def symbols(text: str) -> Symbols:
    return np.frombuffer(text.encode(), np.uint8).astype(np.uint16)


def blocks(corpus: Symbols, size: int) -> list[Symbols]:
    return [corpus[i : i + size] for i in range(0, len(corpus), size)]


def letters(draw: random.Random, num: int) -> str:
    return "".join(draw.choice("ab") for _ in range(num))


@pytest.mark.parametrize("size", [7, 50, 10_000])
def test_it_finds_what_brute_force_finds(size: int) -> None:
    draw = random.Random(0)
    corpus = letters(draw, 600)
    texts = [corpus[100:170] + letters(draw, 30), letters(draw, 90), corpus[580:], "", "b" * 20]
    found = shared([symbols(text) for text in texts], blocks(symbols(corpus), size))
    assert found.lengths == [16, 24, 32, 48, 64, 96]
    for number, text in enumerate(texts):
        start = found.starts[number]
        for i in range(len(text)):
            there = [n for n in found.lengths if i + n <= len(text) and text[i : i + n] in corpus]
            level = found.level[start + i]
            assert (found.lengths[level] if level >= 0 else 0) == max(there, default=0)
            if there:
                assert found.place[start + i] == corpus.index(text[i : i + max(there)])
        for least in (16, 32):
            inside = np.zeros(len(text) + 1, bool)
            for i in range(len(text) - least + 1):
                if text[i : i + least] in corpus:
                    inside[i : i + least] = True
            assert found.covered(number, least).tolist() == inside.tolist()
    assert found.longest(0)[:2] == (64, 0)
    assert found.longest(3)[0] == 0


def test_spans_end_where_documents_do() -> None:
    first, second = symbols("the first of two texts, "), symbols("and the second of these two")
    corpus = np.concatenate([first, np.array([END], np.uint16), second])
    found = shared([np.concatenate([first, second]), corpus], [corpus])
    assert found.longest(0)[0] == 24
    assert found.longest(1)[0] == 48
    assert grid(0) == [16]
