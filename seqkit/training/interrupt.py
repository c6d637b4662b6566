"""Ctrl-C, SIGTERM, SIGUSR1: the first asks training to stop after the update it is in, the second ends it at once.

Knows nothing of training: it is a flag that somebody looks at.

SLURM sends SIGTERM before it pre-empts a job, and with `--signal=USR1@120` SIGUSR1 two minutes before the time is up.
A batch script that is to go on by itself looks at the exit code, which for these two is 143 and 138:

    srun seqkit-train …; code=$?
    if [ $code = 138 ] || [ $code = 143 ]; then scontrol requeue $SLURM_JOB_ID; fi
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Context manager that turns the first SIGINT, SIGTERM or SIGUSR1 into a flag.

    After the first signal all have their former effect again (Ctrl-C: KeyboardInterrupt at once). Worker processes
    that inherit the handler ignore Ctrl-C and SIGUSR1, which go to all processes of a job (their parent ends them),
    and obey SIGTERM. Outside the main thread, where Python cannot handle signals, it never asks for a stop.

    A handler that somebody else has for SIGUSR2 (submitit's, which puts a job whose time is up back into the queue, and
    ends it) is called when the context is left, and not in the midst of an update.

    Args:
        repeats_within: signals that follow the first within so many seconds are taken for the same one. Above 0 under
            a launcher that passes on a signal which the terminal has sent to its processes already.
        quiet: say nothing when a signal comes; for all processes of a training but one.

    Attributes:
        signal: the signal that came, or None.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
    _OF_OTHERS = tuple(getattr(signal, name) for name in ("SIGUSR2",) if hasattr(signal, name))

    def __init__(self, repeats_within: float = 0.0, *, quiet: bool = False) -> None:
        self.signal: signal.Signals | None = None
        self._quiet = quiet
        self._repeats_within = repeats_within
        self._came_at = 0.0
        self._owner = os.getpid()
        self._former: dict[signal.Signals, Any] = {}
        self._postponed: set[signal.Signals] = set()

    def __bool__(self) -> bool:
        return self.signal is not None

    def request(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask for a stop as the signal would, for programs that decide themselves."""
        self.signal = number

    def share(self, largest: Callable[[int], int]) -> bool:
        """Make all processes of a training see what one of them got; whether there is a request.

        Args:
            largest: gives the largest of the numbers that the processes hand to it, all of which call this.
        """
        number = largest(0 if self.signal is None else int(self.signal))
        if number:
            self.signal = signal.Signals(number)
        return number > 0

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells have it (SIGINT 130, SIGUSR1 138, SIGTERM 143); 0 without one."""
        return 0 if self.signal is None else 128 + int(self.signal)

    def __enter__(self) -> StopRequest:
        self._owner = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._postponed = {number for number in self._OF_OTHERS if callable(signal.getsignal(number))}
            for number in (*self.SIGNALS, *self._postponed):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        if kind is None and self.signal in self._postponed:
            signal.raise_signal(self.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if self._came_at:
            if now - self._came_at > self._repeats_within:
                self._restore()
                os.kill(os.getpid(), number)
            return
        self._came_at = now
        self.signal = signal.Signals(number)
        if not self._repeats_within:
            self._restore()
        if self._quiet:
            return
        # The logging module takes locks, which the interrupted code may be holding.
        name = "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name
        notice = f"\n{name}: finishing this update and saving a checkpoint; once more to leave at once\n"
        with contextlib.suppress(OSError):
            os.write(2, notice.encode())

    def _restore(self) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()
