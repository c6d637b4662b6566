"""All tests compute on one thread: small tensors gain nothing from more, and on a busy machine they lose much."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
