"""What all tests share: one thread, and Ctrl-C as in a terminal.

Small tensors gain nothing from more threads, and on a busy machine they lose much.
"""

from __future__ import annotations

import signal

import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """A shell's background job ignores SIGINT, and its children with it; tests send that signal."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
