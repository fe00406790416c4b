"""Whisper as `transformers` runs it: sound to text.

config.json  model.safetensors  tokenizer.json  preprocessor_config.json  generation_config.json

The log-mel spectrum of a window of 30 seconds is encoded; the text, with marks of time, is written
by a beam search. What is longer goes window by window, each from where the last segment of the one
before it ended (Radford et al. 2022, "Robust speech recognition via large-scale weak supervision").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from morphogen.core.codec import Codec
from morphogen.core.driver import Driver, Files, contents_of
from morphogen.core.errors import RefusedPair
from morphogen.core.spec import TensorSpec
from morphogen.core.transcript import Transcript
from morphogen.drivers._hearing import RATE, check_asked, segment, window
from morphogen.drivers._library import (
    built,
    config_of,
    configured,
    from_files,
    loaded,
    transformers,
    vocabulary_in,
)

BESIDE = ("preprocessor_config.json", "processor_config.json", "generation_config.json")
LONGEST = 30  # seconds that are heard at once


class Whisper(Driver):
    """Writes down what is said, with Whisper as `transformers` runs it."""

    model_types: ClassVar[tuple[str, ...]] = ("whisper",)
    sample_rate = RATE

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        config: dict[str, Any],  # config.json of the model
        files: dict[str, int],  # vocabularies and their like, and how many bytes each has
    ) -> None:
        super().__init__(spec, conditions)
        self.config, self.files = config, files
        library = transformers()
        self.model: Any = built(
            library.WhisperForConditionalGeneration, configured(library.WhisperConfig, config)
        )
        self.held = Files(files)

    @classmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        config, codec, library = config_of(folder), window(), transformers()
        held = Files.of(vocabulary_in(folder) | contents_of(folder, BESIDE))
        made = configured(library.WhisperConfig, config)
        found = loaded(library.WhisperForConditionalGeneration, folder, "model", made)
        model = cls(codec.spec, {}, config=config, files=held.sizes)
        model.model.load_state_dict(found.state_dict())
        model.held = held
        model.processor()  # which says what is missing
        return model.eval(), codec

    def processor(self) -> Any:
        """What makes spectra of sounds, and texts of tokens. Raises `BundleError`."""
        return self.held.made(self._read)

    def _read(self, folder: Path) -> Any:
        """The processor that is in a folder; how texts are written, which is there as well."""
        library = transformers()
        found = from_files(library.WhisperProcessor, folder)
        if (folder / "generation_config.json").is_file():
            self.model.generation_config = library.GenerationConfig.from_pretrained(folder)
        return found

    def transcribe(
        self,
        sounds: Sequence[Tensor],
        *,
        generator: torch.Generator,
        language: str | None = None,  # the language spoken, such as "en"; none: found
        translate: bool = False,  # into English, from whichever language
        num_beams: int = 1,  # texts that are followed at once
    ) -> list[Transcript]:
        """Sounds (N_i,) of 16,000 samples a second -> what is said in each."""
        processor, told = self.processor(), self.model.generation_config
        multilingual = bool(getattr(told, "is_multilingual", False))
        known = getattr(told, "lang_to_id", None) or {"<|en|>": 0}
        check_asked(
            language, translate, [n.strip("<|>") for n in known] if multilingual else ["en"]
        )
        if getattr(told, "no_timestamps_token_id", None) is None:
            raise RefusedPair(
                "generation_config.json does not say which tokens are marks of time",
                found="no no_timestamps_token_id",
                hint="take generation_config.json from where the model came from, and import again",
            )
        asked: dict[str, Any] = {"num_beams": num_beams}
        if multilingual:
            task = "translate" if translate else "transcribe"
            asked |= {"task": task, "language": language}
        return [self._transcript(sound, processor, asked, multilingual) for sound in sounds]

    def _transcript(
        self, sound: Tensor, processor: Any, asked: dict[str, Any], multilingual: bool
    ) -> Transcript:
        is_long = len(sound) > LONGEST * RATE
        heard = processor.feature_extractor(
            sound.cpu().float().numpy(),
            sampling_rate=RATE,
            return_tensors="pt",
            return_attention_mask=True,
            **({"truncation": False, "padding": "longest"} if is_long else {}),
        )
        heard = {name: value.to(self.device) for name, value in heard.items()}
        given = dict(asked)
        if multilingual and given["language"] is None:
            given["language"] = self._language(heard["input_features"], processor)
        told = self.model.generate(**heard, **given, return_timestamps=True, return_segments=True)
        segments = []
        for piece in told["segments"][0]:
            text = processor.tokenizer.decode(piece["tokens"], skip_special_tokens=True)
            start, end = (float(piece[name]) for name in ("start", "end"))
            segments.append(segment(start, end, text, len(sound)))
        return Transcript(tuple(segments), given.get("language") or "en")

    def _language(self, spectrum: Tensor, processor: Any) -> str:
        """The language that the first window is heard in."""
        token = int(self.model.detect_language(spectrum[..., :3000])[0])
        return str(processor.tokenizer.convert_ids_to_tokens(token)).strip("<|>")
