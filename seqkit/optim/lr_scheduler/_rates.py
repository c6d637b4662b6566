"""What the schedules share: which of `optimization.lr`'s rates is meant, and where a warm-up starts.

Knows nothing of optimizers.
"""

from __future__ import annotations

from seqkit.errors import ConfigError


def some_rates(lr: list[float]) -> list[float]:
    """The rates, of which there must be one at least.

    Raises:
        ConfigError: there is none.
    """
    if not lr:
        raise ConfigError("optimization.lr is empty; give at least one learning rate")
    return [float(rate) for rate in lr]


def single_rate(lr: list[float], schedule: str) -> float:
    """The only rate of a schedule that has no use for one per epoch.

    Raises:
        ConfigError: there are several, or none.
    """
    rates = some_rates(lr)
    if len(rates) > 1:
        raise ConfigError(
            f"optimization.lr={rates}: lr_scheduler={schedule} takes one learning rate; "
            "a list of rates, one per epoch, is for lr_scheduler=fixed"
        )
    return rates[0]


def rate_of_epoch(rates: list[float], epoch: int) -> float:
    """The rate of epoch `epoch` (from 1); the last one serves all epochs that follow."""
    return rates[min(epoch - 1, len(rates) - 1)]


def require_above(high: float, low: float, *, name: str, bound: str) -> None:
    """Check that one rate is larger than another.

    Raises:
        ConfigError: it is not.
    """
    if high <= low:
        raise ConfigError(f"{name}={high:g} must be larger than {bound}={low:g}")
