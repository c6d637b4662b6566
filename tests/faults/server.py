"""Starts trainings quickly: imports all that `seqkit-train` needs once, then forks a process for each.

Reads JSON lines and answers with JSON lines:

    {"start": [arguments], "log": file, "kill_at": [function of os, number of its call] or null}  ->  {"process": id}
    {"wait": id}  ->  {"code": exit code, negative for a signal}

A process with `kill_at` sends itself SIGKILL just before that call: the moments of a save, hit exactly.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

_NEEDED = (
    "seqkit.training.build",
    "seqkit.interop.open_checkpoint",
    "seqkit.tasks.translation",
    "seqkit.models.transformer",
    "seqkit.criterions.label_smoothed_cross_entropy",
    "seqkit.optim.adam",
    "seqkit.optim.lr_scheduler.inverse_sqrt",
    "seqkit.config.compose",
    "omegaconf",
    "torch.autograd.profiler",
)


def serve() -> None:
    """Answer until the input ends."""
    import torch

    from seqkit_cli.train import main

    torch.set_num_threads(1)
    for name in _NEEDED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            process = os.fork()
            if process == 0:
                _become(request["log"])
                if request["kill_at"]:
                    _kill_at(*request["kill_at"])
                code = 1
                try:
                    code = main(request["start"])
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 1
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            _answer({"process": process})
        else:
            _, status = os.waitpid(request["wait"], 0)
            _answer({"code": os.waitstatus_to_exitcode(status)})


def _answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _become(log: str) -> None:
    """A process of its own, whose output goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _kill_at(function: str, number: int) -> None:
    real = getattr(os, function)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, function, counted)


if __name__ == "__main__":
    serve()
