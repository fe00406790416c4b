"""Whisper in the form that CTranslate2 runs fast on CPUs, by faster-whisper: sound to text.

model.bin  config.json  tokenizer.json  vocabulary.txt or .json  preprocessor_config.json

Log-mel spectra of windows of 30 seconds are encoded; the text, with marks of time, is written by a
beam search, at a higher temperature where it repeats itself or is improbable (Radford et al. 2022,
"Robust speech recognition via large-scale weak supervision"). The weights stay in the file that the
engine reads, int8 where they came so, and travel in the bundle as its bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.driver import Driver, Files, contents_of
from morphogen.core.errors import BundleError
from morphogen.core.extras import extra
from morphogen.core.spec import TensorSpec
from morphogen.core.transcript import Transcript
from morphogen.drivers._hearing import RATE, check_asked, segment, window

WEIGHTS = "model.bin"
NEEDED = (WEIGHTS, "config.json", "tokenizer.json")
OPTIONAL = ("vocabulary.json", "vocabulary.txt", "preprocessor_config.json")
SPEC = b"WhisperSpec"  # what model.bin says it is, after its version and the length of this name


class FasterWhisper(Driver):
    """Writes down what is said, with Whisper as CTranslate2 runs it."""

    sample_rate = RATE

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        files: dict[str, int],  # the model's files, and how many bytes each has
    ) -> None:
        super().__init__(spec, conditions)
        self.files = files
        self.held = Files(files)
        self._engine: tuple[str, Any] | None = None  # and the device that it runs on

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        file = folder / WEIGHTS
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return opened.read(6 + len(SPEC))[6:] == SPEC

    @classmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        if gone := [name for name in NEEDED if not (folder / name).is_file()]:
            raise BundleError("files of the model are missing", found=", ".join(gone), where=folder)
        held = Files.of(contents_of(folder, (*NEEDED, *OPTIONAL)))
        codec = window()
        model = cls(codec.spec, {}, files=held.sizes)
        model.held = held
        model.engine(folder)
        return model.eval(), codec

    def engine(self, where: object = None) -> Any:
        """The engine with these files, made when it is first asked for. Raises `BundleError`."""
        library = extra("faster_whisper", "faster-whisper", "this model is run")
        device = self.device.type
        if self._engine is None or self._engine[0] != device:
            _ctranslate2().set_log_level(logging.ERROR)  # it is told of float16 on every CPU
            contents = {name: self.held.content(name) for name in self.files}
            try:
                made = library.WhisperModel(
                    "bundle", device=device, files=contents, cpu_threads=torch.get_num_threads()
                )
            except (RuntimeError, ValueError) as error:
                said = str(error).strip().partition("\n")[0]
                raise BundleError(
                    f"the files of the model are damaged, or do not fit: {said}", where=where
                ) from error
            self._engine = device, made
        return self._engine[1]

    def transcribe(
        self,
        sounds: Sequence[Tensor],
        *,
        generator: torch.Generator,
        language: str | None = None,  # the language spoken, such as "en"; none: found
        translate: bool = False,  # into English, from whichever language
        num_beams: int = 5,  # texts that are followed at once
        prompt: str | None = None,  # a text before: names and words that will come
        skip_silence: bool = False,  # leave out what is no voice before it is heard
    ) -> list[Transcript]:
        """Sounds (N_i,) of 16,000 samples a second -> what is said in each."""
        engine = self.engine()
        check_asked(language, translate, engine.supported_languages)
        seeds = torch.randint(2**31 - 1, (len(sounds),), generator=generator).tolist()
        seed = _ctranslate2().set_random_seed
        found = []
        for sound, drawn in zip(sounds, seeds, strict=True):
            seed(drawn)  # of what is drawn where the beam search fails
            pieces, about = engine.transcribe(
                sound.cpu().float().numpy(),
                language=language,
                task="translate" if translate else "transcribe",
                beam_size=num_beams,
                initial_prompt=prompt,
                vad_filter=skip_silence,
            )
            segments = [segment(p.start, p.end, p.text, len(sound)) for p in pieces]
            found.append(Transcript(tuple(segments), about.language))
        return found


def _ctranslate2() -> Any:
    return extra("ctranslate2", "faster-whisper", "this model is run")
