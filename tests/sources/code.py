"""A small clean source of code: a folder with files in two languages."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "area.py": "def area(width, height):\n    return width * height\n",
    "count.py": "total = 0\nfor number in range(10):\n    total += number\nprint(total)\n",
    "greet.js": "function greet(name) {\n\treturn `Hello, ${name}!`;\n}\n",
    "empty_line.js": "const values = [1, 2, 3];\n\nconsole.log(values.length);\n",
}


def write(folder: Path) -> Path:
    """Four files of code."""
    place = folder / "project"
    place.mkdir(parents=True)
    for name, text in FILES.items():
        (place / name).write_text(text, encoding="utf-8")
    return place
