"""Several processes, several parts of a batch, other precisions: what stays equal and what not."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ofa_hw.errors import SpecError
from ofa_hw.supernet import Supernet, load_supernet
from ofa_hw.training import DigitsData, Execution, Recipe, ShrinkingPhase, Workers, read_log, train
from ofa_hw.training.checkpoints import Checkpoints
from ofa_hw.training.loop import TrainingState
from ofa_hw.training.step import accumulate_gradients, make_optimizer, sample_specs, train_step

PHASE = ShrinkingPhase("all", 1, 0.1, kernel_sizes=9, depths=9, expand_ratios=9, subnets_per_step=2)
RECIPE = Recipe("one", (PHASE,), batch_size=40)
# Run in two processes; the step is that of `step` below with half the images.
PROGRAM = """
import os
from dataclasses import replace
import torch
from ofa_hw.training import DigitsData, Execution, Recipe, ShrinkingPhase, join_workers, train
from ofa_hw.training.step import make_optimizer, sample_specs, train_step
from ofa_hw.supernet import load_supernet

torch.set_num_threads(1)
os.environ.update(settings["environment"])
workers = join_workers()
phase = ShrinkingPhase("all", 1, 0.1, kernel_sizes=9, depths=9, expand_ratios=9, subnets_per_step=2)
recipe = Recipe("one", (phase,), batch_size=40)
images, labels = next(DigitsData().batches("train", 24, 40))
found = {}
for norms in ("frozen", "batch", "synced"):
    net = load_supernet("tiny").train(norms != "frozen")
    optimizer = make_optimizer(net, recipe)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    specs = sample_specs(net, phase.allowed(net.space), phase, 24, seed=(0,))
    mine = slice(workers.rank, None, workers.size)
    loss = train_step(
        net, None, optimizer, recipe, specs, images[mine], labels[mine],
        workers=replace(workers, sync_batch_norm=norms == "synced"),
    )
    found[norms] = {"loss": torch.tensor(loss), **net.state_dict()}
net = load_supernet("tiny")
phases = (ShrinkingPhase("full", 0.1, 0.1), ShrinkingPhase("all", 0.1, 0.1, depths=9))
short = Recipe("short", phases, 50)
train(net, DigitsData(), short, workers=workers)
found["run"] = net.state_dict()
torch.save(found, f"{settings['folder']}/{workers.rank}.pt")
tell.send("done")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def workers(
    tmp_path_factory: pytest.TempPathFactory,
    start_program: Callable[..., Any],
    meeting_place: Callable[[int], list[dict[str, str]]],
) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What two workers had after the same step, by rank."""
    folder = tmp_path_factory.mktemp("workers")
    children = [
        start_program(PROGRAM, folder=str(folder), environment=environment)
        for environment in meeting_place(2)
    ]
    assert [child.hear() for child in children] == [["done"]] * 2
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(DigitsData().batches("train", 24, 40))


def step(net: Supernet, execution: Execution | None = None) -> float:
    """One step on forty images."""
    optimizer = make_optimizer(net, RECIPE)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    specs = sample_specs(net, PHASE.allowed(net.space), PHASE, 24, seed=(0,))
    return train_step(net, None, optimizer, RECIPE, specs, *batch(), execution=execution)


def assert_close(net: nn.Module, state: dict[str, torch.Tensor], tolerance: float) -> None:
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter, state[name], atol=tolerance), name


@pytest.mark.parametrize("what", ["frozen", "batch", "synced", "run"])
def test_workers_have_the_same_weights_and_statistics_after_a_step(workers, what: str) -> None:
    first, second = (worker[what] for worker in workers)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_with_frozen_norms_two_workers_step_as_one_with_the_double_batch(workers) -> None:
    net = load_supernet("tiny").eval()
    loss = step(net)
    assert loss == pytest.approx(float(workers[0]["frozen"]["loss"]), rel=1e-5)
    assert_close(net, workers[0]["frozen"], 1e-6)


def test_two_workers_step_as_one_with_the_double_batch(workers) -> None:
    net = load_supernet("tiny").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    loss = step(net)
    found = workers[0]["synced"]
    assert loss == pytest.approx(float(found["loss"]), rel=1e-5)
    for name, tensor in net.state_dict().items():
        assert torch.allclose(tensor, found[name], rtol=1e-4, atol=1e-5), name
    moved = [name for name in before if not torch.equal(before[name], found[name])]
    assert any("running_var" in name for name in moved)
    assert any("inverted_bottleneck.conv" in name for name in moved)


def test_with_batch_norms_of_their_own_two_workers_step_by_the_mean_of_their_gradients(
    workers,
) -> None:
    net = load_supernet("tiny").train()
    optimizer = make_optimizer(net, RECIPE)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    specs = sample_specs(net, PHASE.allowed(net.space), PHASE, 24, seed=(0,))
    images, labels = batch()
    for half in range(2):
        accumulate_gradients(
            *(net, None, RECIPE, specs, images[half::2], labels[half::2]),
            execution=Execution(),
            scaler=Execution().scaler(),
        )
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad /= 2
    optimizer.step()
    assert_close(net, workers[0]["batch"], 1e-6)


@pytest.mark.parametrize("accumulate", [2, 3, 40])
def test_with_frozen_norms_a_batch_in_parts_steps_as_in_one(accumulate: int) -> None:
    whole, parts = (load_supernet("tiny").eval() for _ in range(2))
    assert step(whole) == pytest.approx(step(parts, Execution(accumulate=accumulate)), rel=1e-5)
    assert_close(parts, whole.state_dict(), 1e-6)


def test_the_memory_layout_changes_nothing() -> None:
    whole, other = (load_supernet("tiny") for _ in range(2))
    execution = Execution(channels_last=False)
    execution.place(other)
    Execution().place(whole)
    assert step(whole, Execution()) == pytest.approx(step(other, execution), rel=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_steps_near_float32_and_keeps_float32_weights(precision: str) -> None:
    exact, rough, before = (load_supernet("tiny") for _ in range(3))
    assert step(rough, Execution(precision=precision)) == pytest.approx(step(exact), rel=0.05)
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    triples = zip(exact.parameters(), rough.parameters(), before.parameters(), strict=True)
    moved = [((a - c).detach().flatten(), (b - c).detach().flatten()) for a, b, c in triples]
    went, wanted = torch.cat([b for _, b in moved]), torch.cat([a for a, _ in moved])
    assert not torch.equal(went, wanted)
    # The same way, and as far: gradients are not those of a loss that is scaled.
    assert float(torch.cosine_similarity(went, wanted, 0)) > 0.95
    assert float(went.norm() / wanted.norm()) == pytest.approx(1, rel=0.1)


def test_a_step_whose_scaled_gradients_overflow_is_left_out_and_the_scale_halved() -> None:
    net, execution = load_supernet("tiny"), Execution(precision="float16")
    before = [p.detach().clone() for p in net.parameters()]
    scaler = execution.scaler()
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**40})
    optimizer = make_optimizer(net, RECIPE)
    specs = sample_specs(net, PHASE.allowed(net.space), PHASE, 24, seed=(0,))
    loss = train_step(
        *(net, None, optimizer, RECIPE, specs, *batch()), execution=execution, scaler=scaler
    )
    assert math.isfinite(loss)
    assert scaler.get_scale() == 2.0**39
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_run_goes_on_with_the_scale_of_its_checkpoint(tmp_path: Path) -> None:
    execution, states = Execution(precision="float16"), list[TrainingState]()
    net = load_supernet("tiny")
    recipe = Recipe("short", (ShrinkingPhase("full", 0.04, 0.1),), batch_size=20)

    def keep(state: TrainingState) -> None:
        states.append(state)
        Checkpoints(tmp_path).save(net, state, {})

    first = TrainingState(scaler={**execution.scaler().state_dict(), "scale": 256.0})
    train(net, DigitsData(), recipe, execution=execution, start=first, keep=keep)
    assert len(states) == 3
    restored = Checkpoints(tmp_path).restore(net, recipe)
    assert restored is not None
    assert restored[0].scaler == states[-1].scaler
    assert restored[0].scaler["scale"] == 256.0
    assert restored[0].scaler["_growth_tracker"] == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: Execution(precision="int8"), "'int8'", id="precision"),
        pytest.param(lambda: Execution(accumulate=0), "accumulate=0", id="parts"),
        pytest.param(lambda: Execution(device="cuda:9"), "cuda:9", id="device"),
    ],
)
def test_an_execution_that_cannot_be_is_refused(make, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_a_batch_that_workers_cannot_share_evenly_is_refused() -> None:
    with pytest.raises(SpecError, match=r"40 images.*3 workers"):
        train(load_supernet("tiny"), DigitsData(), RECIPE, workers=Workers(0, 3))


@pytest.mark.slow
def test_torchrun_trains_with_two_processes_into_one_folder(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(
        'name = "short"\nbatch_size = 50\n[[phase]]\nname = "full"\nepochs = 0.1\n'
        "learning_rate = 0.1\n"
    )
    bin_folder = Path(sys.executable).parent
    launch = [bin_folder / "torchrun", "--standalone", "--nproc-per-node=2", bin_folder / "ofa-hw"]
    options = ["--recipe", "short.toml", "--space", "tiny", "--labels", "0", "--output", "run"]
    done = subprocess.run(
        [*map(str, launch), "train", *options, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"weights"') == 1
    assert not re.search("Traceback|Warning", done.stderr), done.stderr
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    assert identity["workers"] == 2
    steps = [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert steps == [1, 2]  # 100 of 1,000 images: 25 a worker and step
    weights = load_supernet("tiny", tmp_path / "run" / "supernet.pth")
    assert not torch.equal(
        weights.state_dict()["classifier.linear.weight"],
        load_supernet("tiny").state_dict()["classifier.linear.weight"],
    )
