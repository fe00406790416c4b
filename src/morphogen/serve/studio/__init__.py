"""The pages for people, below `/`: what `app.py` includes beside `routes/`.

    visitor.py      who looks, and whether they may; the token that every form carries
    page.py         templates -> pages, errors among them
    asking.py       forms -> what models are asked       saying.py    turns -> the same
    kept.py         what came of late, to look at        contest.py   blind comparisons
    pages/*.py      one file for each part, found by its place
    deeds.py        forms of one button that stop something, or let it go on
    templates/      HTML        static/    one style sheet, htmx, a script for all, others for a few

Their look is that of all pages, `evaluation/page.css`, to which the style sheet here adds. Pages
are whole without scripts where they can be; htmx exchanges parts of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from morphogen import evaluation

STATIC = Path(__file__).parent / "static"
LOOK = Path(evaluation.__file__).parent / "page.css"


def install(app: FastAPI) -> None:
    """Add the pages to an application that has records."""
    from morphogen.serve.studio import pages

    for module in pkgutil.iter_modules(pages.__path__):
        if not module.name.startswith("_"):
            app.include_router(importlib.import_module(f"{pages.__name__}.{module.name}").router)

    @app.get("/static/page.css", include_in_schema=False)
    async def look() -> FileResponse:
        """The look of all pages."""
        return FileResponse(LOOK)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
