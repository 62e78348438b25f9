"""The training loop: progressive shrinking of a supernet, phase by phase.

Every random choice of a step comes from a generator seeded by (seed, phase, epoch) or (seed, phase,
step), never from a state carried along, so a run that stops between two steps can go on as if it
had not.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.spaces import Allowed, SubnetSpec
from ofa_hw.supernet import Supernet
from ofa_hw.training.data import ImageData
from ofa_hw.training.recipe import Recipe, ShrinkingPhase

logger = logging.getLogger(__name__)
_EPOCH_STREAM, _STEP_STREAM = 0, 1


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One optimiser step, as told to the progress callback.

    Attributes:
        phase: Name of the phase.
        step: Steps done in the whole run, from 1.
        steps: Steps of the whole run.
        loss: Mean over the step's sub-networks.
        learning_rate: Of this step.
    """

    phase: str
    step: int
    steps: int
    loss: float
    learning_rate: float


def train(
    net: Supernet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int = 0,
    progress: Callable[[TrainingStep], None] | None = None,
) -> None:
    """Trains a supernet in place by progressive shrinking.

    Args:
        net: The supernet; it is left in eval mode.
        data: Images to train on.
        recipe: Phases and hyper-parameters.
        seed: Of every random choice.
        progress: Called after each step.

    Raises:
        CheckpointError: If the loss becomes infinite or not a number; it names the step and the
            sub-network that gave it.
    """
    per_epoch = epoch_steps(recipe, data)
    counts = [phase_steps(phase, per_epoch) for phase in recipe.phases]
    done = 0
    teacher: Supernet | None = None
    net.train()
    for index, phase in enumerate(recipe.phases):
        if phase.sort_phase is not None:
            net.sort_channels(phase=phase.sort_phase)
        optimizer = make_optimizer(net, recipe)
        allowed = phase.allowed(net.space)
        batches = _phase_batches(net, data, recipe, phase, seed=(seed, index), steps=counts[index])
        for step, (images, labels) in enumerate(batches):
            rate = learning_rate(phase, step, per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            specs = sample_specs(
                net, allowed, phase, images.shape[-1], seed=(seed, index, _STEP_STREAM, step)
            )
            loss = train_step(net, teacher, optimizer, recipe, specs, images, labels)
            done += 1
            if progress:
                progress(TrainingStep(phase.name, done, sum(counts), loss, rate))
        if teacher is None:
            teacher = copy.deepcopy(net).eval().requires_grad_(False)
        logger.info("phase %s done", phase.name)
    net.eval()


def train_step(
    net: Supernet,
    teacher: Supernet | None,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    specs: list[SubnetSpec],
    images: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    """One optimiser step: gradients averaged over `specs`.

    Args:
        net: In training mode.
        teacher: The full network whose soft labels are learnt from; None to learn from labels.
        optimizer: Of `net`.
        recipe: Gives label smoothing and the weight of distillation.
        specs: The sub-networks of this step.
        images: (B, C, H, W).
        labels: (B,).

    Returns:
        The mean loss.
    """
    soft = _soft_labels(teacher, images)
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for spec in specs:
        logits = net(images, spec)  # (B, classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        if soft is not None:
            loss = loss + recipe.distillation * F.cross_entropy(logits, soft)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CheckpointError(
                f"the loss became {value} in the sub-network {spec.to_json()}; "
                "try a lower learning rate"
            )
        (loss / len(specs)).backward()  # type: ignore[no-untyped-call]
        total += value
    optimizer.step()
    return total / len(specs)


def total_steps(recipe: Recipe, data: ImageData) -> int:
    """Optimiser steps of a whole run.

    Raises:
        SpecError: If there are fewer training images than one batch takes.
    """
    return sum(phase_steps(phase, epoch_steps(recipe, data)) for phase in recipe.phases)


def epoch_steps(recipe: Recipe, data: ImageData) -> int:
    """Optimiser steps of one pass over the training images.

    Raises:
        SpecError: If there are fewer training images than one batch takes.
    """
    steps = data.size("train") // recipe.batch_size
    if not steps:
        raise SpecError(
            f"{data.size('train')} training images are fewer than a batch of the recipe "
            f"{recipe.name} takes, {recipe.batch_size}; lower its batch_size"
        )
    return steps


def phase_steps(phase: ShrinkingPhase, per_epoch: int) -> int:
    """Optimiser steps of a phase, warm-up included."""
    return round((phase.warmup_epochs + phase.epochs) * per_epoch)


def learning_rate(phase: ShrinkingPhase, step: int, per_epoch: int) -> float:
    """Linear warm-up, then half a cosine to zero (https://arxiv.org/abs/1608.03983)."""
    warmup = round(phase.warmup_epochs * per_epoch)
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, phase_steps(phase, per_epoch) - warmup)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay only where a tensor is no bias and no norm's.

    Appendix B of https://arxiv.org/abs/1908.09791; biases and norms are vectors.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=recipe.momentum, nesterov=True)


def sample_specs(
    net: Supernet,
    allowed: Allowed,
    phase: ShrinkingPhase,
    resolution: int,
    *,
    seed: tuple[int, ...],
) -> list[SubnetSpec]:
    """The sub-networks of one step, all at the resolution of its images."""
    space = net.space
    rows = space.sample_rows(
        phase.subnets_per_step, rng=np.random.default_rng(seed), allowed=allowed
    )
    rows[:, 0] = space.resolutions.index(resolution)
    return space.decode(rows)


def _soft_labels(teacher: Supernet | None, images: torch.Tensor) -> torch.Tensor | None:
    if teacher is None:
        return None
    with torch.no_grad():
        logits: torch.Tensor = teacher(images, teacher.space.largest(images.shape[-1]))
        return logits.softmax(1)  # (B, classes)


def _phase_batches(
    net: Supernet,
    data: ImageData,
    recipe: Recipe,
    phase: ShrinkingPhase,
    *,
    seed: tuple[int, int],
    steps: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields `steps` batches, each at a random resolution of the space."""
    left = steps
    epoch = 0
    while left > 0:
        rng = np.random.default_rng((*seed, _EPOCH_STREAM, epoch))
        resolutions = _random_resolutions(net.space.resolutions, rng)
        for batch in data.epoch(resolutions, recipe.batch_size, rng=rng):
            yield batch
            left -= 1
            if left == 0:
                return
        epoch += 1


def _random_resolutions(choices: tuple[int, ...], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield int(rng.choice(choices))
