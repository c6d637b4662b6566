"""Number formats of training: float32, bfloat16 or float16 (with or without float32 master weights), autocast.

A `Precision` stands between the model, whose gradients backward fills, and the optimizer, which updates `params`.
Knows nothing of data, schedules or what a step consists of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.config.sections import CommonConfig
from seqkit.errors import ConfigError
from seqkit.optim.loss_scaler import DynamicLossScaler
from seqkit.training.device import move_to_device


class Precision:
    """The optimizer updates the model's own parameters.

    Args:
        params: the parameters that are trained.
        name: what it is called in logs.
        input_dtype: what floating-point inputs are converted to; None leaves them.
        autocast: device type and format of `torch.autocast`; None for none.
        scaler: keeps small float16 gradients from vanishing; None where it is not needed.
        retries: times a batch is tried again with a lower scale after an overflow.
        convert_first: inputs are converted before they go to the device, not there.
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
        convert_first: bool = False,
    ) -> None:
        self.name = name
        self.params = list(params)
        self.input_dtype = input_dtype
        self.scaler = scaler
        self.retries = retries
        self._autocast = autocast
        self._convert_first = convert_first

    def move(self, sample: Any, device: torch.device) -> Any:
        """A batch on `device`, its floating-point tensors in `input_dtype`."""
        if self._convert_first:
            sample = move_to_device(sample, torch.device("cpu"), self.input_dtype)
        return move_to_device(sample, device, self.input_dtype)

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
    """The optimizer updates float32 copies of the model's parameters, which the model then takes up.

    The model is in half precision, or on a GPU whose memory the optimizer is not to use, or both.

    Args:
        params: the model's parameters; their copies have the marks that models put on them (`param_group`).
        offload: keep the copies, and with them the optimizer, on the CPU.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        *,
        name: str,
        input_dtype: torch.dtype | None = None,
        autocast: tuple[str, torch.dtype] | None = None,
        scaler: DynamicLossScaler | None = None,
        retries: int = 0,
        convert_first: bool = False,
        offload: bool = False,
    ) -> None:
        masters = [_master(param, offload) for param in params]
        super().__init__(
            masters,
            name=name,
            input_dtype=input_dtype,
            autocast=autocast,
            scaler=scaler,
            retries=retries,
            convert_first=convert_first,
        )
        self._model_params = list(params)
        self._master_by_id = {id(param): master for param, master in zip(params, masters, strict=True)}
        # Buffers that the gradients travel through, made once: memory that a GPU copies to is slow to get.
        self._landing = [torch.empty_like(master) for master in masters] if offload else None
        if self._landing is not None and params[0].device.type == "cuda":
            self._landing = [buffer.pin_memory() for buffer in self._landing]

    def zero_grad(self) -> None:
        for param, master in zip(self._model_params, self.params, strict=True):
            param.grad = None
            master.grad = None

    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        sources: list[Tensor] = []
        for index, (param, master) in enumerate(zip(self._model_params, self.params, strict=True)):
            if param.grad is None:
                master.grad = None
                continue
            sources.append(param.grad)
            param.grad = None
            master.grad = torch.empty_like(master) if self._landing is None else self._landing[index]
        targets = super().gradients()
        if sources:
            torch._foreach_copy_(targets, sources, non_blocking=True)
            if self._landing is not None and sources[0].device.type == "cuda":
                torch.cuda.current_stream(sources[0].device).synchronize()
        return targets

    @torch.no_grad()
    def finish_step(self) -> None:
        torch._foreach_copy_([*self._model_params], [*self.params], non_blocking=True)

    def master_of(self, param: nn.Parameter) -> Tensor:
        return self._master_by_id.get(id(param), param)

    @torch.no_grad()
    def take_weights(self, named: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
        for name, param in named.items():
            master = self._master_by_id.get(id(param))
            if master is not None:
                master.copy_(weights.get(name, param))


def _master(param: nn.Parameter, offload: bool) -> nn.Parameter:
    copy = param.detach().float().clone()
    if offload:
        copy = copy.cpu().pin_memory() if param.device.type == "cuda" else copy.cpu()
    master = nn.Parameter(copy)
    vars(master).update(vars(param))
    return master


def build_precision(
    common: CommonConfig,
    modules: Sequence[nn.Module],
    params: Sequence[nn.Parameter],
    device: torch.device,
    *,
    update_freq: Sequence[int],
    world_size: int = 1,
    offload: bool = False,
    sharded: type[Precision] | None = None,
) -> Precision:
    """Bring `modules` into the precision that the config asks for, and make the `Precision` for their `params`.

    `fp16` and `bf16` convert the model; `amp` leaves it in float32 and runs it under autocast (float16 on a GPU,
    bfloat16 on a CPU or together with `bf16`).

    Args:
        offload: the optimizer works on the CPU, on float32 copies there. Says nothing where the model is there too.
        sharded: the class for `params` of which each process has a part (`training.sharding`). What is computed with
            them is then converted already, and there are no copies of them.

    Raises:
        ConfigError: the options contradict each other.
    """
    set_tf32(common, device)
    offload = offload and device.type != "cpu"
    autocast, dtype = _formats(common, device)
    half = autocast[1] if autocast is not None else dtype
    scaler, retries = None, 0
    if autocast is not None:
        retries = common.amp_batch_retries
    if half == torch.float16:
        scaler = _loss_scaler(common, update_freq, world_size)
    name = _name(common, half)
    memory_efficient = dtype is not None and (common.memory_efficient_fp16 or common.memory_efficient_bf16)
    if memory_efficient and not offload:
        name = f"memory-efficient {name}"
    common_settings: dict[str, Any] = {
        "input_dtype": dtype,
        "autocast": autocast,
        "scaler": scaler,
        "retries": retries,
        "convert_first": common.on_cpu_convert_precision and device.type != "cpu",
    }
    precision: Precision
    if sharded is not None:
        return sharded(params, name=name, **common_settings)
    if offload:
        precision = MasterWeights(params, name=f"{name}, the optimizer on the CPU", offload=True, **common_settings)
    elif dtype is not None and not memory_efficient:
        # The masters are made from the float32 weights, before those are rounded.
        precision = MasterWeights(params, name=name, **common_settings)
    else:
        precision = Precision(params, name=name, **common_settings)
    if dtype is not None:
        _convert(modules, dtype)
    return precision


def model_dtype(common: CommonConfig, device: torch.device) -> torch.dtype | None:
    """The half precision that the config has the model in; None where it stays in float32."""
    return _formats(common, device)[1]


def evaluation_precision(common: CommonConfig, modules: Sequence[nn.Module], device: torch.device) -> Precision:
    """Bring `modules` into the precision of the config for use without training."""
    set_tf32(common, device)
    autocast, dtype = _formats(common, device)
    if dtype is not None:
        _convert(modules, dtype)
    convert_first = common.on_cpu_convert_precision and device.type != "cpu"
    name = _name(common, dtype if autocast is None else autocast[1])
    return Precision([], name=name, input_dtype=dtype, autocast=autocast, convert_first=convert_first)


def set_tf32(common: CommonConfig, device: torch.device) -> None:
    """Let a GPU use TF32 for float32 matrices, or not. (torch keeps this switch for the whole process.)"""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if common.tf32 else "highest")
        if torch.backends.cudnn.allow_tf32 != common.tf32:
            torch.backends.cudnn.allow_tf32 = common.tf32


def _formats(common: CommonConfig, device: torch.device) -> tuple[tuple[str, torch.dtype] | None, torch.dtype | None]:
    """Device and format of autocast, and the format of the model's weights; None for none (float32)."""
    fp16 = common.fp16 or common.memory_efficient_fp16
    bf16 = common.bf16 or common.memory_efficient_bf16
    if fp16 and (bf16 or common.amp):
        other = "common.amp" if common.amp else "common.bf16"
        raise ConfigError(f"common.fp16 and {other} are both set; choose one of them")
    if common.amp:
        return (device.type, torch.bfloat16 if bf16 or device.type == "cpu" else torch.float16), None
    return None, torch.float16 if fp16 else torch.bfloat16 if bf16 else None


def _name(common: CommonConfig, half: torch.dtype | None) -> str:
    name = "fp32" if half is None else "fp16" if half == torch.float16 else "bf16"
    return f"amp ({name})" if common.amp else name


def _loss_scaler(common: CommonConfig, update_freq: Sequence[int], world_size: int) -> DynamicLossScaler:
    if common.amp:
        window = common.amp_scale_window or _scale_window(update_freq, world_size, "common.amp_scale_window")
        return DynamicLossScaler(
            init_scale=float(common.amp_init_scale), scale_window=window, min_loss_scale=common.min_loss_scale
        )
    window = common.fp16_scale_window or _scale_window(update_freq, world_size, "common.fp16_scale_window")
    return DynamicLossScaler(
        init_scale=float(common.fp16_init_scale),
        scale_window=window,
        tolerance=common.fp16_scale_tolerance,
        threshold=common.threshold_loss_scale,
        min_loss_scale=common.min_loss_scale,
    )


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
