r"""Stable Diffusion and its likes as `diffusers` runs them: text to picture, and pictures changed.

model_index.json  unet/  vae/  text_encoder/  tokenizer/  scheduler/

Pictures are encoded by a VAE; a network removes noise from the codes, told of a text through
cross-attention (Rombach et al. 2022, "High-resolution image synthesis with latent diffusion
models"). `guidance` w goes from what it finds without the text to what it finds with it, w times
as far (Ho & Salimans 2022). One set of modules serves three of the library's pipelines:

    sample    from noise                                         text to picture
    vary      from the codes of a picture, noised so far as      image to image
              `strength` says (SDEdit, Meng et al. 2022)
    fill      as sample, the known part put back at each step    inpainting

Items are drawn one after the other, so that many take no more memory than one.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from morphogen.core.border import read_json
from morphogen.core.capability import Conditions
from morphogen.core.codec import Codec
from morphogen.core.conditioning import present
from morphogen.core.driver import Driver, Files
from morphogen.core.errors import BundleError, RecipeError, did_you_mean
from morphogen.core.spec import TensorSpec
from morphogen.drivers._library import (
    cleaned,
    diffusers,
    from_files,
    transformers,
)
from morphogen.drivers._parts import (
    END,
    INDEX,
    MAY_BE_ABSENT,
    NEGATIVE,
    PIPELINES,
    PROMPT,
    READERS,
    Parts,
    config_in,
    items_of,
    kind_of,
    network_of,
)


class StableDiffusion(Driver):
    """Text to picture, image to image and inpainting, with pipelines of `diffusers`."""

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        kind: str,  # StableDiffusion or StableDiffusionXL
        parts: dict[str, Any],  # networks by name: the class and the config of each
        readers: dict[str, str],  # tokenizers and their like by name: the class of each
        scheduler: dict[str, Any],  # its class and config
        settings: dict[str, Any],  # of the pipeline, as model_index.json has them
        files: dict[str, int],  # vocabularies, and how many bytes each has
    ) -> None:
        super().__init__(spec, conditions)
        self.kind, self.parts, self.readers = kind, parts, readers
        self.scheduler, self.settings, self.files = scheduler, settings, files
        if kind not in PIPELINES:
            raise ValueError(f"{kind} is none of {', '.join(PIPELINES)}")
        self.networks = nn.ModuleDict({name: network_of(told) for name, told in parts.items()})
        self.held = Files(files)
        self._pipelines: dict[str, Any] = {}
        self._pipelines_of = ""  # the digest of the files that they were made with
        unet, vae = config_in(self.networks["unet"]), config_in(self.networks["vae"])
        factor = 2 ** (len(vae.block_out_channels) - 1)
        codes = (vae.latent_channels, *(size // factor for size in spec.space))
        self.latent_spec = TensorSpec("real", codes)
        if unet.in_channels != vae.latent_channels:
            # It is told of a picture and of what is hidden in it, and does nothing without.
            self.sample = self.vary = None  # type: ignore[assignment]
            fills = "this model was made to fill a hidden part of pictures: morphogen task fill"
            self.instead = dict.fromkeys(("CanSample", "CanVary"), fills)

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        return (folder / INDEX).is_file()

    @classmethod
    def opened(cls, folder: Path) -> tuple[Driver, Codec]:
        index = read_json(folder / INDEX, {"_class_name": str})
        kind, parts = kind_of(index["_class_name"], folder), Parts(folder, index)
        settings = {name: value for name, value in index.items() if isinstance(value, bool)}
        codec, conditions = items_of(parts.loaded)
        held = Files.of(parts.contents)
        model = cls(
            codec.spec, conditions, kind=kind, parts=parts.networks, readers=parts.readers,
            scheduler=parts.scheduler, settings=settings, files=held.sizes,
        )  # fmt: skip
        for name, network in parts.loaded.items():
            model.networks[name].load_state_dict(network.state_dict())
        model.held = held
        model.pipeline("fill")  # which says what does not fit
        return model.eval(), codec

    # -- what it can do ----------------------------------------------------------------------------

    def sample(
        self,
        num: int,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        num_steps: int = 50,  # of the scheduler
        guidance: float = 7.5,  # towards the text; 1 is none
    ) -> Tensor:
        """`num` pictures (num, 3, H, W) of the texts in `cond`."""
        height, width = self.spec.space
        asked = {"num_inference_steps": num_steps, "guidance_scale": guidance}
        given = [{**told, "height": height, "width": width} for told in self._told(cond, num)]
        return self._drawn("sample", given, generator, asked)

    def vary(
        self,
        x: Tensor,
        strength: float,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        num_steps: int = 50,  # of a whole path, of which the share `strength` is gone
        guidance: float = 7.5,  # towards the text; 1 is none
    ) -> Tensor:
        """Pictures (B, 3, H, W), noised so far as `strength` says, and drawn anew from there."""
        if int(num_steps * strength) < 1:
            raise RecipeError(
                "so little strength leaves no step to take",
                found=f"strength={strength}, num_steps={num_steps}",
                expected=f"num_steps of at least {-int(-1 // strength)}",
            )
        asked = {"num_inference_steps": num_steps, "guidance_scale": guidance, "strength": strength}
        told = self._told(cond, len(x))
        given = [{**t, "image": _zero_to_one(row)} for t, row in zip(told, x, strict=True)]
        return self._drawn("vary", given, generator, asked)

    def fill(
        self,
        x: Tensor,
        known: Tensor,
        *,
        cond: Conditions | None = None,
        generator: torch.Generator,
        num_steps: int = 50,  # of the scheduler
        guidance: float = 7.5,  # towards the text; 1 is none
    ) -> Tensor:
        """Pictures (B, 3, H, W), drawn anew where `known` is False in any colour."""
        height, width = self.spec.space
        known = known.expand_as(x)
        hidden = (~known).any(1, keepdim=True).to(x)
        asked = {"num_inference_steps": num_steps, "guidance_scale": guidance, "strength": 1.0}
        told = self._told(cond, len(x))
        given = [
            {**t, "image": _zero_to_one(row), "mask_image": mask[None],
             "height": height, "width": width}
            for t, row, mask in zip(told, x, hidden, strict=True)
        ]  # fmt: skip
        drawn = self._drawn("fill", given, generator, asked)
        return torch.where(known, x, drawn.to(x))

    def encode(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) -> the modes of their codes, scaled to about variance 1."""
        vae: Any = self.networks["vae"]
        codes: Tensor = vae.encode(x).latent_dist.mode()
        return codes * vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Codes -> pictures (B, 3, H, W)."""
        vae: Any = self.networks["vae"]
        x: Tensor = vae.decode(z / vae.config.scaling_factor).sample
        return x.clamp(-1, 1)

    # -- the library's part ------------------------------------------------------------------------

    def pipeline(self, work: str) -> Any:
        """The library's pipeline for "sample", "vary" or "fill". Raises `BundleError`."""
        if self._pipelines_of != (digest := self.held.digest()):
            self._pipelines, self._pipelines_of = {}, digest
        if work not in self._pipelines:
            made_of = getattr(diffusers(), PIPELINES[self.kind][work])
            asks = inspect.signature(made_of.__init__).parameters
            parts = {**self.networks, **self._read(), "scheduler": self._scheduler()}
            given = {n: parts.get(n) for n in asks if n in parts or n in MAY_BE_ABSENT}
            given |= {n: value for n, value in self.settings.items() if n in asks}
            if "add_watermarker" in asks:
                given["add_watermarker"] = False  # what is saved is marked by the codec
            with _as_told(f"the parts make no {made_of.__name__}"):
                made = made_of(**given)
            made.set_progress_bar_config(disable=True)
            self._pipelines[work] = made
        return self._pipelines[work]

    def _drawn(
        self,
        work: str,
        given: Sequence[Mapping[str, Any]],
        generator: torch.Generator,
        asked: Mapping[str, Any],
    ) -> Tensor:
        """One picture for each mapping of arguments, from the one generator, in order."""
        pipe, found, hidden = self.pipeline(work), [], 0
        _tell_what_is_cut(pipe, {told[PROMPT] for told in given})
        for told in given:
            with _as_told("the pipeline does not run with its parts"):
                out = pipe(**told, **asked, generator=generator, output_type="pt")
            hidden += sum(getattr(out, "nsfw_content_detected", None) or ())
            found.append(out.images.float() * 2 - 1)
        if hidden:
            warnings.warn(
                f"the model's own checker blackened {hidden} of {len(found)} pictures", stacklevel=4
            )
        return torch.cat(found) if found else torch.empty(0, *self.spec.shape)

    def _told(self, cond: Conditions | None, num: int) -> list[dict[str, str]]:
        """The texts that each item is drawn with, as a pipeline takes them."""
        texts = {name: [""] * num for name in (PROMPT, NEGATIVE)}
        for name, value in (cond or {}).items():
            there = present(value, self.conditions[name])
            texts[name] = [
                _text(row) if known else "" for row, known in zip(value, there, strict=True)
            ]
        rows = zip(texts[PROMPT], texts[NEGATIVE], strict=True)
        return [{PROMPT: p, **({NEGATIVE: n} if n else {})} for p, n in rows]

    def _read(self) -> dict[str, Any]:
        with self.held.unpacked() as folder:
            return {
                name: from_files(getattr(transformers(), made_of), folder / name)
                for name, made_of in self.readers.items()
                if made_of in READERS.values()
            }

    def _scheduler(self) -> Any:
        library = diffusers()
        made_of: Any = getattr(library, self.scheduler["class"], None)
        is_one = inspect.isclass(made_of) and issubclass(made_of, library.SchedulerMixin)
        if not is_one:
            known = [name for name in dir(library) if name.endswith("Scheduler")]
            raise BundleError(
                f"there is no such scheduler.{did_you_mean(self.scheduler['class'], known)}",
                found=self.scheduler["class"], expected="one of diffusers",
            )  # fmt: skip
        with _as_told("the scheduler is damaged"):
            return made_of.from_config(cleaned(self.scheduler["config"]))


@contextmanager
def _as_told(what: str) -> Iterator[None]:
    """What a library has to say against what a file told it, as a `BundleError`."""
    try:
        yield
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise BundleError(f"{what}: {said}", found=type(error).__name__) from error


def _tell_what_is_cut(pipe: Any, prompts: set[str]) -> None:
    """Warn of prompts whose end a pipeline leaves out, for there is no room for it."""
    tokenizer = pipe.tokenizer or pipe.tokenizer_2
    most = tokenizer.model_max_length
    for prompt in sorted(prompts):
        if (num := len(tokenizer(prompt).input_ids)) > most:
            warnings.warn(
                f"the prompt has {num} tokens, its start and end among them; the model reads "
                f"{most}, and leaves the rest out: {prompt[:60]}",
                stacklevel=5,
            )


def _text(tokens: Tensor) -> str:
    """The text that bytes make, up to their end."""
    values: list[int] = tokens.tolist()
    return bytes(values[: values.index(END)] if END in values else values).decode(errors="replace")


def _zero_to_one(x: Tensor) -> Tensor:
    """A picture (C, H, W) in [-1, 1] as the library takes it: (1, C, H, W) in [0, 1]."""
    return ((x[None] + 1) / 2).clamp(0, 1)
