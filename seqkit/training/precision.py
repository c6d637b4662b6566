"""Number formats of training: float32, bfloat16 or float16 (with or without float32 master weights), autocast.

A `Precision` stands between the model, whose gradients backward fills, and the optimizer, which updates `params`.
Knows nothing of data, schedules or what a step consists of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from seqkit.config.sections import CommonConfig
from seqkit.errors import ConfigError
from seqkit.optim.loss_scaler import DynamicLossScaler


class Precision:
    """The optimizer updates the model's own parameters.

    Args:
        params: the parameters that are trained.
        name: what it is called in logs.
        input_dtype: what floating-point inputs are converted to; None leaves them.
        autocast: device type and format of `torch.autocast`; None for none.
        scaler: keeps small float16 gradients from vanishing; None where it is not needed.
        retries: times a batch is tried again with a lower scale after an overflow.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        *,
        name: str = "fp32",
        input_dtype: torch.dtype | None = None,
        autocast: tuple[str, torch.dtype] | None = None,
        scaler: DynamicLossScaler | None = None,
        retries: int = 0,
    ) -> None:
        self.name = name
        self.params = list(params)
        self.input_dtype = input_dtype
        self.scaler = scaler
        self.retries = retries
        self._autocast = autocast

    def autocast(self) -> AbstractContextManager[object]:
        """The context that the forward pass runs in."""
        if self._autocast is None:
            return nullcontext()
        device, dtype = self._autocast
        return torch.autocast(device, dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` (times the loss scale) to the parameters' gradients."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        torch.autograd.backward(scaled)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.params:
            param.grad = None

    @property
    def unscale(self) -> float:
        """What gradients must be multiplied by to undo the loss scale."""
        return 1.0 if self.scaler is None else 1.0 / self.scaler.loss_scale

    def gradients(self) -> list[Tensor]:
        """The gradients that the optimizer will see (still scaled), in the optimizer's precision."""
        return [param.grad for param in self.params if param.grad is not None]

    def finish_step(self) -> None:
        """The optimizer has updated `params`; the model takes them up."""

    def master_of(self, param: nn.Parameter) -> Tensor:
        """The most precise version of one of the model's parameters."""
        return param

    def take_weights(self, named: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
        """The model has loaded `weights`; take up what its own precision could not hold."""


class MasterWeights(Precision):
    """The model is in half precision; the optimizer updates float32 copies of its parameters."""

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        *,
        name: str,
        input_dtype: torch.dtype,
        scaler: DynamicLossScaler | None = None,
    ) -> None:
        masters = [nn.Parameter(param.detach().float().clone()) for param in params]
        super().__init__(masters, name=name, input_dtype=input_dtype, scaler=scaler)
        self._model_params = list(params)
        self._master_by_id = {id(param): master for param, master in zip(params, masters, strict=True)}

    def zero_grad(self) -> None:
        for param, master in zip(self._model_params, self.params, strict=True):
            param.grad = None
            master.grad = None

    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        for param, master in zip(self._model_params, self.params, strict=True):
            master.grad = None if param.grad is None else param.grad.float()
            param.grad = None
        return super().gradients()

    @torch.no_grad()
    def finish_step(self) -> None:
        torch._foreach_copy_([*self._model_params], [*self.params])

    def master_of(self, param: nn.Parameter) -> Tensor:
        return self._master_by_id.get(id(param), param)

    @torch.no_grad()
    def take_weights(self, named: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
        for name, param in named.items():
            master = self._master_by_id.get(id(param))
            if master is not None:
                master.copy_(weights.get(name, param))


def build_precision(
    common: CommonConfig,
    modules: Sequence[nn.Module],
    params: Sequence[nn.Parameter],
    device: torch.device,
    *,
    update_freq: Sequence[int],
    world_size: int = 1,
) -> Precision:
    """Bring `modules` into the precision that the config asks for, and make the `Precision` for their `params`.

    `fp16` and `bf16` convert the model; `amp` leaves it in float32 and runs it under autocast (float16 on a GPU,
    bfloat16 on a CPU or together with `bf16`).

    Raises:
        ConfigError: the options contradict each other.
    """
    fp16 = common.fp16 or common.memory_efficient_fp16
    bf16 = common.bf16 or common.memory_efficient_bf16
    if fp16 and (bf16 or common.amp):
        other = "common.amp" if common.amp else "common.bf16"
        raise ConfigError(f"common.fp16 and {other} are both set; choose one of them")
    if common.amp:
        dtype = torch.bfloat16 if bf16 or device.type == "cpu" else torch.float16
        scaler = None
        if dtype == torch.float16:
            window = common.amp_scale_window or _scale_window(update_freq, world_size, "common.amp_scale_window")
            scaler = DynamicLossScaler(
                init_scale=float(common.amp_init_scale), scale_window=window, min_loss_scale=common.min_loss_scale
            )
        name = f"amp ({'bf16' if dtype == torch.bfloat16 else 'fp16'})"
        retries = common.amp_batch_retries
        return Precision(params, name=name, autocast=(device.type, dtype), scaler=scaler, retries=retries)
    if not fp16 and not bf16:
        return Precision(params)
    dtype = torch.float16 if fp16 else torch.bfloat16
    scaler = None
    if fp16:
        window = common.fp16_scale_window or _scale_window(update_freq, world_size, "common.fp16_scale_window")
        scaler = DynamicLossScaler(
            init_scale=float(common.fp16_init_scale),
            scale_window=window,
            tolerance=common.fp16_scale_tolerance,
            threshold=common.threshold_loss_scale,
            min_loss_scale=common.min_loss_scale,
        )
    name = "fp16" if fp16 else "bf16"
    memory_efficient = common.memory_efficient_fp16 or common.memory_efficient_bf16
    if memory_efficient:
        _convert(modules, dtype)
        return Precision(params, name=f"memory-efficient {name}", input_dtype=dtype, scaler=scaler)
    # The masters are made from the float32 weights, before those are rounded.
    precision = MasterWeights(params, name=name, input_dtype=dtype, scaler=scaler)
    _convert(modules, dtype)
    return precision


def evaluation_precision(common: CommonConfig, modules: Sequence[nn.Module], device: torch.device) -> Precision:
    """Bring `modules` into the precision of the config for use without training."""
    bf16 = common.bf16 or common.memory_efficient_bf16
    if common.amp:
        dtype = torch.bfloat16 if bf16 or device.type == "cpu" else torch.float16
        return Precision([], name="amp", autocast=(device.type, dtype))
    if common.fp16 or common.memory_efficient_fp16 or bf16:
        dtype = torch.bfloat16 if bf16 else torch.float16
        _convert(modules, dtype)
        return Precision([], name="bf16" if bf16 else "fp16", input_dtype=dtype)
    return Precision([])


def _convert(modules: Sequence[nn.Module], dtype: torch.dtype) -> None:
    for module in modules:
        module.to(dtype=dtype)


def _scale_window(update_freq: Sequence[int], world_size: int, option: str) -> int:
    """fairseq's default: shorter the more batches an update has."""
    if len(update_freq) > 1:
        raise ConfigError(
            f"optimization.update_freq={list(update_freq)} changes from epoch to epoch, so the loss scale's window "
            f"has no default; set {option}"
        )
    return max(1, int(2**14 / world_size / update_freq[0]))
