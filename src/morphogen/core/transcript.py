"""What was said in a sound, and when: text in segments with their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A piece of what was said, from `start` to `end` in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """All of what was said, in order, and the language it was heard in ("en")."""

    segments: tuple[Segment, ...]
    language: str

    @property
    def text(self) -> str:
        """Without times."""
        return "".join(segment.text for segment in self.segments).strip()

    def to_json(self) -> list[dict[str, Any]]:
        """The segments, as JSON."""
        return [asdict(segment) for segment in self.segments]


def srt(segments: Sequence[Segment]) -> str:
    """Captions as SubRip has them: numbered, 00:00:01,500."""
    blocks = [
        f"{number}\n{_time(each.start, ',')} --> {_time(each.end, ',')}\n{each.text.strip()}\n"
        for number, each in enumerate(segments, 1)
    ]
    return "\n".join(blocks)


def vtt(segments: Sequence[Segment]) -> str:
    """Captions as WebVTT has them, which browsers show: 00:00:01.500."""
    blocks = [
        f"{_time(each.start, '.')} --> {_time(each.end, '.')}\n{each.text.strip()}\n"
        for each in segments
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _time(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
