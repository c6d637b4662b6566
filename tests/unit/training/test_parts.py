"""The smaller parts of training."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from seqkit.checkpoint.weights import load_weights, reorder_optimizer_state
from seqkit.config.sections import CheckpointConfig, CommonConfig, EMAConfig
from seqkit.errors import CheckpointError, ConfigError
from seqkit.training.device import choose_device, move_to_device
from seqkit.training.ema import ExponentialMovingAverage
from seqkit.training.interrupt import StopRequest
from seqkit.training.precision import MasterWeights, build_precision, evaluation_precision
from seqkit.training.start import find_start

CPU = torch.device("cpu")


class TestStart:
    def _start(self, folder: Path, **options: Any) -> Any:
        return find_start(CheckpointConfig(save_dir=str(folder), **options))

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert self._start(tmp_path).path is None

    def test_last_checkpoint_goes_before_everything(self, tmp_path: Path) -> None:
        last, other = tmp_path / "checkpoint_last.pt", tmp_path / "other.pt"
        other.touch()
        assert self._start(tmp_path, continue_once=str(other)).path == other
        finetune = self._start(tmp_path, finetune_from_model=str(other))
        assert finetune.path == other
        assert finetune.finetune
        assert finetune.reset_optimizer
        last.touch()
        assert self._start(tmp_path, continue_once=str(other)).path == last
        again = self._start(tmp_path, finetune_from_model=str(other))
        assert again.path == last
        assert not again.finetune

    def test_restore_file_as_a_path_goes_before_save_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "save").mkdir()
        (tmp_path / "save" / "x.pt").touch()
        monkeypatch.chdir(tmp_path)
        assert self._start(tmp_path / "save", restore_file="x.pt").path == tmp_path / "save" / "x.pt"
        (tmp_path / "x.pt").touch()
        assert self._start(tmp_path / "save", restore_file="x.pt").path == Path("x.pt")

    def test_a_named_last_checkpoint_may_be_missing(self, tmp_path: Path) -> None:
        assert self._start(tmp_path, restore_file=str(tmp_path / "checkpoint_last.pt")).path is None

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"finetune_from_model=x\.pt does not exist \(looked for x\.pt\)"):
            self._start(tmp_path, finetune_from_model="x.pt")
        with pytest.raises(CheckpointError, match=r"looked for x\.pt or "):
            self._start(tmp_path, restore_file="x.pt")

    def test_contradictions(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="2 problems"):
            self._start(tmp_path, finetune_from_model="x.pt", restore_file="y.pt", reset_optimizer=True)

    def test_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "checkpoint_last-a.pt").touch()
        assert self._start(tmp_path, checkpoint_suffix="-a").path == tmp_path / "checkpoint_last-a.pt"


class TestPrecision:
    def _build(self, dtype_of: nn.Module, **options: Any) -> Any:
        return build_precision(
            CommonConfig(**options), [dtype_of], list(dtype_of.parameters()), CPU, update_freq=[2], world_size=1
        )

    def test_fp32(self) -> None:
        model = nn.Linear(2, 2)
        precision = self._build(model)
        assert precision.params[0] is model.weight
        assert precision.scaler is None
        assert precision.name == "fp32"

    @pytest.mark.parametrize(("option", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
    def test_master_weights_keep_what_half_precision_rounds_away(self, option: str, dtype: torch.dtype) -> None:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 1.0)
        precision = self._build(model, **{option: True})
        assert isinstance(precision, MasterWeights)
        assert model.weight.dtype == dtype
        optimizer = torch.optim.SGD(precision.params, lr=1e-4)
        for _ in range(10):
            precision.zero_grad()
            precision.backward(model(torch.ones(1, 1, dtype=dtype)).sum())
            gradients = precision.gradients()
            assert gradients[0].dtype == torch.float32
            gradients[0].mul_(precision.unscale)
            optimizer.step()
            precision.finish_step()
        assert precision.master_of(model.weight).item() == pytest.approx(0.999, rel=1e-5)
        assert model.weight.item() == torch.tensor(0.999, dtype=dtype).item()

    def test_master_weights_take_the_checkpoints_precision(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        precision = self._build(model, bf16=True)
        weights = {"weight": torch.tensor([[1.0009765625]])}
        load_weights(model, weights, "c.pt")
        precision.take_weights(dict(model.named_parameters()), weights)
        assert model.weight.item() == 1.0
        assert precision.master_of(model.weight).item() == 1.0009765625

    def test_memory_efficient(self) -> None:
        model = nn.Linear(2, 2)
        precision = self._build(model, memory_efficient_fp16=True)
        assert precision.params[0] is model.weight
        assert model.weight.dtype == torch.float16
        assert precision.scaler.loss_scale == 128
        assert precision.scaler.scale_window == 2**13

    def test_amp_on_a_cpu_is_bfloat16(self) -> None:
        model = nn.Linear(2, 2)
        precision = self._build(model, amp=True)
        with precision.autocast():
            assert model(torch.ones(1, 2)).dtype == torch.bfloat16
        assert model.weight.dtype == torch.float32
        assert precision.scaler is None

    def test_contradictions(self) -> None:
        with pytest.raises(ConfigError, match=r"common\.fp16 and common\.bf16 are both set"):
            self._build(nn.Linear(1, 1), fp16=True, bf16=True)
        with pytest.raises(ConfigError, match=r"common\.fp16 and common\.amp are both set"):
            self._build(nn.Linear(1, 1), fp16=True, amp=True)

    def test_scale_window_without_default(self) -> None:
        model = nn.Linear(1, 1)
        with pytest.raises(ConfigError, match=r"set common\.fp16_scale_window"):
            build_precision(CommonConfig(fp16=True), [model], list(model.parameters()), CPU, update_freq=[1, 2])

    def test_for_evaluation(self) -> None:
        model = nn.Linear(2, 2)
        assert evaluation_precision(CommonConfig(), [model], CPU).input_dtype is None
        assert evaluation_precision(CommonConfig(bf16=True), [model], CPU).input_dtype == torch.bfloat16
        assert model.weight.dtype == torch.bfloat16


class TestEMA:
    def _model(self) -> nn.Module:
        model = nn.ModuleDict({"one": nn.Linear(1, 1, bias=False), "norm": nn.BatchNorm1d(1)})
        model["tied"] = nn.Linear(1, 1, bias=False)
        model["tied"].weight = model["one"].weight
        nn.init.constant_(model["one"].weight, 1.0)
        return model

    def test_average(self) -> None:
        model = self._model()
        ema = ExponentialMovingAverage(model, EMAConfig(store_ema=True, ema_decay=0.75))
        nn.init.constant_(model.get_parameter("one.weight"), 5.0)
        ema.step(1)
        weights = ema.weights()
        assert weights["one.weight"].item() == 2.0  # tied weights are averaged once
        assert weights["tied.weight"].item() == 2.0
        model.get_buffer("norm.running_mean").fill_(7.0)
        ema.step(2)
        assert ema.weights()["norm.running_mean"].item() == 7.0

    def test_start_update_and_frequency(self) -> None:
        model = self._model()
        config = EMAConfig(store_ema=True, ema_decay=0.5, ema_start_update=3, ema_update_freq=2)
        ema = ExponentialMovingAverage(model, config)
        nn.init.constant_(model.get_parameter("one.weight"), 3.0)
        seen = []
        for update in range(1, 5):
            ema.step(update)
            seen.append((ema.decay, ema.weights()["one.weight"].item()))
        assert seen == [(0.0, 1.0), (0.0, 3.0), (0.5, 3.0), (0.5, 3.0)]

    def test_float32_average_of_a_half_model(self) -> None:
        model = nn.Linear(1, 1, bias=False).bfloat16()
        nn.init.constant_(model.weight, 1.0)
        ema = ExponentialMovingAverage(model, EMAConfig(store_ema=True, ema_decay=0.999, ema_fp32=True))
        nn.init.constant_(model.weight, 2.0)
        ema.step(1)
        assert ema.weights(full_precision=True)["weight"].item() == pytest.approx(1.001)
        assert ema.weights()["weight"].dtype == torch.bfloat16

    def test_average_of_a_half_model_is_rounded_once_more_for_each_sum_alone(self) -> None:
        torch.manual_seed(0)
        model = nn.Linear(7, 5, bias=False).half()
        begin = model.weight.detach().clone()
        ema = ExponentialMovingAverage(model, EMAConfig(store_ema=True, ema_decay=0.9))
        nn.init.normal_(model.weight)
        ema.step(1)
        assert torch.equal(ema.weights()["weight"], begin.mul_(0.9).add_(model.weight.detach(), alpha=1 - 0.9))

    def test_seed(self) -> None:
        ema = ExponentialMovingAverage(self._model(), EMAConfig(store_ema=True))
        seed = self._model()
        nn.init.constant_(seed.get_parameter("one.weight"), 4.0)
        ema.seed(seed.state_dict(), "seed.pt")
        assert ema.weights()["tied.weight"].item() == 4.0
        with pytest.raises(CheckpointError, match=r"ema_seed_model=s\.pt lacks 3 of the model's parameters \(one\.wei"):
            ema.seed({}, "s.pt")

    def test_wrong_shape(self) -> None:
        ema = ExponentialMovingAverage(self._model(), EMAConfig(store_ema=True))
        with pytest.raises(CheckpointError, match=r"averaged weight one\.weight is \[2, 2\]"):
            ema.take({"one.weight": torch.zeros(2, 2)})


class _Pair(NamedTuple):
    a: Any
    b: Any


class TestDevice:
    def test_containers_are_kept(self) -> None:
        batch = {"a": torch.ones(1), "b": [torch.ones(1), 3, "x"], "c": _Pair(torch.ones(1, dtype=torch.int64), None)}
        moved = move_to_device(batch, CPU, torch.bfloat16)
        assert moved["a"].dtype == torch.bfloat16
        assert moved["b"][0].dtype == torch.bfloat16
        assert moved["b"][1:] == [3, "x"]
        assert isinstance(moved["c"], _Pair)
        assert moved["c"].a.dtype == torch.int64

    def test_cpu_by_choice(self) -> None:
        assert choose_device(CommonConfig(cpu=True)) == CPU

    def test_gpu_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert choose_device(CommonConfig(), 1) == torch.device("cuda", 1)
        with pytest.raises(ConfigError, match=r"device_id=2, but there are 2 GPUs"):
            choose_device(CommonConfig(), 2)


class TestStopRequest:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
    def test_first_signal_is_a_request(self, number: signal.Signals, code: int) -> None:
        former = signal.getsignal(number)
        with StopRequest() as stop:
            assert not stop
            os.kill(os.getpid(), number)
            assert stop
            assert stop.exit_code == code
            assert signal.getsignal(number) is former
        assert signal.getsignal(number) is former

    @pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="signals of POSIX")
    def test_the_handler_of_a_launcher_is_called_after_the_save(self) -> None:
        """submitit's puts the job back into the queue, and leaves by SystemExit."""

        def requeue(number: int, frame: Any) -> None:
            raise SystemExit(-1)

        saved = []

        def train() -> None:
            with StopRequest() as stop:
                os.kill(os.getpid(), signal.SIGUSR2)
                saved.append(stop.signal)

        former = signal.signal(signal.SIGUSR2, requeue)
        try:
            with pytest.raises(SystemExit):
                train()
            assert signal.getsignal(signal.SIGUSR2) is requeue
        finally:
            signal.signal(signal.SIGUSR2, former)
        assert saved == [signal.SIGUSR2]
        with StopRequest():
            assert signal.getsignal(signal.SIGUSR2) == former  # without a handler it does what it ever did

    def test_second_ctrl_c_leaves_at_once(self) -> None:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert stop

    def test_a_launcher_may_pass_on_what_came_already(self) -> None:
        with StopRequest(repeats_within=60.0) as stop:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == signal.SIGINT

    def test_a_late_repetition_leaves_at_once(self) -> None:
        with StopRequest(repeats_within=0.01) as stop:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert stop

    def test_one_process_tells_all(self) -> None:
        told, silent = StopRequest(), StopRequest()
        told.request(signal.SIGUSR1)
        numbers: list[int] = []
        assert told.share(lambda number: numbers.append(number) or number)
        assert numbers == [signal.SIGUSR1]
        assert silent.share(lambda number: max(number, *numbers))
        assert silent.exit_code == 138
        assert not StopRequest().share(lambda number: number)

    def test_workers_leave_stopping_to_their_parent(self) -> None:
        with StopRequest() as stop:
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGUSR1)
                os._exit(int(bool(stop)))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert not stop

    def test_handlers_come_back(self) -> None:
        before = [signal.getsignal(number) for number in StopRequest.SIGNALS]
        with StopRequest() as stop:
            assert [signal.getsignal(number) for number in StopRequest.SIGNALS] != before
        assert [signal.getsignal(number) for number in StopRequest.SIGNALS] == before
        assert stop.exit_code == 0

    def test_outside_the_main_thread(self) -> None:
        results: list[bool] = []

        def work() -> None:
            with StopRequest() as stop:
                results.append(bool(stop))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert results == [False]


class TestWeights:
    def test_both_sides_are_told(self) -> None:
        model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
        before = model["a"].weight.clone()
        with pytest.raises(CheckpointError) as error:
            load_weights(model, {"a.weight": torch.zeros(2, 2), "c.weight": torch.zeros(1)}, "c.pt")
        assert str(error.value) == (
            "the weights in c.pt do not fit the model:\n"
            "  - only the model has: b.weight\n"
            "  - only the checkpoint has: c.weight\n"
            "  The model is another one: give the model options the checkpoint was trained with."
        )
        assert torch.equal(model["a"].weight, before)

    def test_optimizer_state_of_other_parameters(self) -> None:
        state = {"state": {}, "param_groups": [{"params": [0], "param_names": ["a"]}]}
        with pytest.raises(CheckpointError, match=r"for other parameters \(a, b\); set checkpoint\.reset_optimizer=tr"):
            reorder_optimizer_state(state, ["b"], "c.pt")

    def test_optimizer_state_of_several_groups(self) -> None:
        groups = [{"params": [0], "param_names": ["b"], "lr": 1}, {"params": [1, 2], "param_names": ["a", "c"]}]
        state = {"state": {0: "of b", 1: "of a", 2: "of c"}, "param_groups": groups}
        assert reorder_optimizer_state(state, ["b", "c", "a"], "c.pt") == {
            "state": {0: "of b", 1: "of c", 2: "of a"},
            "param_groups": [{"params": [0], "lr": 1}, {"params": [1, 2]}],
        }
        with pytest.raises(CheckpointError, match=r"groups of parameters .* are other ones \(a is not in the same\)"):
            reorder_optimizer_state(state, ["a", "b", "c"], "c.pt")

    def test_nameless_optimizer_state_is_left_alone(self) -> None:
        state = {"state": {0: {"step": 1}}, "param_groups": [{"params": [0], "lr": 1.0}]}
        assert reorder_optimizer_state(state, ["b"], "c.pt") == state
