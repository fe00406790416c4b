"""Which language a file is in: by its suffix, by its first line, by what its lines look like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SUFFIXES = {
    ".py": "Python", ".pyi": "Python", ".pyx": "Cython", ".js": "JavaScript",
    ".mjs": "JavaScript", ".cjs": "JavaScript", ".jsx": "JavaScript", ".ts": "TypeScript",
    ".tsx": "TypeScript", ".java": "Java", ".c": "C", ".h": "C", ".cpp": "C++", ".hpp": "C++",
    ".cc": "C++", ".cxx": "C++", ".hh": "C++", ".cu": "CUDA", ".cs": "C#", ".go": "Go",
    ".rs": "Rust", ".rb": "Ruby", ".php": "PHP", ".swift": "Swift", ".kt": "Kotlin",
    ".scala": "Scala", ".sh": "Shell", ".bash": "Shell", ".zsh": "Shell", ".sql": "SQL",
    ".r": "R", ".jl": "Julia", ".lua": "Lua", ".pl": "Perl", ".pm": "Perl", ".hs": "Haskell",
    ".ml": "OCaml", ".clj": "Clojure", ".ex": "Elixir", ".exs": "Elixir", ".erl": "Erlang",
    ".dart": "Dart", ".f90": "Fortran", ".f": "Fortran", ".m": "MATLAB", ".vhd": "VHDL",
    ".v": "Verilog", ".asm": "Assembly", ".s": "Assembly", ".css": "CSS", ".scss": "CSS",
    ".zig": "Zig", ".nim": "Nim", ".tcl": "Tcl", ".vb": "Visual Basic", ".ps1": "PowerShell",
    ".cmake": "CMake", ".lisp": "Lisp", ".scm": "Scheme", ".el": "Lisp",
}  # fmt: skip
RUN_BY = {
    "python": "Python", "sh": "Shell", "bash": "Shell", "zsh": "Shell", "node": "JavaScript",
    "perl": "Perl", "ruby": "Ruby", "lua": "Lua", "php": "PHP", "Rscript": "R",
}  # fmt: skip
RUNS = re.compile(r"#!\s*\S*?(?:/env\s+(?:-\S+\s+)*)?([A-Za-z]+)[\d.]*(?:\s|$)")
LINES = {  # lines that are hardly written in anything else
    "Python": r"(def|class) \w+.*:$|(from [\w.]+ )?import [\w.*]+|(if|elif|for|while|with) .+:$"
    r"|(else|try|finally):$|return\b.*[^;.]$|self\.\w+|@\w+(\(.*\))?$|\w+(\.\w+)* = [^;]*[^;.]$",
    "JavaScript": r"(export )?(const|let|var) \w+ ?=|(async )?function\b.*\{|.*=> ?[{(]|"
    r"module\.exports|console\.\w+\(",
    "C": r"#\s*(include|define|ifn?def|endif|pragma)\b|(static |const |unsigned )*"
    r"(int|void|char|float|double|struct|size_t)\b[^.]*[;{,]$",
    "C++": r"(std::|template ?<|namespace \w+|using namespace|public:|private:).*",
    "Java": r"(public|private|protected) .*[;{]$|import [\w.]+;$|package [\w.]+;$|@Override",
    "Go": r"package \w+$|func .*\{$|\w+(, \w+)* := |import \($",
    "Rust": r"(pub )?(fn|struct|enum|impl|mod|trait)\b.*[{;]$|let (mut )?\w+|use [\w:]+|#\[\w+",
    "Shell": r"(if|while) \[.*|fi$|done$|esac$|echo |export \w+=|\w+=\$|for \w+ in ",
    "SQL": r"(?i:select .*|insert into .*|create (table|index|view) .*|from \w+$|where .+=.*)",
    "Ruby": r"def \w+.*[^:]$|end$|require ['\"]|puts |attr_\w+ ",
}
PATTERNS = {language: re.compile(rf"\s*(?:{lines})") for language, lines in LINES.items()}
CLOSED = re.compile(r".*[;{}]\s*$|\s*(//|/\*|\*/|[)\]}]).*")  # as in most languages with braces
MOSTLY = 0.4  # of the lines, from where a text is code
FEWEST = 2  # lines that look like a language
HEAD = 4000  # characters that are looked at
NAMED = (
    "code", "source_code", "program", "function", "func", "func_code", "solution",
    "whole_func_string", "canonical_solution",
)  # fmt: skip


def language_of(text: str, suffix: str = "") -> str | None:
    """The language of a file; None where it is no code, or of no language that is known here."""
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if (run := RUNS.match(text)) and run[1] in RUN_BY:
        return RUN_BY[run[1]]
    lines = [line.rstrip() for line in text[:HEAD].split("\n") if line.strip()]
    counts = {
        language: sum(pattern.match(line) is not None for line in lines)
        for language, pattern in PATTERNS.items()
    }
    best = max(counts, key=counts.__getitem__)
    closed = sum(CLOSED.match(line) is not None for line in lines)
    shown = max(counts[best], closed if best not in ("Python", "Ruby", "Shell") else 0)
    return best if counts[best] >= FEWEST and shown >= MOSTLY * len(lines) else None


def is_code(value: Any) -> bool:
    """Whether a value is code, as far as it can be told from it alone."""
    return isinstance(value, str) and language_of(value) is not None


def sniff(head: bytes) -> bool:
    """Whether a file without a known suffix begins like code."""
    try:
        return b"\0" not in head and is_code(head.decode("utf-8", "ignore"))
    except ValueError:
        return False


def code_column(samples: Mapping[str, Sequence[Any]]) -> str | None:
    """The column that holds code: one with a known name, else the first whose cells are code."""
    shares = {name: _share(cells) for name, cells in samples.items()}
    for name, share in shares.items():
        if name.strip().lower() in NAMED and share > 0:
            return name
    return next((name for name, share in shares.items() if share > MOSTLY), None)


def _share(cells: Sequence[Any]) -> float:
    filled = [cell for cell in cells if cell is not None and cell != ""]
    return sum(map(is_code, filled)) / len(filled) if filled else 0.0
