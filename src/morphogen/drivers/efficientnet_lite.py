r"""EfficientNet-Lite0: features of photographs from a classifier of ImageNet's 1,000 classes.

config.json  model.safetensors

    7 stages of inverted bottlenecks: 1x1 widen, k x k each channel by itself, 1x1 narrow, + x

The network of Tan & Le 2019 ("EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks") in the form that was made for small devices: ReLU6, and no squeeze-and-excitation.
Padding is TensorFlow's, with the odd pixel at the end. Its features, the means of the last 1,280
channels, may judge pictures beside a network that was trained on the data; a distance over them is
no FID.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from morphogen.core.border import read_json
from morphogen.core.codec import Codec
from morphogen.core.driver import Driver, check_loaded
from morphogen.core.spec import TensorSpec
from morphogen.core.storage import read_tensors
from morphogen.drivers.clip import pictures_of

# Blocks, size of the kernel, stride of the first block, how much wider inside, channels.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, FEATURES = 32, 1280
LAST = tuple(itertools.accumulate(stage[0] for stage in STAGES))  # block of each stage, from 1
EARLY = 2  # stages that see no more than edges
LATE = 4  # stages before those that see things
MIDDLE, HALF_RANGE = 127.0, 128.0  # what pictures of 0 to 255 were centred on, and divided by


class EfficientnetLite(Driver):
    """Tells features of pictures by EfficientNet-Lite0."""

    model_types: ClassVar[tuple[str, ...]] = ("efficientnet-lite",)
    any_size: ClassVar[bool] = True

    def __init__(
        self,
        spec: TensorSpec,
        conditions: Mapping[str, TensorSpec],
        *,
        image_size: int = 224,  # pixels of a side
        num_classes: int = 1000,  # that it tells apart
    ) -> None:
        super().__init__(spec, conditions)
        self.image_size, self.num_classes = image_size, num_classes
        self.model = Network(num_classes).eval()

    @classmethod
    def opened(cls, folder: Path, size: int | None = None) -> tuple[Driver, Codec]:
        """As `Driver` has it; pictures are seen with sides of `size`, unless as it was trained."""
        told = read_json(folder / "config.json", {"image_size?": int, "num_classes?": int})
        sizes = {name: told[name] for name in ("image_size", "num_classes") if name in told}
        if size is not None:
            sizes["image_size"] = size
        codec = pictures_of(sizes.get("image_size", 224))
        model = cls(codec.spec, {}, **sizes)
        found = {_own_name(name): tensor for name, tensor in
                 read_tensors(folder / "model.safetensors").items()}  # fmt: skip
        _check(found, model.model, folder)
        model.model.load_state_dict(found)
        return model.eval(), codec

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B, 1280)."""
        found: Tensor = self.model.features(_scaled(x))
        return found

    def stage_features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B, 2024): the means of what stages from the third on
        see, and the features."""
        found: Tensor = self.model.stage_features(_scaled(x))
        return found

    def map_features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B, 624, h, w), a thirty-second of each side: what
        the last three stages see there."""
        seen = self.model.stages(_scaled(x))[LATE:-1]
        height, width = seen[-1].shape[2:]
        return torch.cat([F.adaptive_avg_pool2d(h, (height, width)) for h in seen], dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> (B, K), ImageNet's classes in their usual order."""
        found: Tensor = self.model.fc(self.features(x))
        return found


def _scaled(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the published weights were shown them."""
    return ((x + 1) * 127.5 - MIDDLE) / HALF_RANGE


class Network(nn.Module):
    """The network itself, its parts called as the published weights call them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = _conv(3, STEM, 3, stride=2), _norm(STEM)
        blocks, channels = list[nn.Module](), STEM
        for num, size, stride, widen, out in STAGES:
            for i in range(num):
                blocks.append(Block(channels, out, size, 1 if i else stride, widen))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = _conv(channels, FEATURES, 1), _norm(FEATURES)
        self.fc = nn.Linear(FEATURES, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Scaled pictures (B, 3, H, W) -> (B, 1280)."""
        return self.stages(x)[-1].mean((2, 3))  # (B, 1280)

    def stage_features(self, x: Tensor) -> Tensor:
        """Scaled pictures (B, 3, H, W) -> (B, 40 + 80 + 112 + 192 + 320 + 1280)."""
        return torch.cat([h.mean((2, 3)) for h in self.stages(x)[EARLY:]], dim=1)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Scaled pictures (B, 3, H, W) -> what each stage sees (B, C, h, w), then the head."""
        h = F.relu6(self.bn0(self.conv_stem(x)))  # (B, 32, H / 2, W / 2)
        found = []
        for number, block in enumerate(self.blocks, start=1):
            h = block(h)
            if number in LAST:
                found.append(h)
        return [*found, F.relu6(self.bn1(self.conv_head(h)))]


class Block(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018)."""

    def __init__(self, channels: int, out: int, size: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = channels * widen
        self.widens, self.adds = widen > 1, stride == 1 and channels == out
        if self.widens:
            self.expand_conv, self.bn0 = _conv(channels, wide, 1), _norm(wide)
        self.depthwise_conv = _conv(wide, wide, size, stride=stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv, self.bn2 = _conv(wide, out, 1), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        h = F.relu6(self.bn0(self.expand_conv(x))) if self.widens else x
        h = F.relu6(self.bn1(self.depthwise_conv(h)))
        h = self.bn2(self.project_conv(h))
        return x + h if self.adds else h


class SameConv(nn.Conv2d):
    """A convolution whose output has ceil(n / stride) places along each axis: padded as TensorFlow
    does, more at the end where the number is odd."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        (size, _), (stride, _) = self.kernel_size, self.stride
        pads = list[int]()
        for n in reversed(input.shape[2:]):
            missing = max((-(-n // stride) - 1) * stride + size - n, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(input, pads))


def _conv(channels: int, out: int, size: int, **options: Any) -> SameConv:
    return SameConv(channels, out, size, bias=False, **options)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _own_name(name: str) -> str:
    """_blocks.0._bn1.weight -> blocks.0.bn1.weight."""
    return ".".join(part.removeprefix("_") for part in name.split("."))


def _check(found: Mapping[str, Tensor], network: nn.Module, where: Path) -> None:
    """Raise `BundleError`, listing what is missing, too much, or of another shape."""
    wanted = network.state_dict()
    told = {
        "missing_keys": wanted.keys() - found.keys(),
        "unexpected_keys": found.keys() - wanted.keys(),
        "mismatched_keys": [
            (name, tuple(found[name].shape), tuple(wanted[name].shape))
            for name in wanted.keys() & found.keys()
            if found[name].shape != wanted[name].shape
        ],
    }
    check_loaded(told, "EfficientNet-Lite0", where)
