"""One optimiser step: gradients averaged over its sub-networks, its images and its workers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.errors import CheckpointError
from ofa_hw.spaces import Allowed, SubnetSpec
from ofa_hw.supernet import Supernet
from ofa_hw.training.execution import Execution, Workers
from ofa_hw.training.recipe import Recipe, ShrinkingPhase


def train_step(
    net: Supernet,
    teacher: Supernet | None,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    specs: list[SubnetSpec],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    execution: Execution | None = None,
    workers: Workers | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> float:
    """Takes one optimiser step.

    Args:
        net: In training mode.
        teacher: The full network whose soft labels are learnt from; None to learn from labels.
        optimizer: Of `net`.
        recipe: Gives label smoothing and the weight of distillation.
        specs: The sub-networks of this step.
        images: Of this worker, (B, C, H, W).
        labels: (B,).
        execution: How it is computed.
        workers: Whose gradients are averaged, and so are the statistics of batch norms.
        scaler: Of `execution`; the same one in each step.

    Returns:
        The mean loss.

    Raises:
        CheckpointError: If the loss becomes infinite or not a number; it names the sub-network.
    """
    execution = execution or Execution()
    scaler = scaler or execution.scaler()
    optimizer.zero_grad(set_to_none=True)
    workers = workers or Workers()
    with workers.norms():
        loss = accumulate_gradients(
            net, teacher, recipe, specs, images, labels, execution=execution, scaler=scaler
        )
    if workers.size > 1:
        # Sub-networks are the same everywhere, and so are the parameters that have gradients.
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        statistics = [b for b in net.buffers() if b.is_floating_point()]
        mean_loss = torch.tensor([loss], device=execution.device)
        workers.average([*gradients, *statistics, mean_loss])
        loss = float(mean_loss)
    scaler.step(optimizer)
    scaler.update()
    return loss


def accumulate_gradients(
    net: Supernet,
    teacher: Supernet | None,
    recipe: Recipe,
    specs: list[SubnetSpec],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    execution: Execution,
    scaler: torch.amp.GradScaler,
) -> float:
    """Adds the scaled gradients of a batch to those that are there; returns its loss, unscaled.

    Raises:
        CheckpointError: If the loss becomes infinite or not a number.
    """
    total = 0.0
    for some, wanted in zip(
        images.chunk(execution.accumulate), labels.chunk(execution.accumulate), strict=True
    ):
        share = len(some) / (len(images) * len(specs))
        placed, classes = execution.images(some), wanted.to(execution.device)
        soft = _soft_labels(teacher, placed, execution)
        for spec in specs:
            with execution.autocast():
                logits = net(placed, spec).float()  # (B, classes)
            loss = F.cross_entropy(logits, classes, label_smoothing=recipe.label_smoothing)
            if soft is not None:
                loss = loss + recipe.distillation * F.cross_entropy(logits, soft)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise CheckpointError(
                    f"the loss became {value} in the sub-network {spec.to_json()}; "
                    "try a lower learning rate"
                )
            scaler.scale(loss * share).backward()
            total += value * share
    return total


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


def _soft_labels(
    teacher: Supernet | None, images: torch.Tensor, execution: Execution
) -> torch.Tensor | None:
    if teacher is None:
        return None
    with torch.no_grad(), execution.autocast():
        logits: torch.Tensor = teacher(images, teacher.space.largest(images.shape[-1]))
    return logits.float().softmax(1)  # (B, classes)
