"""How far the reading of data is, where it takes long: a line that is redrawn on a terminal, else a
line now and then. On stderr, so that what a verb prints stays what it is."""

from __future__ import annotations

import sys
import time

from morphogen.cli._terminal import bare
from morphogen.data.progress import Progress

AFTER = 3.0  # seconds before anything is said
PLAIN_EVERY = 30.0  # seconds between lines where there is no terminal to redraw
WIDTH = 78


class ReadingShown:
    """Shows `Progress` as it is told."""

    def __init__(self) -> None:
        self.said = 0.0
        self.is_drawn = False

    def __call__(self, progress: Progress) -> None:
        """Show one word of it."""
        if sys.stderr.isatty():
            self._draw("" if progress.done == progress.total else progress.text(), progress)
        elif progress.seconds >= AFTER and time.monotonic() - self.said >= PLAIN_EVERY:
            print(progress.text(), file=sys.stderr, flush=True)
            self.said = time.monotonic()

    def _draw(self, text: str, progress: Progress) -> None:
        if progress.seconds < AFTER and not self.is_drawn:
            return
        ending = "" if text else "\r"
        bare(sys.stderr).write(f"\r{text:<{WIDTH}}{ending}")
        sys.stderr.flush()
        self.is_drawn = bool(text)
