"""What is said of the items: which of it is learned, and by which codec it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from morphogen.core.codec import Codec, Item, Report
from morphogen.data.modality import build_codec


def noting(items: Iterable[Item], said: list[Mapping[str, Any]]) -> Iterator[Item]:
    """Pass items on, and put what is said of each into `said`."""
    for item in items:
        said.append(item.cond)
        yield item


def fit_conditions(codec: Codec, said: Sequence[Mapping[str, Any]], report: Report) -> None:
    """Choose and fit the codecs of the conditions from what is `said` of the training items.

    Labels are a condition where there are two or more, on at least half of the items.
    """
    codec.condition_codecs.clear()
    labels = Counter(str(cond["label"]) for cond in said if "label" in cond)
    labelled = sum(labels.values())
    if len(labels) < 2 or labelled * 2 < len(said):
        if labels:
            reason = "one class only" if len(labels) == 1 else f"{labelled:,} have one"
            report.facts["labels_unused"] = f"labels are not a condition: {reason}"
        return
    category = build_codec("category", {})
    codec.condition_codecs["label"] = category.fit(Item(name) for name in labels)
