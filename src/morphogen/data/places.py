"""What a bundle records of its data, read again: how to load it, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READING = ("group_by", "synthetic", "canaries")  # options of `load` that are not the codec's


def load_options(about: Mapping[str, Any]) -> dict[str, Any]:
    """How the data that a bundle was trained on is divided: options of `load`, and nothing else
    that its file may ask for, such as a codec."""
    options = about.get("options", {})
    return {name: options[name] for name in READING if name in options}
