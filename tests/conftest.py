"""One thread per test process: the suite runs several side by side on few cores. And a cache folder
of its own, so that no test reads or fills the user's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import torch

torch.set_num_threads(1)
if "MORPHOGEN_CACHE" not in os.environ:
    os.environ["MORPHOGEN_CACHE"] = tempfile.mkdtemp(prefix="morphogen-cache-")
    atexit.register(shutil.rmtree, os.environ["MORPHOGEN_CACHE"], ignore_errors=True)
