"""Where the time of a training update goes: milliseconds by phase, as seqkit's own trainer does it.

    python benchmarks/step_phases.py data-bin [--updates 30] [--warm-up 5] [--config-name NAME] [OVERRIDE …]

Without `--config-name`, the training is that of `benchmarks/train.py`; overrides are laid over it (`common.amp=true`,
`common.compile=default`, `model.checkpoint_activations=true`, …). Phases:

- fetch: waiting for the update's batches (they are made by workers, or here with `dataset.num_workers=0`)
- move: to the device and into the precision of the model
- forward: model and loss (where whole logits are not made, the loss makes most of their gradient here, too)
- backward: the gradients (in several processes also their exchange, as far as it overlaps)
- clip: norm and scaling of the gradients
- step: the optimizer, and the copy of its weights into a half-precision model
- log: figures and log lines
- rest: everything else, the schedule and the moving average among it

`CPU` is the process's own time, which a busy machine stretches less than the clock's. On a GPU the device is waited for
after each phase, which takes away what overlaps.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from train import overrides

from seqkit.config.compose import compose
from seqkit.config.root import RootConfig
from seqkit.data.iterators import GroupedIterator
from seqkit.training import step
from seqkit.training.build import build_trainer
from seqkit.training.figures import TrainingFigures
from seqkit.training.observer import Observer, UpdateRecord
from seqkit.training.train_loss import TrainLoss
from seqkit.training.trainer import Trainer
from seqkit_cli._memory import keep_freed_memory

PHASES = ("fetch", "move", "forward", "backward", "clip", "step", "log", "rest")


class Clock(Observer):
    """Adds up what phases take, from the end of the warm-up on.

    Attributes:
        updates: updates that were counted.
        words: target words of these.
    """

    def __init__(self, warm_up: int, device: torch.device) -> None:
        self.updates = 0
        self.words = 0
        self._warm_up = warm_up
        self._device = device
        self._took: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._began = self._now()
        self._ended = self._began

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time counted as the phase's."""

        @functools.wraps(function)
        def call(*arguments: Any, **more: Any) -> Any:
            before = self._now()
            try:
                return function(*arguments, **more)
            finally:
                after = self._now()
                for place in (0, 1):
                    self._took[phase][place] += after[place] - before[place]

        return call

    def on_update(self, update: UpdateRecord) -> None:
        if update.num_updates <= self._warm_up:
            self._took.clear()
            self._began = self._now()
            return
        self.updates += 1
        self.words += sum(int(sample["ntokens"]) for sample in update.samples if sample)
        self._ended = self._now()

    def table(self) -> dict[str, tuple[float, float]]:
        """Milliseconds an update, by the clock and of CPU time, for each phase and in `all`."""
        whole = [after - before for before, after in zip(self._began, self._ended, strict=True)]
        rest = [whole[place] - sum(took[place] for took in self._took.values()) for place in (0, 1)]
        took = {**{phase: tuple(self._took[phase]) for phase in PHASES[:-1]}, "rest": tuple(rest), "all": tuple(whole)}
        return {phase: (1e3 * wall / self.updates, 1e3 * cpu / self.updates) for phase, (wall, cpu) in took.items()}

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()


def watch(trainer: Trainer, clock: Clock) -> None:
    """Put the clock around the phases of a trainer."""
    precision, parts = trainer.parts.step._precision, trainer.parts
    GroupedIterator.__next__ = clock.timed("fetch", GroupedIterator.__next__)  # type: ignore[method-assign]
    TrainLoss.forward = clock.timed("forward", TrainLoss.forward)  # type: ignore[method-assign]
    step.gradient_norm = clock.timed("clip", step.gradient_norm)
    step.scale_gradients = clock.timed("clip", step.scale_gradients)
    for name in ("begin_update", "log_update", "log_rate", "end_update", "take_inner"):
        setattr(parts.figures, name, clock.timed("log", getattr(TrainingFigures, name).__get__(parts.figures)))
    for phase, name in (("move", "move"), ("backward", "backward"), ("clip", "gradients"), ("step", "finish_step")):
        setattr(precision, name, clock.timed(phase, getattr(precision, name)))
    parts.optimizer.step = clock.timed("step", parts.optimizer.step)  # type: ignore[method-assign]


def measure(config: RootConfig, warm_up: int) -> Clock:
    """Train as the config says, watched."""
    keep_freed_memory()
    trainer = build_trainer(config)
    device = next(trainer.parts.model.parameters()).device
    clock = Clock(warm_up, device)
    trainer.parts.observers = [clock]
    watch(trainer, clock)
    trainer.train()
    return clock


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--config-name")
    arguments, more = parser.parse_known_args()
    updates = arguments.updates + arguments.warm_up
    with tempfile.TemporaryDirectory() as folder:
        own = overrides(arguments.data.resolve(), updates, Path(folder))
        if arguments.config_name:
            names = ("task.data=", "optimization.max_update=", "checkpoint.", "dataset.disable", "common.log_format")
            own = [line for line in own if line.startswith(names)]
        config = compose(arguments.config_name, [*own, *more])
        config.optimization.max_epoch = 0
        clock = measure(config, arguments.warm_up)
    table = clock.table()
    whole_wall, whole_cpu = table["all"]
    print("| phase | ms | share | CPU ms | share |")
    print("|---|---|---|---|---|")
    for phase, (wall, cpu) in table.items():
        print(f"| {phase} | {wall:.1f} | {wall / whole_wall:.1%} | {cpu:.1f} | {cpu / whole_cpu:.1%} |")
    words = clock.words / clock.updates
    print(
        f"\n{clock.updates} updates of {words:.0f} target words, {words / whole_wall * 1e3:.0f} words/s "
        f"({words / whole_cpu * 1e3:.0f} for each second of CPU time), {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
