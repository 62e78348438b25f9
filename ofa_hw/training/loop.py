"""The training loop: progressive shrinking of a supernet, phase by phase.

Every random choice of a step comes from a generator seeded by (seed, phase, epoch) or (seed, phase,
step), never from a state carried along, so a run that stops between two steps can go on as if it
had not.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.supernet import Supernet
from ofa_hw.training.data import Batch, ImageData
from ofa_hw.training.execution import Execution, Workers
from ofa_hw.training.recipe import Recipe
from ofa_hw.training.schedule import epoch_steps, learning_rate, phase_steps
from ofa_hw.training.step import make_optimizer, sample_specs, train_step

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


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands between two steps; all that it takes to go on from there.

    Attributes:
        phase: Index of the phase whose steps come next.
        step: Steps done in it.
        optimizer: Of this phase; None before its first step.
        teacher: The full network at the end of the first phase; None before that.
        scaler: The state of the loss's scaling; empty where it is not scaled.
    """

    phase: int = 0
    step: int = 0
    optimizer: torch.optim.Optimizer | None = None
    teacher: Supernet | None = None
    scaler: Mapping[str, Any] = field(default_factory=dict)


def train(
    net: Supernet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int = 0,
    start: TrainingState | None = None,
    execution: Execution | None = None,
    workers: Workers | None = None,
    progress: Callable[[TrainingStep], None] | None = None,
    keep: Callable[[TrainingState], None] | None = None,
) -> None:
    """Trains a supernet in place by progressive shrinking.

    Args:
        net: The supernet; it is left in eval mode.
        data: Images to train on.
        recipe: Phases and hyper-parameters.
        seed: Of every random choice.
        start: Where to go on, if `net` has taken steps already.
        execution: How steps are computed.
        workers: The processes that take the steps together.
        progress: Called after each step.
        keep: Called after that, and at the end of each phase, with what a checkpoint must hold
            besides `net`.

    Raises:
        SpecError: If the workers cannot share a batch evenly, or there is not one batch of images.
        CheckpointError: If the loss becomes infinite or not a number; it names the step and the
            sub-network that gave it.
    """
    execution, workers = execution or Execution(), workers or Workers()
    if recipe.batch_size % workers.size:
        raise SpecError(
            f"a batch of {recipe.batch_size} images does not go evenly into {workers.size} "
            "workers; change the batch_size of the recipe"
        )
    state = start or TrainingState()
    per_epoch = epoch_steps(recipe, data)
    counts = [phase_steps(phase, per_epoch) for phase in recipe.phases]
    teacher, scaler = state.teacher, execution.scaler()
    if state.scaler:
        scaler.load_state_dict(dict(state.scaler))
    net.train()
    for index in range(state.phase, len(recipe.phases)):
        phase = recipe.phases[index]
        first = state.step if index == state.phase else 0
        if first and state.optimizer is not None:
            optimizer = state.optimizer
        else:
            if phase.sort_phase is not None:
                net.sort_channels(phase=phase.sort_phase)
            optimizer = make_optimizer(net, recipe)
        allowed = phase.allowed(net.space)
        batches = _phase_batches(
            net, data, recipe, seed=(seed, index), steps=range(first, counts[index]), shard=workers
        )
        for step, (images, labels) in enumerate(batches, first):
            rate = learning_rate(phase, step, per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            specs = sample_specs(
                net, allowed, phase, images.shape[-1], seed=(seed, index, _STEP_STREAM, step)
            )
            done = sum(counts[:index]) + step + 1
            try:
                loss = train_step(
                    *(net, teacher, optimizer, recipe, specs, images, labels),
                    execution=execution,
                    workers=workers,
                    scaler=scaler,
                )
            except CheckpointError as error:
                raise CheckpointError(f"step {done}, phase {phase.name}: {error}") from error
            if progress:
                progress(TrainingStep(phase.name, done, sum(counts), loss, rate))
            if keep:
                keep(TrainingState(index, step + 1, optimizer, teacher, scaler.state_dict()))
        if teacher is None:
            teacher = frozen_copy(net)
        if keep:
            keep(TrainingState(index + 1, 0, None, teacher, scaler.state_dict()))
        logger.info("phase %s done", phase.name)
    net.eval()


def frozen_copy(net: Supernet) -> Supernet:
    """A copy that only answers."""
    return copy.deepcopy(net).eval().requires_grad_(False)


def _phase_batches(
    net: Supernet,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: tuple[int, int],
    steps: range,
    shard: Workers,
) -> Iterator[Batch]:
    """Yields the batches of `steps` of a phase, each at a random resolution of the space."""
    per_epoch = epoch_steps(recipe, data)
    step = steps.start
    while step < steps.stop:
        epoch, skip = divmod(step, per_epoch)
        rng = np.random.default_rng((*seed, _EPOCH_STREAM, epoch))
        resolutions = _random_resolutions(net.space.resolutions, rng)
        for batch in data.epoch(
            resolutions, recipe.batch_size, rng=rng, skip=skip, shard=(shard.rank, shard.size)
        ):
            yield batch
            step += 1
            if step == steps.stop:
                return


def _random_resolutions(choices: tuple[int, ...], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield int(rng.choice(choices))
