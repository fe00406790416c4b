"""Does every family answer on a GPU what it answers on the CPU?

    python benchmarks/devices.py cuda
    python benchmarks/devices.py cuda --only vae masked

Every family, on each of the kit's specs that it accepts, with and without a label: losses and
gradients in float32 and bfloat16, every capability by the kit's promises, and its answers beside
those of the same weights on the CPU (`morphogen.testing.devices`). A line of JSON for each family;
the exit code is 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch

from morphogen.core import discover
from morphogen.testing._cases import SPECS, cases_of
from morphogen.testing.devices import check_case


def main() -> None:
    """All families, or those named; every case of each, though one may break its promise."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("device")
    options.add_argument("--only", nargs="+", default=discover.names("family"))
    given = options.parse_args()
    device, broken = torch.device(given.device), 0
    for name in given.only:
        began, problems, cases = time.perf_counter(), [], 0
        for case in cases_of(discover.find("family", name), SPECS, None):
            cases += 1
            try:
                check_case(case, device)
            except Exception as error:  # what a device cannot do is told, whatever it raises
                problems.append(f"{type(error).__name__}: {error}")
        broken += len(problems)
        seconds = round(time.perf_counter() - began, 1)
        line = {"family": name, "cases": cases, "seconds": seconds, "broken": problems}
        print(json.dumps(line), flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
