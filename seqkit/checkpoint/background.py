"""One job at a time, done while the rest of the program goes on.

Knows nothing of what the job is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

Job = Callable[[Callable[[], bool]], Result]
"""A job is handed a function that says whether its result is wanted no more, for it to ask now and then."""


class Background(Generic[Result]):
    """Runs jobs on a thread of its own, never two at once. To be used from one thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._abandoned = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is still at work."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Job[Result]) -> None:
        """Begin a job. The one before must have been collected by `poll` or `wait`."""
        assert self._thread is None, "the result of the job before was not collected"
        self._result = self._error = None
        # A daemon, so that an interpreter that must end does not wait for a disk that hangs.
        self._thread = threading.Thread(target=self._work, args=(job,), name="seqkit-checkpoint", daemon=True)
        self._thread.start()

    def poll(self) -> Result | None:
        """The result of a job that has ended, once; None while it is at work and where there is none.

        Raises:
            BaseException: what the job raised.
        """
        return None if self.busy else self.wait()

    def wait(self) -> Result | None:
        """Until the job has ended: its result, once; None where there is none.

        Raises:
            BaseException: what the job raised.
        """
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result

    def abandon(self, patience: float) -> None:
        """Tell the job that its result is not wanted, and give it up to `patience` seconds to end."""
        if self._thread is None:
            return
        self._abandoned.set()
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._thread = self._result = self._error = None
            self._abandoned.clear()

    def _work(self, job: Job[Result]) -> None:
        try:
            self._result = job(self._abandoned.is_set)
        except BaseException as error:  # handed to the thread that waits
            self._error = error
