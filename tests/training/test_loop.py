import math

import numpy as np
import pytest
import torch

from ofa_hw.errors import CheckpointError
from ofa_hw.supernet import load_supernet
from ofa_hw.training import DigitsData, Recipe, ShrinkingPhase, TrainingStep, train
from ofa_hw.training.evaluate import calibrated, top1
from ofa_hw.training.labels import collect_labels, drawn_spec
from ofa_hw.training.schedule import learning_rate, phase_steps
from ofa_hw.training.step import make_optimizer, sample_specs

SHORT = Recipe(
    "short",
    (
        ShrinkingPhase("full", 0.2, 0.1),
        ShrinkingPhase("all", 0.1, 0.01, depths=9, expand_ratios=9, sort_phase=0),
    ),
    batch_size=50,
)


def test_the_same_seed_trains_the_same_weights() -> None:
    first, second, other = (load_supernet("tiny") for _ in range(3))
    data = DigitsData()
    steps: list[TrainingStep] = []
    train(first, data, SHORT, seed=1, progress=steps.append)
    train(second, data, SHORT, seed=1)
    train(other, data, SHORT, seed=2)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )
    assert [step.step for step in steps] == list(range(1, 7))
    assert {step.steps for step in steps} == {6}
    assert [step.phase for step in steps] == ["full"] * 4 + ["all"] * 2
    assert not first.training


def test_a_loss_that_is_no_number_stops_with_the_sub_network_that_gave_it() -> None:
    net = load_supernet("tiny")
    phase = ShrinkingPhase("full", 0.2, 1e30)
    with pytest.raises(
        CheckpointError,
        match=r'^step 2, phase full: .*sub-network \{"space": "tiny".*learning rate',
    ):
        train(net, DigitsData(), Recipe("wild", (phase,), batch_size=50))


def test_biases_and_batch_norms_do_not_decay() -> None:
    net = load_supernet("tiny")
    decayed, spared = make_optimizer(net, SHORT).param_groups
    assert decayed["weight_decay"] == 3e-5
    assert spared["weight_decay"] == 0
    vectors = {
        name for name, p in net.named_parameters() if ".bn." in name or name.endswith("bias")
    }
    assert {id(p) for p in spared["params"]} == {
        id(p) for name, p in net.named_parameters() if name in vectors
    }
    assert len(decayed["params"]) + len(spared["params"]) == len(list(net.parameters()))


def test_the_rate_rises_in_the_warm_up_and_ends_near_zero() -> None:
    phase = ShrinkingPhase("full", 4, 1.0, warmup_epochs=1)
    rates = [learning_rate(phase, step, 10) for step in range(phase_steps(phase, 10))]
    assert len(rates) == 50
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[30] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[-1] < 0.01


def test_a_step_takes_only_what_its_phase_opens() -> None:
    net = load_supernet("tiny")
    phase = ShrinkingPhase("depth 1", 1, 0.1, kernel_sizes=9, depths=2, subnets_per_step=20)
    specs = sample_specs(net, phase.allowed(net.space), phase, 28, seed=(0, 1))
    assert len(specs) == 20
    assert {spec.resolution for spec in specs} == {28}
    assert {depth for spec in specs for depth in spec.depths} == {2, 3}
    assert {e for spec in specs for e in spec.expand_ratios} <= {0, 6}
    assert {k for spec in specs for k in spec.kernel_sizes} == {0, 3, 5, 7}


def test_labels_depend_on_seed_and_place_alone_and_cover_every_resolution() -> None:
    net = load_supernet("tiny").eval()
    labels = collect_labels(net, DigitsData(), 3, seed=4)
    assert [label.spec.resolution for label in labels] == list(net.space.resolutions)
    assert labels[2].spec == drawn_spec(net.space, 2, seed=4)
    assert all(0 <= label.top1 <= 1 for label in labels)


def test_calibration_leaves_the_supernet_as_it_was() -> None:
    net = load_supernet("tiny").eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    data = DigitsData()
    module = calibrated(net, net.space.largest(24), data, images=100)
    top1(module, data, "validation", 24)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_the_parts_of_the_digits_do_not_overlap_and_training_shuffles_them() -> None:
    data = DigitsData()
    parts = {}
    for split in ("train", "validation", "test"):
        images = torch.cat([x for x, _ in data.batches(split, 24, 128)])
        parts[split] = {image.numpy().tobytes() for image in images}
        assert images.shape == (data.size(split), 1, 24, 24)
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["validation"]
    batches = list(data.epoch(iter([24, 28] * 10), 100, rng=np.random.default_rng(0)))
    assert [x.shape[-1] for x, _ in batches] == [24, 28] * 5
