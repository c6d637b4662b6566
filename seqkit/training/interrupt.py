"""Ctrl-C and SIGTERM: the first asks training to stop after the update it is in, the second ends it at once.

Knows nothing of training: it is a flag that somebody looks at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Context manager that turns the first SIGINT or SIGTERM into a flag.

    After the first signal both have their former effect again (Ctrl-C: KeyboardInterrupt at once). Worker processes
    that inherit the handler ignore Ctrl-C (their parent ends them) and obey SIGTERM. Outside the main thread, where
    Python cannot handle signals, it never asks for a stop.

    Attributes:
        signal: the signal that came, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._owner = os.getpid()
        self._former: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return self.signal is not None

    def request(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask for a stop as the signal would, for programs that decide themselves."""
        self.signal = number

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM; 0 without a signal."""
        return 0 if self.signal is None else 128 + int(self.signal)

    def __enter__(self) -> StopRequest:
        self._owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.signal = signal.Signals(number)
        self._restore()
        # The logging module takes locks, which the interrupted code may be holding.
        name = "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name
        notice = f"\n{name}: finishing this update and saving a checkpoint; once more to leave at once\n"
        with contextlib.suppress(OSError):
            os.write(2, notice.encode())

    def _restore(self) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()
