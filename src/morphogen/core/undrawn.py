"""Networks that are built for their shapes alone draw no weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

DRAWS = {"normal_", "uniform_"}


class Undrawn(TorchFunctionMode):
    """Leaves tensors that have no memory as they are where weights would be drawn: PyTorch imports
    its compiler to tell what that does to their shapes, which takes two seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func`, unless it draws a weight that is nowhere."""
        named = dict(kwargs or {})
        is_drawn = getattr(func, "__name__", "") in DRAWS or (
            getattr(func, "__module__", None) == "torch.nn.init"
        )
        if is_drawn:
            tensor = args[0] if args else named.get("tensor")
            if getattr(tensor, "is_meta", False):
                return tensor
        return func(*args, **named)
