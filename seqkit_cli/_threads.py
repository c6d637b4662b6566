"""How the threads of a command wait for each other. Knows nothing of what the command does, and imports no torch.

PyTorch's threads (OpenMP, from libgomp) spin for milliseconds at the end of every operation before they sleep. Where
something else wants a core too, those that spin keep away the one they wait for: two threads on two shared cores can
take ten times as long as one.
"""

from __future__ import annotations

import os

_SPINS = "10000"
"""Rounds of waiting before a thread sleeps: from 5,000 on, nothing is lost on a machine that does nothing else."""


def wait_briefly() -> None:
    """Let threads that have nothing to do sleep soon, unless the environment says how they wait.

    Takes effect only before torch is imported; processes started from here inherit it.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = _SPINS
