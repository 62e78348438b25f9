"""Fine-tuning: a chosen sub-network trained further by itself, as the paper's #25 and #75 entries.

https://arxiv.org/abs/1908.09791, section 4: its weights are those of the supernet, and a few epochs
at a low rate bring it a little further.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.spaces import SubnetSpec
from ofa_hw.supernet import Supernet, calibrate_batch_norm
from ofa_hw.training.checkpoints import Checkpoints
from ofa_hw.training.data import Batch, ImageData
from ofa_hw.training.evaluate import calibrated, calibration_batches, top1
from ofa_hw.training.execution import Execution
from ofa_hw.training.identity import require_same, weights_digest, write_identity
from ofa_hw.training.loop import TrainingState
from ofa_hw.training.recipe import Recipe, ShrinkingPhase
from ofa_hw.training.schedule import epoch_steps, learning_rate, phase_steps
from ofa_hw.training.step import make_optimizer


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A sub-network that was trained further.

    Attributes:
        spec: The sub-network.
        before: Its validation top-1 as taken from the supernet, batch norms calibrated.
        after: The same after fine-tuning; the module is the better of the two.
        module: A plain network in eval mode.
    """

    spec: SubnetSpec
    before: float
    after: float
    module: nn.Module

    @property
    def top1(self) -> float:
        """Of the module."""
        return max(self.before, self.after)


def finetune(
    net: Supernet,
    spec: SubnetSpec,
    data: ImageData,
    *,
    epochs: float = 25,
    rate: float = 0.008,
    batch_size: int = 64,
    label_smoothing: float = 0.1,
    seed: int = 0,
    execution: Execution | None = None,
    folder: Path | None = None,
    checkpoint_interval_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> FineTuned:
    """Trains a sub-network by itself, from the weights that it has in the supernet.

    Args:
        net: The supernet, which is not changed.
        spec: The sub-network.
        data: Images to train on.
        epochs: Passes over the training images.
        rate: Learning rate at the start of the cosine.
        batch_size: Images a step.
        label_smoothing: Of the labels.
        seed: Of the order of the images and their variation.
        execution: How steps are computed.
        folder: For checkpoints; the same call goes on from the last one, whatever stopped it.
        checkpoint_interval_s: Seconds between them; 0 writes one after every step.
        progress: Called with steps done and steps in all.

    Raises:
        SpecError: If `spec` is none of the space's, a number makes no sense, or `folder` holds
            another run.
        CheckpointError: If the loss becomes infinite or not a number (it names the step), or a
            checkpoint cannot be read or written.
    """
    if not (epochs > 0 and rate > 0 and batch_size > 0):
        raise SpecError(
            f"epochs, rate and batch size are above 0, got {epochs}, {rate} and {batch_size}"
        )
    execution = execution or Execution()
    phase = ShrinkingPhase("finetune", epochs, rate)
    recipe = Recipe("finetune", (phase,), batch_size, label_smoothing=label_smoothing)
    per_epoch = epoch_steps(recipe, data)
    steps = phase_steps(phase, per_epoch)
    original = calibrated(net, spec, data)
    before = top1(original, data, "validation", spec.resolution)
    module = net.extract(spec).requires_grad_(True)
    execution.place(module)
    optimizer: torch.optim.Optimizer = make_optimizer(module, recipe)
    scaler, first, checkpoints = execution.scaler(), 0, None
    if folder is not None:
        identity = {
            "spec": json.loads(spec.to_json()),
            "weights": weights_digest(module),
            "data": data.describe(),
            "recipe": asdict(recipe),
            "seed": seed,
            "execution": asdict(execution),
        }
        checkpoints = _claimed(folder, json.loads(json.dumps(identity)))
        if (restored := checkpoints.restore(module, recipe)) is not None:
            state, _ = restored
            first, optimizer = state.step, state.optimizer or optimizer
            if state.scaler:
                scaler.load_state_dict(dict(state.scaler))
    module.train()
    saved_s = time.monotonic()
    batches = _batches(data, spec.resolution, batch_size, seed, first, per_epoch)
    for step, (images, labels) in enumerate(itertools.islice(batches, steps - first), first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step, per_epoch)
        loss = _step(module, optimizer, recipe, images, labels, execution, scaler)
        if not math.isfinite(loss):
            raise CheckpointError(
                f"the loss became {loss} in step {step + 1} of fine-tuning {spec.to_json()}; "
                "try a lower rate"
            )
        over = step + 1 == steps
        if checkpoints and (over or time.monotonic() - saved_s >= checkpoint_interval_s):
            checkpoints.save(
                module, TrainingState(0, step + 1, optimizer, scaler=scaler.state_dict()), {}
            )
            saved_s = time.monotonic()
        if progress:
            progress(step + 1, steps)
    calibrate_batch_norm(
        module,
        (images.to(execution.device) for images in calibration_batches(data, spec.resolution)),
    )
    module.eval()
    after = top1(module, data, "validation", spec.resolution)
    return FineTuned(spec, before, after, module if after >= before else original)


def _claimed(folder: Path, identity: dict[str, Any]) -> Checkpoints:
    """The checkpoints of a folder, which is made that of this run."""
    path = folder / "run.json"
    if path.exists():
        require_same(path, identity, remedy="remove this one")
    else:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot write to {folder}: {error.strerror}") from error
        write_identity(path, identity)
    checkpoints = Checkpoints(folder)
    checkpoints.tidy()
    return checkpoints


def _batches(
    data: ImageData, resolution: int, batch_size: int, seed: int, first: int, per_epoch: int
) -> Iterator[Batch]:
    """The batches from step `first` on, without end."""
    epoch, skip = divmod(first, per_epoch)
    while True:
        rng = np.random.default_rng((seed, epoch))
        yield from data.epoch(itertools.repeat(resolution), batch_size, rng=rng, skip=skip)
        epoch, skip = epoch + 1, 0


def _step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: torch.Tensor,
    labels: torch.Tensor,
    execution: Execution,
    scaler: torch.amp.GradScaler,
) -> float:
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for some, wanted in zip(
        images.chunk(execution.accumulate), labels.chunk(execution.accumulate), strict=True
    ):
        share = len(some) / len(images)
        with execution.autocast():
            logits = module(execution.images(some)).float()  # (B, classes)
        targets = wanted.to(execution.device)
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        scaler.scale(loss * share).backward()
        total += float(loss.detach()) * share
    scaler.step(optimizer)
    scaler.update()
    return total
