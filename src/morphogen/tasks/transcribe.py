"""Write down what is said in sounds: text, and when each piece of it was said.

Sounds may be of any length, rate and number of channels. As `--out` says, what was said is written
as text (.txt), as captions (.srt, .vtt), or with all that is known of it (.json).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from morphogen.core.capability import CanTranscribe
from morphogen.core.result import Result
from morphogen.core.transcript import Transcript, srt, vtt
from morphogen.tasks._routes import Conditions, asked


def transcribe(
    model: CanTranscribe,
    values: Sequence[Any],
    codec: Any = None,
    *,
    cond: Conditions | None = None,  # not used: what is said is in the sound
    generator: torch.Generator,
    language: str | None = None,  # the language spoken, such as "en"; none: found
    translate: bool | None = None,  # into English, from whichever language
    num_beams: int | None = None,  # texts that are followed at once; none takes the model's
    prompt: str | None = None,  # a text before: names and words that will come
    skip_silence: bool | None = None,  # leave out what is no voice before it is heard
) -> Result:
    """Write down what is said in each sound, with the times of its segments."""
    options = asked(
        model.transcribe, language=language, translate=translate, num_beams=num_beams,
        prompt=prompt, skip_silence=skip_silence,
    )  # fmt: skip
    sounds: list[Tensor] = [codec.waveform(value).mean(0) for value in values]
    found = model.transcribe(sounds, generator=generator, **options)
    told = {
        "language": [each.language for each in found],
        "seconds": [round(len(sound) / model.sample_rate, 3) for sound in sounds],
        "text": [each.text for each in found],
        "segments": [each.to_json() for each in found],
    }
    result = Result(None, told, "transcribe", raw=[each.text for each in found])
    result.forms = _forms(found)
    return result


def _forms(found: Sequence[Transcript]) -> dict[str, str]:
    """What is written, by the suffix of its file. Captions are those of one sound."""
    forms = {".txt": "\n".join(each.text for each in found) + "\n"}
    if len(found) == 1:
        forms |= {".srt": srt(found[0].segments), ".vtt": vtt(found[0].segments)}
    return forms
