"""The pages for people, below `/`: what `app.py` includes beside `routes/`.

    visitor.py      who looks, and whether they may; the token that every form carries
    page.py         templates -> pages, errors among them
    asking.py       forms -> what models are asked       saying.py    turns -> the same
    kept.py         what came of late, to look at        contest.py   blind comparisons
    pages/*.py      one file for each part, found by its place
    templates/      HTML        static/    one style sheet, htmx, a script for all, others for a few

Pages are whole without scripts where they can be; htmx exchanges parts of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


def install(app: FastAPI) -> None:
    """Add the pages to an application that has records."""
    from morphogen.serve.studio import pages

    for module in pkgutil.iter_modules(pages.__path__):
        if not module.name.startswith("_"):
            app.include_router(importlib.import_module(f"{pages.__name__}.{module.name}").router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
