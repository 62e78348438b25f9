"""How many steps a recipe takes, and the learning rate of each."""

from __future__ import annotations

import math

from ofa_hw.errors import SpecError
from ofa_hw.training.data import ImageData
from ofa_hw.training.recipe import Recipe, ShrinkingPhase


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
