"""What `shrinking.py` compares: recipes, what they spend, and networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.training import Recipe, ShrinkingPhase

ALL: Final = 99
BATCH: Final = 32
RESOLUTION: Final = 56
Shape: TypeAlias = tuple[int, int, int]


def shrinking_recipe(epochs: float) -> Recipe:
    """The phases of the paper, the first of which gets a third of the multiply-adds.

    What the others start from and learn from is a full network that has been trained to the end:
    https://arxiv.org/abs/1908.09791 gives it 180 epochs of a large data set. Here 16 passes do what
    8 do not. The last phase, in which every sub-network is trained, gets most of the rest, and
    steps are of one sub-network: four of a quarter as many steps, as there, are worth less here.
    """

    def phase(name: str, share: float, rate: float, **opened: int) -> ShrinkingPhase:
        warmup = 0.015 if share >= 1 else 0.0
        return ShrinkingPhase(
            name, (share - warmup) * epochs, rate, warmup_epochs=warmup * epochs, **opened
        )

    kernel, depth = {"kernel_sizes": ALL}, {"kernel_sizes": ALL, "depths": ALL}
    return Recipe(
        "shrinking",
        (
            phase("full", 1.0, 0.1),
            phase("kernel", 0.125, 0.05, **kernel),
            phase("depth", 0.125, 0.05, **depth),
            phase("expand 1", 0.0625, 0.05, **depth, expand_ratios=2, sort_phase=0),
            phase("expand 2", 1.825, 0.08, **depth, expand_ratios=ALL, sort_phase=1),
        ),
        BATCH,
    )


def random_recipe(epochs: float) -> Recipe:
    """Everything open from the first step on."""
    phase = ShrinkingPhase(
        "random",
        *(epochs * 0.95, 0.1, epochs * 0.05),
        kernel_sizes=ALL,
        depths=ALL,
        expand_ratios=ALL,
    )
    return Recipe("random", (phase,), BATCH)


def alone_recipe(epochs: float) -> Recipe:
    """The full phase alone."""
    return Recipe("alone", (ShrinkingPhase("full", epochs * 0.95, 0.1, epochs * 0.05),), BATCH)


def passes(recipe: Recipe) -> float:
    """Passes over the training images."""
    return sum(phase.warmup_epochs + phase.epochs for phase in recipe.phases)


def macs_per_image(space: SearchSpace, recipe: Recipe) -> float:
    """Multiply-adds that a recipe spends on each training image, estimated by sampling.

    A backward pass takes two times those of a forward pass.
    """
    rng, spent = np.random.default_rng(0), 0.0
    teacher = float(np.mean([space.macs(space.largest(r)) for r in space.resolutions]))
    for index, phase in enumerate(recipe.phases):
        rows = space.sample_rows(400, rng=rng, allowed=phase.allowed(space))
        student = float(np.mean([space.macs(spec) for spec in space.decode(rows)]))
        a_pass = 3 * student * phase.subnets_per_step + (teacher if index else 0)
        spent += a_pass * (phase.epochs + phase.warmup_epochs)
    return spent


def uniform(space: SearchSpace, depth: int, expand: int, kernel: int) -> SubnetSpec:
    """The sub-network with the same choices everywhere."""
    counts = {f: sum(g.field == f for g in space.genes) for f in ("depths", "kernel_sizes")}
    return space.spec(
        resolution=RESOLUTION,
        depths=[depth] * counts["depths"],
        kernel_sizes=[kernel] * counts["kernel_sizes"],
        expand_ratios=[expand] * counts["kernel_sizes"],
    )


def compared(space: SearchSpace, alone: Sequence[Shape], drawn: int) -> dict[str, SubnetSpec]:
    """The sub-networks that are compared, by name.

    Args:
        space: Theirs.
        alone: Depth, expansion and kernel of those that are trained alone too.
        drawn: Random ones besides.
    """
    corners = itertools.product((2, 3), (2, 4), (3, 7))
    chosen = dict.fromkeys((*corners, *alone))
    found = {shape_name(*shape): uniform(space, *shape) for shape in chosen}
    rng = np.random.default_rng(0)
    for index in range(drawn):
        found[f"random {index + 1}"] = space.sample(rng=rng, resolution=RESOLUTION)
    return found


def shape_name(depth: int, expand: int, kernel: int) -> str:
    return f"D{depth} W{expand} K{kernel}"
