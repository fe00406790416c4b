"""Pictures of text, read by tesseract where that is installed: `apt install tesseract-ocr`."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import Any

from morphogen.core.errors import DataError

DOTS = 200  # of an inch, at which a page is drawn
PATIENCE = 180.0  # seconds for a page


def can_read() -> bool:
    """Whether the program is there."""
    return shutil.which("tesseract") is not None


def lines_of(page: Any, place: str) -> list[str]:
    """The lines of a page of pdfplumber that is a picture; an empty one between paragraphs. Raises
    `DataError` where the program fails."""
    drawn = io.BytesIO()
    page.to_image(resolution=DOTS).original.convert("L").save(drawn, "PNG")
    command = [shutil.which("tesseract") or "tesseract", "stdin", "stdout", "--psm", "1"]
    try:
        told = subprocess.run(
            command, input=drawn.getvalue(), capture_output=True, timeout=PATIENCE, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise DataError(
            "tesseract does not read this scan", where=f"{place}, page {page.page_number}",
            found=str(error)[:200],
        ) from error  # fmt: skip
    return told.stdout.decode("utf-8", "replace").replace("\f", "").splitlines()
