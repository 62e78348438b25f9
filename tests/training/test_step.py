"""What a step minimises, for which sub-networks, at which resolution and after which teacher."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ofa_hw.errors import CheckpointError
from ofa_hw.spaces import SubnetSpec, get_space
from ofa_hw.supernet import Supernet, load_supernet
from ofa_hw.training import DigitsData, Execution, Recipe, ShrinkingPhase, evaluate_supernet, train
from ofa_hw.training.execution import Workers
from ofa_hw.training.loop import TrainingState, _phase_batches
from ofa_hw.training.step import accumulate_gradients

torch.set_num_threads(1)
TINY = get_space("tiny")
FULL = ShrinkingPhase("full", 0.06, 0.05)
RECIPE = Recipe("one", (FULL,), batch_size=20, label_smoothing=0.2, distillation=0.7)
SPECS = [TINY.smallest(24), TINY.largest(24)]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(DigitsData().batches("train", 24, 20))


def gradients(
    net: Supernet, specs: list[SubnetSpec], teacher: Supernet | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a batch, and the gradients that it leaves by name."""
    net.zero_grad()
    execution = Execution()
    loss = accumulate_gradients(
        *(net, teacher, RECIPE, specs, *batch()), execution=execution, scaler=execution.scaler()
    )
    grads = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return loss, grads


def test_the_loss_is_that_of_smoothed_labels_and_of_the_full_networks_soft_ones() -> None:
    net, teacher = load_supernet("tiny").eval(), load_supernet("tiny", seed=5).eval()
    images, labels = batch()
    with torch.no_grad():
        log_p = net(images, SPECS[0]).log_softmax(1)
        soft = teacher(images, TINY.largest(24)).softmax(1)
    hard = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    own = float(-(hard * log_p).sum(1).mean())
    taught = float(-(soft * log_p).sum(1).mean())
    assert gradients(net, SPECS[:1])[0] == pytest.approx(own, rel=1e-5)
    assert gradients(net, SPECS[:1], teacher)[0] == pytest.approx(own + 0.7 * taught, rel=1e-5)
    assert all(p.grad is None for p in teacher.parameters())


def test_a_step_takes_the_mean_of_its_sub_networks_gradients() -> None:
    net = load_supernet("tiny").eval()
    first, second, both = (gradients(net, specs) for specs in (SPECS[:1], SPECS[1:], SPECS))
    assert both[0] == pytest.approx((first[0] + second[0]) / 2, rel=1e-6)
    for name, found in both[1].items():
        wanted = sum(g[1].get(name, torch.zeros_like(found)) for g in (first, second)) / 2
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_sub_network_that_gives_no_number_is_the_one_that_is_named() -> None:
    net = load_supernet("tiny")
    for name, parameter in net.named_parameters():
        if name.startswith("blocks.3."):  # the third block of the first unit: depth 3 runs it
            parameter.data.fill_(float("nan"))
    phase = ShrinkingPhase("depth", 1, 0.01, depths=9, subnets_per_step=2)
    with pytest.raises(
        CheckpointError, match=r"^step \d+, phase depth: the loss became nan"
    ) as got:
        train(net, DigitsData(), Recipe("deep", (phase,), batch_size=20))
    named = re.search(r"\{.*\}", str(got.value))
    assert named is not None
    assert SubnetSpec.from_json(named[0]).depths[0] == 3


@pytest.mark.parametrize("rank", [0, 1])
def test_every_batch_is_of_a_random_resolution_the_same_on_every_worker(rank: int) -> None:
    def sizes(workers: Workers) -> list[int]:
        net = load_supernet("tiny")
        recipe = Recipe("one", (FULL,), batch_size=50)
        return [
            images.shape[-1]
            for images, _ in _phase_batches(
                *(net, DigitsData(), recipe), seed=(0, 0), steps=range(30), shard=workers
            )
        ]

    alone = sizes(Workers())
    assert set(alone) == set(TINY.resolutions)
    assert min(np.bincount(alone)[list(TINY.resolutions)]) >= 4
    assert sizes(Workers(rank, 2)) == alone


def test_the_teacher_is_the_full_network_as_the_first_phase_left_it() -> None:
    phases = (FULL, ShrinkingPhase("depth", 0.06, 0.05, depths=9))
    net, left, states = load_supernet("tiny"), {}, list[TrainingState]()

    def keep(state: TrainingState) -> None:
        states.append(state)
        if state.phase == 1 and state.step == 0:
            left.update(copy.deepcopy(net.state_dict()))

    train(net, DigitsData(), Recipe("two", phases, batch_size=20), keep=keep)
    assert [state.teacher is None for state in states] == [True] * 3 + [False] * 5
    for state in states[3:]:
        assert state.teacher is not None
        assert all(torch.equal(left[k], v) for k, v in state.teacher.state_dict().items())
    assert any(not torch.equal(left[k], v) for k, v in net.state_dict().items())


def test_an_evaluation_calibrates_the_batch_norms_first() -> None:
    net, data = load_supernet("tiny", seed=3).eval(), DigitsData()
    named = [("smallest", SPECS[0])]
    before = evaluate_supernet(net, data, named, images=100)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
            module.running_var.fill_(0.01)
    assert evaluate_supernet(net, data, named, images=100) == before
    assert json.loads(before[0].spec.to_json())["resolution"] == 24
