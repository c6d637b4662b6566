"""Every schedule: the rate after chosen updates, worked out by hand, and what it refuses."""

import math

import pytest
import torch

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.registry import registry


def make(name, optimizer=None, **settings):
    optimizer = optimizer or torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    config = build_config(registry("lr_scheduler").get(name).config, {"_name": name, **settings}, where="lr_scheduler")
    return build_lr_scheduler(config, optimizer)


def rates(scheduler, updates):
    return [scheduler.step_update(update) for update in updates]


def test_names():
    assert set(registry("lr_scheduler").names()) >= {
        "cosine",
        "fixed",
        "inverse_sqrt",
        "manual",
        "pass_through",
        "polynomial_decay",
        "reduce_lr_on_plateau",
        "step",
        "tri_stage",
        "triangular",
    }


def test_rate_is_written_into_every_group():
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr_scale": 0.5}], lr=9.0)
    scheduler = make("fixed", optimizer, lr=[0.2])
    scheduler.step_begin_epoch(1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
    assert scheduler.lr == 0.2


def test_fixed_list_then_anneal():
    scheduler = make("fixed", lr=[0.4, 0.2], force_anneal=4, lr_shrink=0.5)
    assert [scheduler.step_begin_epoch(epoch) for epoch in (1, 2, 3, 4, 5)] == [0.4, 0.2, 0.2, 0.1, 0.05]


def test_fixed_warmup():
    scheduler = make("fixed", lr=[0.4], warmup_updates=4)
    assert scheduler.step_update(0) == 0.1
    assert scheduler.step_begin_epoch(1) == 0.1
    assert rates(scheduler, [1, 3, 4, 100]) == [0.2, 0.4, 0.4, 0.4]


def test_fixed_state():
    scheduler = make("fixed", lr=[0.4, 0.2])
    scheduler.step_begin_epoch(2)
    other = make("fixed", lr=[0.4, 0.2])
    other.load_state_dict(scheduler.state_dict())
    assert other.step_update(10) == 0.2


def test_inverse_sqrt():
    scheduler = make("inverse_sqrt", lr=[0.1], warmup_updates=4)
    assert scheduler.lr == 0.0
    assert rates(scheduler, [0, 2, 4, 16]) == pytest.approx([0.0, 0.05, 0.1, 0.05])
    assert make("inverse_sqrt", lr=[0.1], warmup_updates=4, warmup_init_lr=0.02).lr == 0.02


def test_polynomial_decay():
    scheduler = make(
        "polynomial_decay", lr=[0.1], warmup_updates=2, total_num_update=10, end_learning_rate=0.02, power=2
    )
    assert scheduler.lr == 0.05
    assert rates(scheduler, [0, 1, 2, 6, 10, 11]) == pytest.approx([0.0, 0.05, 0.1, 0.02 + 0.08 / 4, 0.02, 0.02])


def test_polynomial_decay_force_anneal_keeps_the_rate():
    scheduler = make("polynomial_decay", lr=[0.1, 0.3], total_num_update=10, force_anneal=2)
    scheduler.step_begin_epoch(1)
    halfway = scheduler.step_update(5)
    assert scheduler.step_begin_epoch(2) == halfway == pytest.approx(0.15)


def test_polynomial_decay_is_one_rate_ahead_as_in_fairseq():
    scheduler = make("polynomial_decay", lr=[0.1, 0.3, 0.2], total_num_update=10)
    assert scheduler.lr == 0.1
    assert [scheduler.step_begin_epoch(epoch) for epoch in (1, 2, 3)] == [0.3, 0.2, 0.2]


def test_cosine_one_period():
    scheduler = make("cosine", lr=[1.0], min_lr=0.2, warmup_updates=2, max_update=10)
    assert scheduler.lr == 0.2
    assert rates(scheduler, [1, 2, 6, 9]) == pytest.approx([0.6, 1.0, 0.6, 0.6 + 0.4 * math.cos(math.pi * 7 / 8)])


def test_cosine_restarts_shrunk_and_longer():
    scheduler = make("cosine", lr=[1.0], lr_period_updates=4, lr_shrink=0.5, t_mult=2)
    assert rates(scheduler, [0, 2, 4, 8, 12]) == pytest.approx([1.0, 0.5, 0.5, 0.25, 0.25])
    plain = make("cosine", lr=[1.0], lr_period_updates=4, lr_shrink=0.5)
    assert rates(plain, [0, 2, 4, 6, 8]) == pytest.approx([1.0, 0.5, 0.5, 0.25, 0.25])


def test_cosine_periods_that_grow_shorter_come_to_an_end():
    scheduler = make("cosine", lr=[1.0], lr_period_updates=4, lr_shrink=0.5, t_mult=0.5)
    assert rates(scheduler, [0, 2, 4, 5, 6]) == pytest.approx([1.0, 0.5, 0.5, 0.25, 0.25])
    with pytest.raises(ConfigError, match="all over after 8 updates"):
        scheduler.step_update(8)


def test_triangular():
    scheduler = make("triangular", lr=[0.1], max_lr=0.5, lr_period_updates=4, lr_shrink=0.5)
    assert rates(scheduler, [0, 1, 2, 3, 4, 6]) == pytest.approx([0.1, 0.3, 0.5, 0.3, 0.1, 0.25])
    shrunk = make("triangular", lr=[0.1], max_lr=0.5, lr_period_updates=4, lr_shrink=0.5, shrink_min=True)
    assert rates(shrunk, [4, 6]) == pytest.approx([0.05, 0.25])


def test_tri_stage():
    settings = {"init_lr_scale": 0.1, "final_lr_scale": 0.01}
    scheduler = make("tri_stage", lr=[1.0], warmup_steps=2, hold_steps=3, decay_steps=4, **settings)
    expected = [0.1, 0.55, 1.0, 1.0, 1.0, 0.1, 0.01, 0.01]
    assert rates(scheduler, [0, 1, 2, 4, 5, 7, 9, 10]) == pytest.approx(expected)
    by_ratio = make("tri_stage", lr=[1.0], phase_ratio=[0.2, 0.3, 0.5], max_update=10, **settings)
    assert (by_ratio.warmup_steps, by_ratio.hold_steps, by_ratio.decay_steps) == (2, 3, 5)


def test_step():
    scheduler = make("step", lr=[0.8], min_lr=0.1, warmup_updates=2, lr_deacy_period=3)
    assert scheduler.lr == 0.1
    assert rates(scheduler, [1, 2, 4, 5, 8, 100]) == pytest.approx([0.45, 0.8, 0.8, 0.4, 0.2, 0.1])


def test_manual():
    scheduler = make("manual", lr=[0.7], epoch2lr={"2": 0.3, "4-5": 0.1}, update2lr={"30,50": 0.05})
    assert scheduler.lr == 0.7
    assert [scheduler.step_begin_epoch(epoch) for epoch in (1, 2, 3, 4, 9)] == [0.7, 0.3, 0.3, 0.1, 0.1]
    assert rates(scheduler, [29, 30]) == [0.1, 0.05]
    assert scheduler.state_dict() == {"lr": 0.1}, "the rate at the beginning of the epoch, as in fairseq"
    assert make("manual", lr=[0.7], update2lr="{'1': 0.2}").lr == 0.2


def test_pass_through_leaves_each_groups_rate():
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": params[:1], "lr": 0.3}, {"params": params[1:]}], lr=0.1)
    scheduler = make("pass_through", optimizer)
    assert [scheduler.step_begin_epoch(1), scheduler.step_update(5), scheduler.step(1, 2.0)] == [0.3] * 3
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.1]


def test_reduce_on_plateau():
    scheduler = make("reduce_lr_on_plateau", lr=[1.0], lr_shrink=0.5, lr_patience=1)
    found = [scheduler.step(epoch, loss) for epoch, loss in enumerate([5.0, 4.0, 4.0, 4.1, 3.0, None], start=1)]
    assert found == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert scheduler.best == 3.0


def test_reduce_on_plateau_maximizing_and_resuming():
    settings = {"lr": [1.0], "lr_shrink": 0.5, "lr_patience": 1, "maximize_best_checkpoint_metric": True}
    scheduler = make("reduce_lr_on_plateau", **settings)
    scheduler.step(1, 30.0)
    scheduler.step(2, 29.0)
    other = make("reduce_lr_on_plateau", **settings)
    other.load_state_dict(scheduler.state_dict())
    assert other.step(3, 29.5) == 0.5, "epochs without improvement are still counted after a resume"
    assert other.step(4, 31.0) == 0.5


def test_reduce_on_plateau_starts_low_only_where_there_is_a_warmup():
    assert make("reduce_lr_on_plateau", lr=[1.0], warmup_init_lr=0.1).lr == 1.0
    assert make("reduce_lr_on_plateau", lr=[1.0], warmup_init_lr=0.1, warmup_updates=2).lr == 0.1
    assert make("reduce_lr_on_plateau", lr=[1.0], warmup_updates=2).lr == 0.0


def test_reduce_on_plateau_waits_for_warmup():
    scheduler = make("reduce_lr_on_plateau", lr=[1.0], lr_shrink=0.5, warmup_updates=4)
    assert rates(scheduler, [0, 2, 4]) == [0.0, 0.5, 1.0]
    assert scheduler.step(1, 5.0) == 1.0
    assert scheduler.best is None
    scheduler.step_update(5)
    scheduler.step(2, 5.0)
    assert scheduler.step(3, 6.0) == 0.5


def test_reduce_on_plateau_ignores_not_a_number():
    scheduler = make("reduce_lr_on_plateau", lr=[1.0], lr_shrink=0.5)
    assert scheduler.step(1, math.nan) == 0.5
    assert scheduler.best is None
    scheduler.load_state_dict({"best": math.inf})
    assert scheduler.best is None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("inverse_sqrt", {"lr": [0.1, 0.2]}, "takes one learning rate"),
        ("cosine", {"lr": [0.1, 0.2], "max_update": 5}, "takes one learning rate"),
        ("fixed", {"lr": []}, "is empty"),
        ("inverse_sqrt", {"warmup_updates": 0}, "warmup_updates"),
        ("polynomial_decay", {}, "total_num_update or optimization.max_update above 0"),
        ("cosine", {}, "needs lr_scheduler.lr_period_updates"),
        ("cosine", {"lr": [0.1], "min_lr": 0.1, "max_update": 9}, "optimization.lr=0.1 must be larger than"),
        ("cosine", {"lr_period_updates": 4, "t_mult": 0.5, "max_update": 8}, "all over after 8 updates"),
        ("cosine", {"lr_period_updates": 4, "t_mult": 0.0}, "give a number above 0"),
        ("triangular", {"lr": [0.5], "max_lr": 0.2}, "lr_scheduler.max_lr=0.2 must be larger"),
        ("tri_stage", {}, "needs lr_scheduler.warmup_steps"),
        ("tri_stage", {"phase_ratio": [0.1, 0.2, 0.3], "max_update": 9}, "three shares that add up to 1"),
        ("tri_stage", {"phase_ratio": [0.1, 0.4, 0.5]}, "needs optimization.max_update"),
        ("tri_stage", {"decay_steps": 3, "final_lr_scale": 0.0}, "never reaches 0"),
        ("step", {"lr": [0.1], "min_lr": 0.2}, "must be larger"),
        ("manual", {"epoch2lr": {"one": 0.1}}, "has the key 'one'"),
    ],
)
def test_what_is_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        make(name, **settings)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [1.0, 0.55, 0.1]),
        ("cosine", [1.0, 0.55, 0.1]),
        ("1-sqrt", [1.0, 0.1 + 0.9 * (1 - math.sqrt(0.5)), 0.1]),
    ],
)
def test_wsd(decay, expected):
    settings = {"lr": [1.0], "min_lr": 0.1, "max_update": 20, "warmup_updates": 4, "decay_updates": 6, "decay": decay}
    scheduler = make("wsd", **settings)
    assert scheduler.lr == 0.0
    assert rates(scheduler, [0, 1, 4, 10, 14]) == [0.0, 0.25, 1.0, 1.0, 1.0]
    assert rates(scheduler, [14, 17, 20]) == pytest.approx(expected)
    assert scheduler.step_update(30) == pytest.approx(0.1)


def test_wsd_shapes_differ_on_the_way():
    quarter = {
        decay: make("wsd", lr=[1.0], max_update=8, decay_updates=8, decay=decay).step_update(2)
        for decay in ("linear", "cosine", "1-sqrt")
    }
    assert quarter == pytest.approx({"linear": 0.75, "cosine": (1 + math.cos(math.pi / 4)) / 2, "1-sqrt": 0.5})


def test_wsd_decays_in_the_last_tenth_unless_told():
    scheduler = make("wsd", lr=[1.0], max_update=100)
    assert rates(scheduler, [0, 90, 95, 100]) == pytest.approx([1.0, 1.0, 0.5, 0.0])
    constant = make("wsd", lr=[1.0], max_update=100, decay_updates=0)
    assert rates(constant, [50, 100, 101]) == [1.0, 1.0, 1.0]


def test_wsd_refuses():
    with pytest.raises(ConfigError, match=r"needs optimization\.max_update"):
        make("wsd", lr=[1.0])
    with pytest.raises(ConfigError, match=r"do not fit into optimization\.max_update=10"):
        make("wsd", lr=[1.0], max_update=10, warmup_updates=8, decay_updates=4)
    with pytest.raises(ConfigError, match="must be larger than"):
        make("wsd", lr=[1.0], max_update=10, min_lr=2.0)
    with pytest.raises(ConfigError, match="is not one of linear, cosine, 1-sqrt"):
        make("wsd", lr=[1.0], max_update=10, decay="steps")


def test_pass_through_leaves_an_optimizer_without_schedules_alone():
    scheduler = make("pass_through")
    assert rates(scheduler, [0, 5]) == [1.0, 1.0]
    assert scheduler.step_begin_epoch(2) == 1.0
    assert scheduler.step(2, 4.0) == 1.0
    assert scheduler.group_rates == {}
    other = make("pass_through")
    other.load_state_dict(scheduler.state_dict())
    assert other.best == 4.0
