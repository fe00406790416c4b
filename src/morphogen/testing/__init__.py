"""The conformance kit: is a component what its axis promises? For plugins as for our own.

    from morphogen.testing import check_family
    check_family(MyFamily)

Each check builds the component on small data, holds it to every promise of its contract, and
raises `AssertionError` with one sentence that names the promise that is broken. `oracles` has
models whose answers are known in closed form, to test samplers, tasks and metrics against.
"""

from __future__ import annotations

from morphogen.testing import oracles
from morphogen.testing.backbones import check_backbone
from morphogen.testing.devices import check_device
from morphogen.testing.families import check_family
from morphogen.testing.metrics import check_metric
from morphogen.testing.modalities import check_codec
from morphogen.testing.samplers import check_sampler
from morphogen.testing.tasks import check_task

__all__ = [
    "check_backbone",
    "check_codec",
    "check_device",
    "check_family",
    "check_metric",
    "check_sampler",
    "check_task",
    "oracles",
]
