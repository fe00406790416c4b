r"""Pictures of several shapes in one model: each on one canvas, in a frame that is drawn with it.

    x = [ the picture, centred, grey around it ;  +1 within its frame, -1 around it ]  (C+1, H, W)

The canvas is as high as the highest shape and as wide as the widest. A picture takes the shape
whose ratio of sides is nearest to its own, and is made fit as pictures of one size are. The last
channel says the frame: it is drawn like the others, and what is drawn is cut out by the frame that
fits it best. So the shape is a part of the item, as the length of a sound is: no mask travels with
it, and networks, judges and sheets see items of one shape. "Aspect ratio bucketing" (NovelAI 2022)
says of batches which shape they have; here it is said of items.

Legend: B batch, C channels, H height, W width of the canvas; h, w those of a shape.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from morphogen.core.codec import Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.modalities.image.convert import Form

NAME = "shape"  # what is said of an item, by which a shape can be asked for
MOST_CUT = 0.25  # the share of a picture that its nearest shape may cost, before it fits none
LARGEST_SIDE = 4096
NEAR_AREA = 0.3  # of shapes that are proposed: the log of how much larger or smaller they may be
PATTERN = re.compile(r"(\d+)\s*x\s*(\d+)")


class Shapes:
    """The shapes that pictures may have, by their names, such as 40x24 (width x height)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.sizes = [_size_of(name) for name in names]  # (h, w)
        self.names = [f"{width}x{height}" for height, width in self.sizes]
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise DataError("a shape is named twice", found=", ".join(twice))
        self.canvas = tuple(map(max, zip(*self.sizes, strict=True)))  # (H, W)
        around = torch.full((1, *self.canvas), -1.0)
        self.frames = torch.cat([self._centred(around, size, 1.0) for size in self.sizes])

    def nearest(self, height: int, width: int) -> int:
        """The number of the shape that a picture loses least by; of equals, the one nearest to it
        in size."""
        area = math.log(height * width)

        def cost(number: int) -> tuple[float, float]:
            h, w = self.sizes[number]
            return self._cut(number, height, width), abs(math.log(h * w) - area)

        return min(range(len(self.sizes)), key=cost)

    def fits(self, height: int, width: int) -> bool:
        """Whether the nearest shape leaves most of a picture."""
        return self._cut(self.nearest(height, width), height, width) <= MOST_CUT

    def laid(self, x: Tensor, number: int, around: float) -> Tensor:
        """Pictures of one shape (B, C, h, w) -> on the canvas, in their frame (B, C+1, H, W)."""
        canvas = torch.full((*x.shape[:2], *self.canvas), around)
        top, left, height, width = self._box(number)
        canvas[:, :, top : top + height, left : left + width] = x
        return torch.cat([canvas, self.frames[number].expand(len(x), 1, -1, -1)], dim=1)

    def told(self, x: Tensor) -> int:
        """The number of the shape whose frame the last channel of (C+1, H, W) is nearest to."""
        return int((self.frames - x[-1].detach().cpu().float()).square().sum((1, 2)).argmin())

    def cut(self, x: Tensor) -> Tensor:
        """(C+1, H, W) -> what is in its frame (C, h, w)."""
        top, left, height, width = self._box(self.told(x))
        return x[:-1, top : top + height, left : left + width]

    def _cut(self, number: int, height: int, width: int) -> float:
        """The share of a picture that is cut off where its short side is made fit a shape."""
        h, w = self.sizes[number]
        ratio = (h / w) / (height / width)
        return 1 - min(ratio, 1 / ratio)

    def _box(self, number: int) -> tuple[int, int, int, int]:
        """Top, left, h and w of a frame."""
        (height, width), (all_height, all_width) = self.sizes[number], self.canvas
        return (all_height - height) // 2, (all_width - width) // 2, height, width

    def _centred(self, canvas: Tensor, size: tuple[int, int], value: float) -> Tensor:
        """A canvas (1, H, W) with a box of `size` in it that holds `value`."""
        frame = canvas.clone()
        top, left, height, width = self._box(self.sizes.index(size))
        frame[:, top : top + height, left : left + width] = value
        return frame


def tell_shapes(items: Iterable[Item], shapes: Shapes, report: Report) -> Iterator[Item]:
    """Pass pictures on, each with the shape that it takes said of it; what fits none is named."""
    counts: Counter[str] = Counter()
    for item in items:
        form = Form.of(item.value)
        name = shapes.names[shapes.nearest(form.height, form.width)]
        counts[name] += 1
        item.tags = {NAME: name, **item.tags}
        if not shapes.fits(form.height, form.width):
            common = math.gcd(form.width, form.height)
            ratio = f"{form.width // common}:{form.height // common}"
            report.problems.append(
                Problem(
                    item.name,
                    f"fits none of the shapes: more than a quarter of it is lost in {name}",
                    f"add a shape of about {ratio} to modality.shapes, or "
                    "--set modality.resize=pad",
                )
            )
        yield item
    report.facts["shape_counts"] = ", ".join(f"{name} {n:,}" for name, n in counts.most_common())


def no_shapes_for(name: str) -> DataError:
    """The error for a picture that is to be made of pictures of several shapes."""
    return DataError(
        f"{name} are made of pictures of one shape alone",
        found="modality.shapes",
        expected="modality.size, or a folder of such pictures beside the others",
        hint="leave out modality.shapes, or --condition shape",
    )


def proposed(sizes: Sequence[tuple[int, int]], short: int, step: int, most: int = 3) -> list[str]:
    """Shapes of about `short`^2 pixels that pictures of `sizes` (H, W) lose least by, at most so
    many, their sides multiples of `step`: one after the other, each that which helps most."""
    sides = range(step, 4 * short + 1, step)
    near = [(h, w) for h in sides for w in sides if abs(math.log(h * w / short**2)) < NEAR_AREA]
    chosen = [(short, short)]
    ratios = torch.tensor([math.log(h / w) for h, w in sizes])
    apart = {size: (ratios - math.log(size[0] / size[1])).abs() for size in [*near, *chosen]}
    lost = apart[chosen[0]]
    while len(chosen) < most and near:
        best = min(near, key=lambda size: float(torch.minimum(lost, apart[size]).sum()))
        left = torch.minimum(lost, apart[best])
        if float(lost.sum() - left.sum()) < 0.02 * len(sizes):  # as good as nothing is won
            break
        chosen, lost = [*chosen, best], left
    return [f"{w}x{h}" for h, w in chosen]


def _size_of(name: str) -> tuple[int, int]:
    """40x24 -> (24, 40)."""
    found = PATTERN.fullmatch(name.strip().lower())
    width, height = map(int, found.groups()) if found else (0, 0)
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise DataError(
            "a shape is width x height, in pixels",
            found=name,
            expected=f"such as 40x24, of sides up to {LARGEST_SIDE}",
            hint="--set modality.shapes=32x32,40x24,24x40",
        )
    return height, width
