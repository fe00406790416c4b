"""Pictures: grey, RGB or RGBA, of 8 or 16 bits, as real grids.

A pixel value v in 0 .. levels-1 becomes x = 2 v / (levels - 1) - 1 in [-1, 1], and back by
rounding: a picture that already has the fitted size survives encode and decode unchanged.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from morphogen.core.border import SIZE, check_shape
from morphogen.core.codec import Codec, Fingerprint, Item, Problem, Recognition, Report, Text
from morphogen.core.errors import DataError
from morphogen.core.spec import TensorSpec
from morphogen.modalities.image import coarse as rough
from morphogen.modalities.image import controls
from morphogen.modalities.image import fingerprint as prints
from morphogen.modalities.image import watermark as waves
from morphogen.modalities.image.convert import (
    CHANNELS,
    Form,
    Lattice,
    filled,
    from_levels,
    raw,
    to_array,
    to_levels,
    unscaled,
    white_of,
)
from morphogen.modalities.image.defects import find_defects
from morphogen.modalities.image.grid import draw_map, write_folder, write_pictures
from morphogen.modalities.image.marks import mark
from morphogen.modalities.image.opening import WANTS, counted, open_picture, pictures
from morphogen.modalities.image.pages import DAMAGES, as_html, damaged
from morphogen.modalities.image.shapes import Shapes, no_shapes_for, proposed, tell_shapes
from morphogen.sources import Labelled, read_regular, recognise, records, texts

LARGEST = 64  # the short side taken when the user names none: what CPUs train in minutes
STEP = 8  # sizes are multiples of this, so that networks can halve them three times
WIDER_FROM = 0.1  # colour, alpha or 16 bits in this part of the pictures makes all have them


class Image(Codec):
    """Pictures from folders, archives, idx, .npz, .npy, CSV, Parquet and Hugging Face datasets."""

    suffix: ClassVar[str] = ".png"
    key_radius: ClassVar[int] = prints.KEY_RADIUS
    same_from: ClassVar[float] = prints.SAME_FROM
    coarse_from: ClassVar[float] = rough.FROM
    derives: ClassVar[tuple[str, ...]] = ("edges", "coarse")
    unvaried: ClassVar[str] = "mirror=no"

    def __init__(
        self,
        *,
        size: int | None = None,  # pixels of the short side; none: from the data, at most 64
        mode: Literal["auto", "L", "RGB", "RGBA"] = "auto",  # grey, colour, colour with alpha
        resize: Literal["crop", "pad", "stretch"] = "crop",  # how other aspect ratios are made fit
        shapes: tuple[str, ...] = (),  # 32x32,40x24: each takes the nearest; none: one for all
        mirror: bool = False,  # training sees half of them mirrored: where left and right are alike
    ) -> None:
        if size is not None and not 1 <= size <= 4096:
            raise DataError("the size does not fit", found=size, expected="1 to 4096 pixels")
        if size is not None and shapes:
            raise DataError(
                "shapes say how large pictures are", found=f"size={size} beside them",
                expected="one or the other", hint="leave out modality.size",
            )  # fmt: skip
        self.size, self.mode, self.resize, self.mirror = size, mode, resize, mirror
        self.shapes = Shapes(shapes) if shapes else None
        self.white: int | None = None  # the value that is white, where no picture uses its depth
        self.facts: dict[str, Any] = {}  # what fit chose, and how many pictures that changes

    # -- reading ---------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, source: Any) -> Recognition | None:
        return recognise(source, WANTS)

    @classmethod
    def recognises_cells(cls, values: Sequence[Any]) -> Recognition | None:
        """Pictures: Pillow's, or arrays of two or three axes."""
        for value in values:
            array = isinstance(value, np.ndarray) and value.ndim in {2, 3}
            if not (array or isinstance(value, Pillow.Image)):
                return None
        return Recognition(0.9, f"{len(values):,} pictures") if values else None

    def parse(self, text: str) -> Any:
        """A picture by the name of its file."""
        return self.read_inputs(text)[0].value

    def read(self, source: Any, report: Report) -> Iterator[Item]:
        found = records(source, WANTS, report)
        limit = self.size or (min(map(min, self.shapes.sizes)) if self.shapes else LARGEST)
        items = counted(pictures(found, report, limit), report)
        yield from items if self.shapes is None else tell_shapes(items, self.shapes, report)

    def read_arrays(
        self, parts: Sequence[tuple[Any, Any, str | None]], report: Report
    ) -> Iterator[Item]:
        """The items of (array, labels, split) triples."""
        yield from self.read([Labelled(*part) for part in parts], report)

    # -- fitting ---------------------------------------------------------------------------------

    def fit(self, items: Iterable[Item]) -> Image:
        sizes: Counter[tuple[int, int]] = Counter()
        modes: Counter[str] = Counter()
        depths: Counter[str] = Counter()
        lattice, largest = Lattice(), 0
        for item in items:
            value = raw(item.value)
            form = Form.of(value)
            sizes[form.height, form.width] += 1
            modes[form.mode] += 1
            depths[form.depth] += 1
            if form.depth == "float32":
                lattice.see(value)
            else:
                largest = max(largest, int(np.max(value)))
        count = sum(sizes.values())
        if not count:
            raise DataError("there are no pictures to learn from", expected="at least one")
        self.facts = {}
        height, width = self.shapes.canvas if self.shapes else self._choose_size(sizes)
        mode = self._choose_mode(modes, count)
        levels = self._choose_levels(depths, lattice, mode, count)
        self.white = white_of(largest, list(depths))
        if self.white is not None:
            self.facts["white"] = f"{self.white:,} is taken for white: no picture has more"
            levels = self.white + 1
        channels = CHANNELS[mode] + (self.shapes is not None)  # with that of frames
        self.spec = TensorSpec("real", (channels, height, width), levels=levels)
        return self

    def _choose_size(self, sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
        """(H, W): the data's own when all pictures share one and it is small; else see `size`."""
        shared = next(iter(sizes)) if len(sizes) == 1 else None
        short = self.size
        if shared and short in (None, min(shared)) and (short or max(shared) <= LARGEST):
            return shared
        if short is None:
            every = [min(size) for size, count in sizes.items() for _ in range(count)]
            rounded = round(statistics.median(every) / STEP) * STEP
            short = min(LARGEST, max(STEP, rounded))
        chosen = (short, short)
        if shared:
            long = max(short, int(max(shared) * short / min(shared)) // STEP * STEP)
            chosen = (short, long) if shared[0] < shared[1] else (long, short)
        changed = sum(count for size, count in sizes.items() if size != chosen)
        total = sum(sizes.values())
        if changed:
            how = {
                "crop": "the short side is resized, then the centre is cut out",
                "pad": "the long side is resized, then white is added",
                "stretch": "both sides are resized",
            }[self.resize]
            smaller = sum(n for size, n in sizes.items() if min(size) < min(chosen))
            self.facts["resized"] = (
                f"{changed:,} of {total:,} training pictures become {chosen[1]}x{chosen[0]}: {how}"
                + (f"; {smaller:,} of them are enlarged" if smaller else "")
            )
            several = proposed(list(sizes.elements()), short, STEP)
            if len(several) > 1:
                self.facts["shapes"] = f"kept by --set modality.shapes={','.join(several)}"
        return chosen

    def _choose_mode(self, modes: Counter[str], count: int) -> str:
        """The widest mode that a tenth of the pictures have."""
        if self.mode == "auto":
            alpha = modes["RGBA"] / count
            colour = modes["RGB"] / count + alpha
            mode = "RGBA" if alpha >= WIDER_FROM else "RGB" if colour >= WIDER_FROM else "L"
        else:
            mode = self.mode
        if others := {name: n for name, n in modes.items() if name != mode}:
            listed = ", ".join(f"{n:,} {name}" for name, n in others.items())
            on_white = " (transparency laid on white)" if others.get("RGBA") else ""
            self.facts["mode_changed"] = f"{listed} pictures become {mode}{on_white}"
        return mode

    def _choose_levels(
        self, depths: Counter[str], lattice: Lattice, mode: str, count: int
    ) -> int | None:
        """256, 65536 for grey pictures of 16 bits, fewer for coarse arrays, None if continuous."""
        if depths["float32"] == count:
            return lattice.levels()
        deep = depths["uint16"] / count >= WIDER_FROM and mode == "L"
        others = count - depths["uint16" if deep else "uint8"]
        if others:
            self.facts["depth_changed"] = f"{others:,} pictures become {16 if deep else 8}-bit"
        return 65536 if deep else 256

    # -- encoding --------------------------------------------------------------------------------

    def encode(self, item: Item) -> Tensor:
        return self.encode_many([item])[0]

    def encode_many(self, items: Sequence[Item]) -> Tensor:
        if not items:
            return torch.empty(0, *self._fitted().shape)
        values = [filled(item.value, self.white) for item in items]
        if self.shapes is None:
            return self._sized(values, *self._fitted().space)
        forms = [Form.of(value) for value in values]
        numbers = [self.shapes.nearest(form.height, form.width) for form in forms]
        grey = float(self._reals(self._indices(np.full(1, 0.5, np.float32))))
        x = torch.empty(len(items), *self._fitted().shape)
        for number in set(numbers):
            index = [i for i, own in enumerate(numbers) if own == number]
            sized = self._sized([values[i] for i in index], *self.shapes.sizes[number])
            x[index] = self.shapes.laid(sized, number, grey)
        return x

    def _sized(self, values: Sequence[Any], height: int, width: int) -> Tensor:
        """Raw pictures of one size: (B, C, H, W)."""
        channels = self._fitted().channels - (self.shapes is not None)
        mode = next(name for name, count in CHANNELS.items() if count == channels)
        shape = (height, width) if channels == 1 else (height, width, channels)
        depths = {value.dtype if isinstance(value, np.ndarray) else None for value in values}
        ready = len(depths) == 1 and None not in depths
        if ready and all(value.shape == shape for value in values):  # nothing to resize: one copy
            stacked = self._indices(np.stack(list(map(raw, values))))
            stacked = stacked.reshape(-1, height, width, channels)  # (B, H, W, C)
        else:
            arrays = [to_array(value, height, width, mode, self.resize) for value in values]
            stacked = np.stack([self._indices(array) for array in arrays])
        return self._reals(stacked).permute(0, 3, 1, 2).contiguous()  # (B, C, H, W)

    def _indices(self, array: np.ndarray) -> np.ndarray:
        return to_levels(array, self.spec.levels)

    def _reals(self, index: np.ndarray) -> Tensor:
        """Levels, or values in [0, 1] of continuous data -> values in [-1, 1]."""
        x = torch.from_numpy(index.astype(np.int32) if index.dtype == np.uint16 else index)
        return x * 2 - 1 if self.spec.levels is None else self.spec.dequantise(x)

    def derived(self, name: str, value: Any) -> Pillow.Image:
        """A picture's edges, or the same picture, coarse; see `controls.py`."""
        if self.shapes is not None:
            raise no_shapes_for(name)
        x = self.encode(Item(value))
        if name == "edges":
            return Pillow.fromarray((255 * controls.edges(x)).round().byte().numpy())
        return self._shown(controls.coarse(x))

    def decode(self, x: Tensor) -> Pillow.Image:
        self._fitted().check(x[None], "picture")
        return self._shown(x if self.shapes is None else self.shapes.cut(x))

    def _shown(self, x: Tensor) -> Pillow.Image:
        """(C, H, W), of whatever height and width."""
        spec = self._fitted()
        values = (x.detach().cpu().float().clamp(-1, 1) + 1) / 2
        if spec.levels is not None:
            values = spec.quantise(x.detach().cpu().float())
        index = values.permute(1, 2, 0).numpy()  # (H, W, C)
        return unscaled(index) if self.white is not None else from_levels(index, spec.levels)

    def defects(self, source: Any) -> Iterator[Problem]:
        """Odd files and rows; see `defects.py`."""
        yield from find_defects(source)

    def texts(self, source: Any) -> Iterator[Text]:
        """Captions, other cells, and names of files and folders."""
        yield from texts(source, WANTS)

    # -- varying ---------------------------------------------------------------------------------

    @property
    def variants(self) -> int:
        """Two, where a mirrored picture is one of the kind; else one."""
        return 1 + self.mirror

    @property
    def as_it_is(self) -> int:
        """The first."""
        return 0

    def augmented(self, x: Tensor, shares: Tensor) -> Tensor:
        """(B, C, H, W), those of a share from one half up mirrored."""
        mirrored = (shares * self.variants >= 1).view(-1, 1, 1, 1)
        return torch.where(mirrored, x.flip(-1), x)

    # -- recognising -----------------------------------------------------------------------------

    def fingerprint(self, item: Item) -> Fingerprint | None:
        """A perceptual hash; see `fingerprint.py`."""
        return prints.fingerprint(item.value)

    def likeness(self, first: Tensor, second: Tensor, key: Tensor) -> Tensor:
        """The best correlation of details over small crops."""
        return prints.likeness(first, second, key)

    def coarse(self, detail: Tensor) -> Tensor:
        """The coarse details of thumbnails."""
        return rough.coarse(detail)

    def coarse_views(self, detail: Tensor) -> Tensor:
        """The same of their middle, and of its mirror image."""
        return rough.coarse_views(detail)

    def promising(
        self, first: Tensor, second: Tensor, coarse: Tensor, near: rough.Near
    ) -> np.ndarray:
        """The pairs that fits of coarse details do not rule out."""
        return rough.promising(first, second, coarse, near)

    # -- writing ---------------------------------------------------------------------------------

    def write(self, values: Sequence[Any], path: Path, columns: int | None = None) -> Path:
        return write_pictures([self._picture(value) for value in values], Path(path), columns)

    def _picture(self, value: Any) -> Pillow.Image:
        """A value as a Pillow picture that uses its depth, for writing."""
        value = filled(value, self.white)
        if isinstance(value, Pillow.Image):
            return value
        array = value[..., None] if value.ndim == 2 else value
        levels = {"uint8": 256, "uint16": 65536}.get(value.dtype.name)
        return from_levels(array, levels)

    def write_part(
        self,
        values: Sequence[Any],
        path: Path,
        first: int,
        total: int,
        columns: int | None = None,
    ) -> Path:
        """In a folder the numbers of the files go on."""
        if path.suffix:
            return super().write_part(values, path, first, total, columns)
        return write_folder([self._picture(value) for value in values], path, first, total)

    def html(self, values: Sequence[Any], columns: int | None = None) -> str:
        return as_html([self._picture(value) for value in values], columns)

    def damages(self) -> Mapping[str, Sequence[float]]:
        """JPEG, of what it can hold."""
        channels = self.spec.channels - (self.shapes is not None)
        fits = self.spec.levels == 256 and channels in (1, 3) and self.white is None
        return DAMAGES if fits else {}

    def damage(self, value: Any, words: str, strength: float, draw: torch.Generator) -> Any:
        """The picture after it was saved and opened again."""
        return damaged(self._picture(value), words, strength)

    def write_map(self, values: Sequence[Any], positions: Tensor, path: Path) -> Path:
        return draw_map([self._picture(value) for value in values], positions, Path(path))

    def mark(self, path: Path, facts: Mapping[str, str], numbers: Sequence[int]) -> None:
        """Put `facts` into PNG and JPEG files."""
        mark(Path(path), facts, numbers)

    def watermarked(self, value: Any, key: bytes) -> Any:
        """The picture with keyed waves in it; see `watermark.py`."""
        return waves.watermarked(filled(value, self.white), key)

    def watermark_file(self, path: Path, key: bytes) -> None:
        """The same for a file, such as a sheet of pictures."""
        waves.mark_file(Path(path), key)

    def watermark_chance(self, path: Path, key: bytes) -> float:
        """How probable it is that a file would look so without them."""
        return waves.chance_of(open_picture(read_regular(path), path.name, Report("")), key)

    # -- state -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        options: dict[str, Any] = {"size": self.size, "mode": self.mode, "resize": self.resize}
        options |= {"shapes": self.shapes.names} if self.shapes else {}
        options |= {"mirror": True} if self.mirror else {}
        return {"options": options, "spec": self._fitted().to_json(), "white": self.white}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Image:
        check_shape(state, {"options": dict, "spec": dict, "white?": (None, SIZE)}, "the codec")
        codec = cls(**state["options"])
        codec.spec = TensorSpec.from_json(state["spec"])
        codec.white = state.get("white")
        return codec

    def _fitted(self) -> TensorSpec:
        if not hasattr(self, "spec"):
            raise DataError("the codec has seen no pictures yet", hint="codec.fit(items)")
        return self.spec
