import copy

import pytest
import torch

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.adam import Adam
from seqkit.optim.base import build_optimizer, get_lr, parameter_names, set_lr
from seqkit.optim.composite import CompositeConfig
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.optim.nag import NAG
from seqkit.registry import registry
from tests.unit.optim.helpers import parameters, run

ADAM = {"optimizer": {"_name": "adam", "adam_betas": [0.9, 0.98]}}
NAG_GROUP = {"optimizer": {"_name": "nag", "momentum": 0.9}, "lr_float": 0.05}
NAMES = ["encoder.a", "encoder.b", "decoder.c"]


def make(groups, params=None, **settings):
    config = build_config(
        CompositeConfig, {"_name": "composite", "groups": groups, "lr": [0.01], **settings}, where="optimizer"
    )
    return build_optimizer(config, list(zip(NAMES, parameters() if params is None else params, strict=True)))


def schedule(name, optimizer, **settings):
    cls = registry("lr_scheduler").get(name).config
    return build_lr_scheduler(build_config(cls, {"_name": name, **settings}, where="lr_scheduler"), optimizer)


def test_each_group_has_its_optimizer_and_rate():
    params = parameters()
    params[1].param_group = "other"
    optimizer = make({"default": ADAM, "other": NAG_GROUP}, params)
    found = run(optimizer, params, 5)
    expected = parameters()
    adam, nag = Adam([expected[0], expected[2]], lr=0.01, betas=(0.9, 0.98)), NAG([expected[1]], 0.05, momentum=0.9)
    run(adam, expected, 0)
    for step in range(5):
        run(adam, expected, 1, first=step)
        nag.step()
    assert all(torch.equal(value, right.detach()) for value, right in zip(found, expected, strict=True))
    assert parameter_names(optimizer) == ["encoder.a", "decoder.c", "encoder.b"]
    assert optimizer.lr_scheduler is None


def test_one_schedule_serves_groups_in_proportion():
    optimizer = make({"other": {**NAG_GROUP, "parameters": ["encoder.*"]}, "default": ADAM})
    assert get_lr(optimizer) == 0.01  # of the default group
    set_lr(optimizer, 0.02)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.1])


def test_pass_through_hands_on_to_the_groups_schedules():
    groups = {
        "default": {**ADAM, "lr_scheduler": {"_name": "cosine", "warmup_updates": 2}},
        "other": {**NAG_GROUP, "lr_scheduler": "fixed", "parameters": "decoder.*"},
    }
    optimizer = make(groups, max_update=10)
    passed = schedule("pass_through", optimizer)
    passed.step_update(0)
    assert passed.group_rates == {"default": 0.0, "other": 0.05}
    passed.step_begin_epoch(1)
    assert passed.step_update(2) == pytest.approx(0.01)
    passed.step(1, 3.5)
    assert passed.state_dict() == {"default": {"best": 3.5}, "other": {"lr": 0.05}}
    other = schedule("pass_through", make(groups, max_update=10))
    other.load_state_dict(passed.state_dict())
    assert other.state_dict() == passed.state_dict()
    with pytest.raises(ConfigError, match="set lr_scheduler=pass_through, or leave theirs out"):
        schedule("fixed", optimizer)


def test_overrides_by_the_model_make_groups():
    params = parameters()
    params[0].optim_overrides = {"optimizer": {"lr_scale": 0.5, "weight_decay_scale": 0}}
    groups = {"default": {"optimizer": {"_name": "adam", "weight_decay": 0.1}}}
    optimizer = make(groups, params, dynamic_groups=True)
    assert {group["group_name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {
        "default/lr_scale=0.5/weight_decay_scale=0": (0.005, 0.0),
        "default": (0.01, 0.1),
    }
    with pytest.raises(ConfigError, match=r"set optimizer\.dynamic_groups=true"):
        make(groups, params)
    params[0].optim_overrides = {"optimizer": {"momentum": 0.5}}
    with pytest.raises(ConfigError, match="has momentum, which adam cannot take"):
        make(groups, params, dynamic_groups=True)


def test_goes_on_after_loading():
    groups = {"default": ADAM, "other": {**NAG_GROUP, "parameters": ["encoder.b"]}}
    whole = parameters()
    expected = run(make(groups, whole), whole, 5)
    params = parameters()
    optimizer = make(groups, params)
    run(optimizer, params, 3)
    state = copy.deepcopy(optimizer.state_dict())
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = make(groups, others)
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(run(other, others, 2, first=3), expected, strict=True))
    assert other.state_dict()["state"].keys() == {0, 1, 2}
    for group in state["param_groups"]:
        group["group_name"] = f"{group['group_name']}-renamed"
    other.load_state_dict(state)  # groups of other names are taken in their order
    assert [group["group_name"] for group in other.param_groups] == ["default", "other"]
    with pytest.raises(ValueError, match="this optimizer has default"):
        make({"default": ADAM}).load_state_dict(state)


def test_a_rate_that_was_changed_counts_after_loading():
    groups = {"default": ADAM, "other": {**ADAM, "lr_float": 0.02, "parameters": ["encoder.b"]}}
    state = copy.deepcopy(make(groups).state_dict())
    changed = make({**groups, "other": {**groups["other"], "lr_float": 0.1}})
    changed.load_state_dict(state)
    fixed = schedule("fixed", changed)
    fixed.step_update(3)
    rates = {group["group_name"]: group["lr"] for group in changed.param_groups}
    assert rates["other"] / rates["default"] == pytest.approx(10)  # not the former 2


def test_closure():
    params = parameters()
    optimizer = make({"default": ADAM}, params)
    assert optimizer.step(lambda: 3.0) == 3.0


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "needs optimizer.groups"),
        ({"default": {"optimiser": {}}}, r"unknown option optimizer\.groups\.default\.optimiser; did you mean"),
        ({"default": {"lr": [0.1]}}, r"optimizer\.groups\.default\.optimizer must be given"),
        (
            {"default": {"optimizer": {"lr": 1.0}}},
            r"names no optimizer; give optimizer\.groups\.default\.optimizer\._na",
        ),
        ({"default": {"optimizer": {"_name": "adam", "beta": 1}}}, r"optimizer\.groups\.default\.optimizer"),
        ({"default": 3}, "is not a mapping"),
        ({"other": ADAM}, "is of the group 'default', which optimizer.groups does not have"),
        (
            {"default": ADAM, "x": {**ADAM, "parameters": ["enc.*"]}},
            r"no parameter has a name like .*\.x\.parameters=enc",
        ),
        ({"default": {"optimizer": "cpu_adam"}}, "choose adam here"),
        (
            {"default": {**ADAM, "lr_scheduler": "fixed"}, "x": {**ADAM, "parameters": ["encoder.a"]}},
            "the groups x of optimizer.groups have no lr_scheduler",
        ),
    ],
)
def test_what_is_wrong_is_told(groups, message):
    with pytest.raises(ConfigError, match=message):
        make(groups)


def test_parameter_groups_are_made_here():
    config = build_config(CompositeConfig, {"groups": {"default": ADAM}, "lr": [0.1]}, where="optimizer")
    with pytest.raises(ConfigError, match="makes the groups of parameters itself"):
        registry("optimizer").get("composite").cls.build(config, [{"params": parameters()}])
