"""Two other finders of personal data: scrubadub and DataFog's regular expressions.

Reads a JSON list of texts from standard input and writes, for each finder, its version, its
seconds, and for each text the list of (kind, start, end).

    python -m venv peers && peers/bin/pip install scrubadub==2.0.1 datafog==4.9.0
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable

Found = list[tuple[str, int, int]]
KINDS = {
    "email": "email", "phone": "phone", "credit_card": "card", "social_security_number": "national",
    "EMAIL": "email", "PHONE": "phone", "CREDIT_CARD": "card", "SSN": "national",
    "IP_ADDRESS": "ip", "IBAN": "iban",
}  # fmt: skip


def scrubadub() -> Callable[[str], Found]:
    """Its detectors as they come, those of kinds that are not measured left out."""
    import scrubadub as package

    scrubber = package.Scrubber()
    return lambda text: [
        (KINDS[each.type], each.beg, each.end)
        for each in scrubber.iter_filth(text)
        if each.type in KINDS
    ]


def datafog() -> Callable[[str], Found]:
    """Its own engine of regular expressions."""
    import datafog as package

    return lambda text: [
        (KINDS[each.type], each.start, each.end)
        for each in package.scan(text, engine="regex").entities
        if each.type in KINDS
    ]


def main() -> None:
    """Every finder on every text."""
    texts = json.load(sys.stdin)
    answers = {}
    for make in (scrubadub, datafog):
        find = make()
        start = time.process_time()
        found = [find(text) for text in texts]
        seconds = time.process_time() - start
        name = f"{make.__name__} {importlib.metadata.version(make.__name__)}"
        answers[name] = {"seconds": seconds, "found": found}
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
