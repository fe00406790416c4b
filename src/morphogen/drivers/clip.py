r"""CLIP as `transformers` runs it: pictures and texts in one space.

config.json  model.safetensors  tokenizer.json  preprocessor_config.json

    f(x) = W_p encoder(x) / |..|,    g(y) = W_t encoder(y) / |..|
    p(text j | picture) = softmax_j of exp(tau) f(x) . g(y_j)

Two encoders were trained so that a picture lies near the text that belongs to it (Radford et al.
2021, "Learning transferable visual models from natural language supervision"). So it tells classes
apart that it is given by name, with no example of any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from morphogen.core import discover
from morphogen.core.border import read_json
from morphogen.core.codec import Codec
from morphogen.core.driver import Driver, Files
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.drivers._library import (
    built,
    config_of,
    configured,
    from_files,
    loaded,
    transformers,
    vocabulary_in,
)

# Of the pictures that it was trained on, where no file says otherwise.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PIXELS = "preprocessor_config.json"
SCALES = {"image_mean?": [float], "image_std?": [float]}


class Clip(Driver):
    """Embeds pictures and texts in one space, with CLIP as `transformers` runs it."""

    model_types: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        config: dict[str, Any],  # config.json of the model
        files: dict[str, int],  # the vocabulary, and how many bytes each file has
        mean: list[float],  # of the values of each colour, from 0 to 1
        std: list[float],  # their standard deviation
    ) -> None:
        super().__init__(spec, conditions)
        self.config, self.files, self.mean, self.std = config, files, mean, std
        library = transformers()
        self.model: Any = built(library.CLIPModel, configured(library.CLIPConfig, config))
        self.held = Files(files)

    @classmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        config, library = config_of(folder), transformers()
        made = configured(library.CLIPConfig, config)
        found = loaded(library.CLIPModel, folder, "model", made)
        codec = pictures_of(made.vision_config.image_size)
        told = read_json(folder / PIXELS, SCALES) if (folder / PIXELS).is_file() else {}
        held = Files.of(vocabulary_in(folder))
        model = cls(
            codec.spec, {}, config=config, files=held.sizes,
            mean=told.get("image_mean", list(MEAN)), std=told.get("image_std", list(STD)),
        )  # fmt: skip
        model.model.load_state_dict(found.state_dict())
        model.held = held
        model.tokenizer()  # which says what is missing
        return model.eval(), codec

    def tokenizer(self) -> Any:
        """What makes tokens of texts. Raises `BundleError`."""
        return self.held.made(partial(from_files, transformers().CLIPTokenizer))

    @property
    def text_scale(self) -> float:
        """exp(tau), by which inner products of features become logits."""
        return float(self.model.logit_scale.detach().exp())

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B, D), of length 1."""
        mean, std = (x.new_tensor(each)[:, None, None] for each in (self.mean, self.std))
        pixels = ((x + 1) / 2 - mean) / std
        found = self.model.get_image_features(pixel_values=pixels)
        return _unit(found)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """M texts -> (M, D), of length 1. Raises `DataError` for one that is too long."""
        tokens = self.tokenizer()(list(texts), padding=True, return_tensors="pt")
        most = self.model.config.text_config.max_position_embeddings
        for text, mask in zip(texts, tokens["attention_mask"], strict=True):
            if (length := int(mask.sum())) > most:
                raise DataError(
                    "the text is longer than the model reads",
                    found=f"{length} tokens: {text[:60]}", expected=f"{most} at most",
                )  # fmt: skip
        given = {name: value.to(self.device) for name, value in tokens.items()}
        found = self.model.get_text_features(**given)
        return _unit(found)


def _unit(found: Any) -> Tensor:
    """What an encoder found, of length 1."""
    return F.normalize(getattr(found, "pooler_output", found), dim=-1)


def pictures_of(size: int) -> Codec:
    """The codec of colour pictures that are so wide and so high."""
    codec: Codec = discover.find("modality", "image")(size=size, mode="RGB")
    codec.spec = TensorSpec("real", (3, size, size), levels=256)
    return codec
