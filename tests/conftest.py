"""One thread per test process: the suite runs several side by side on few cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
