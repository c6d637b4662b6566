"""What the optimizers share: parameters are updated in bulk, and state of half-precision ones is kept in float32.

An optimizer says what its state is and how a list of parameters is updated; this file finds the lists. Knows
nothing of learning-rate schedules, clipping or loss scaling.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from seqkit.errors import ConfigError

State: TypeAlias = dict[str, Any]
HALF = (torch.float16, torch.bfloat16)


_add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
_state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
_load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
_zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class PlainOptimizer(torch.optim.Optimizer):
    """`torch.optim.Optimizer` that does not bring torch.compile's machinery along.

    torch hides these four methods from the compiler by a wrapper that imports all of `torch._dynamo` (a second or more)
    at its first call. They are never called in compiled code here, so what is wrapped is called instead.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take one more group of parameters."""
        _add_param_group(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """State by number of parameter (counted through the groups), and the groups."""
        state: dict[str, Any] = _state_dict(self)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` returned.

        Raises:
            ValueError: its groups of parameters are not those of this optimizer.
        """
        _load_state_dict(self, state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        _zero_grad(self, set_to_none)


class BulkOptimizer(PlainOptimizer):
    """Base of seqkit's optimizers.

    Half-precision parameters are updated through a float32 copy with float32 state, and rounded back; state loaded
    from a checkpoint keeps its precision.
    """

    @abstractmethod
    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        """State of a parameter that has none yet. `param` has the precision that state is kept in."""

    @abstractmethod
    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        """Update parameters in place.

        They are on one device, of one precision (float32 unless the user chose float64), and have done equally
        many steps; `grads` may be changed only where they are copies, so don't.
        """

    def begin_step(self) -> None:
        """Called before any parameter is updated."""

    def end_group(self, group: dict[str, Any]) -> None:
        """Called after the parameters of a group have been updated."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes gradients anew and returns the loss.

        Raises:
            ConfigError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.begin_step()
        for group in self.param_groups:
            for bucket in self._buckets(group):
                states = [self.state[param] for param in bucket]
                half = bucket[0].dtype in HALF
                params = [param.float() for param in bucket] if half else bucket
                grads = [_gradient(source, param) for source, param in zip(bucket, params, strict=True)]
                self.update(group, params, grads, states)
                if half:
                    torch._foreach_copy_(own_parts(bucket), own_parts(params))
            self.end_group(group)
        return loss

    def _buckets(self, group: dict[str, Any]) -> list[list[Tensor]]:
        buckets: dict[Any, list[Tensor]] = {}
        for param in group["params"]:
            if param.grad is None:
                continue
            state = self.state[param]
            if not state:
                state.update(self.new_state(param.float() if param.dtype in HALF else param, group))
            key = (param.device, param.dtype, state.get("step"))
            buckets.setdefault(key, []).append(param)
        return list(buckets.values())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, or an optimizer state of fairseq.

        Raises:
            ValueError: its groups of parameters are not those of this optimizer.
        """
        before = self.param_groups
        super().load_state_dict(state_dict)
        for group, own in zip(self.param_groups, before, strict=True):
            for name, value in own.items():  # settings that the saved group did not know yet
                group.setdefault(name, value)
        saved_ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        params: list[nn.Parameter] = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(saved_ids, params, strict=True):
            state = self.state.get(param)
            if not state:
                continue
            if isinstance(state.get("step"), Tensor):
                state["step"] = int(state["step"].item())
            if param.dtype not in HALF:
                continue
            # torch rounds loaded state to the parameter's precision; take it again from the source.
            for name, value in state_dict["state"][index].items():
                if isinstance(value, Tensor) and value.is_floating_point() and name != "step":
                    state[name] = value.to(device=param.device, dtype=torch.float32, copy=True)


def own_parts(tensors: list[Tensor]) -> list[Tensor]:
    """What this process has of tensors that FSDP may have spread over processes, for what is done to each number."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def fused_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    step: int,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Step `step` of AdamW (`eps` added after the squares' bias is corrected), in place, in one kernel."""
    clock = torch.full((), float(step), device=params[0].device)
    torch._fused_adamw_(
        params,
        grads,
        means,
        squares,
        [],
        [clock] * len(params),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )


def advance(states: list[State]) -> int:
    """Count one more step in each state and return the number (equal in all)."""
    step = int(states[0]["step"]) + 1
    for state in states:
        state["step"] = step
    return step


def column(states: list[State], name: str) -> list[Tensor]:
    """One tensor of every state."""
    return [state[name] for state in states]


def first_rate(lr: list[float]) -> float:
    """The rate an optimizer is made with; the schedule sets it from then on.

    Raises:
        ConfigError: there is none.
    """
    if not lr:
        raise ConfigError("optimization.lr is empty; give at least one learning rate")
    return float(lr[0])


def two_numbers(values: list[float], name: str) -> tuple[float, float]:
    """Two numbers of an option.

    Raises:
        ConfigError: there are fewer or more.
    """
    if len(values) != 2:
        raise ConfigError(f"optimizer.{name}={list(values)} must be two numbers")
    return float(values[0]), float(values[1])


def two_decays(values: list[float], name: str) -> tuple[float, float]:
    """Two decay rates of an option, each at least 0 and below 1.

    Raises:
        ConfigError: they are not.
    """
    first, second = two_numbers(values, name)
    if not (0 <= first < 1 and 0 <= second < 1):
        raise ConfigError(f"optimizer.{name}={list(values)} must be two numbers of at least 0 and below 1")
    return first, second


def _gradient(source: Tensor, param: Tensor) -> Tensor:
    """The gradient of `source` in the precision and memory layout of `param`, as the fused kernels want it."""
    grad = source.grad
    assert grad is not None
    if grad.is_sparse:
        raise ConfigError("this optimizer does not take sparse gradients; make the embedding with sparse=False")
    if grad.dtype == param.dtype and grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)
