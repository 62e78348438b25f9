"""The same space for another number of classes: `NAME@classes=60`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec
from ofa_hw.spaces.base import SearchSpace, Slot
from ofa_hw.spaces.genes import Choice


def with_classes(space: SearchSpace, num_classes: int) -> SearchSpace:
    """A space whose networks tell another number of classes apart.

    Its name says so, so specs, tables and predictors of it find it by `get_space`.

    Args:
        space: Ends in a linear classifier.
        num_classes: Outputs.
    """
    if num_classes == space.num_classes:
        return space
    adapted = copy.copy(space)
    head = space.slots[-1]
    build = partial(_with_outputs, build=head.build, num_classes=num_classes)
    adapted.slots = (*space.slots[:-1], Slot(head.genes, build))
    adapted.name = f"{base_name(space.name)}@classes={num_classes}"
    adapted.num_classes = num_classes
    return adapted


def base_name(name: str) -> str:
    """The name of the space that `NAME@classes=60` was made from."""
    return name.partition("@")[0]


def read_classes(name: str) -> tuple[str, int]:
    """Takes `NAME@classes=60` apart.

    Raises:
        SpecError: If what follows the sign is something else.
    """
    base, _, parameter = name.partition("@")
    key, _, value = parameter.partition("=")
    if key != "classes" or not value.isdecimal() or int(value) < 2:
        raise SpecError(f"{name!r}: after the @ stands classes=N with N at least 2")
    return base, int(value)


def _with_outputs(
    *values: Choice, build: Callable[..., tuple[OpSpec, ...]], num_classes: int
) -> tuple[OpSpec, ...]:
    *ops, classifier = build(*values)
    return (*ops, replace(classifier, out_channels=num_classes))
