"""What is exchanged with others as JSON: values that JSON has a word for, options that name nothing
of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from morphogen.core.errors import RecipeError

NO_CHARACTER = re.compile("[\ud800-\udfff]")  # how bytes that are none are kept
TEXTS = {"regex", "choice", "stop", "schema", "grammar", "prompt", "mask"}  # may say anything
FILES = (".json", ".lark")  # what those of them may name on a command line


def plain(value: Any) -> Any:
    """Values as JSON has them."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and value - value != 0:
        return None  # JSON has no word for infinity
    if isinstance(value, str):
        return shown(value)
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def shown(text: str) -> str:
    """A text with what is no character shown as such: JSON has no word for it."""
    return NO_CHARACTER.sub("\ufffd", text)


def check_words(options: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for options that name code or files of this machine, as those who type
    them on its command line may."""
    for name, value in options.items():
        for word in value if isinstance(value, list) else [value]:
            if not isinstance(word, str):
                continue
            is_file = word.strip().endswith(FILES) and name in TEXTS
            if is_file or (name not in TEXTS and (":" in word or "/" in word or "\\" in word)):
                raise RecipeError(
                    f"{name} names code or a file, which requests may not", found=word[:80]
                )
