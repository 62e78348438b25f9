"""Finds a search space by its name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable

from ofa_hw.errors import SpecError
from ofa_hw.spaces.base import SearchSpace
from ofa_hw.spaces.classes import read_classes, with_classes
from ofa_hw.spaces.mobilenetv3 import mobilenetv3
from ofa_hw.spaces.proxylessnas import proxylessnas
from ofa_hw.spaces.resnet50 import resnet50
from ofa_hw.spaces.tiny import tiny

_SPACES: dict[str, Callable[[str], SearchSpace]] = {
    "ofa_mbv3_d234_e346_k357_w1.0": lambda name: mobilenetv3(name, width=1.0),
    "ofa_mbv3_d234_e346_k357_w1.2": lambda name: mobilenetv3(name, width=1.2),
    "ofa_proxyless_d234_e346_k357_w1.3": lambda name: proxylessnas(name, width=1.3),
    "ofa_resnet50": resnet50,
    "tiny": tiny,
}


def space_names() -> tuple[str, ...]:
    """Names of the known spaces."""
    return tuple(_SPACES)


def get_space(name: str) -> SearchSpace:
    """The search space of this name.

    Args:
        name: A registered name, or `module:function` for a space of one's own: the function is
            called with the name and gives the space. `NAME@classes=60` is the space for 60 classes.

    Raises:
        SpecError: If no space has it; the names that exist are given.
    """
    if "@" in name and name not in _SPACES:
        base, num_classes = read_classes(name)
        return with_classes(get_space(base), num_classes)
    if ":" in name and name not in _SPACES:
        return _imported(name)
    if name not in _SPACES:
        close = difflib.get_close_matches(name, _SPACES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SpecError(f"no search space {name!r}; {hint}there are {', '.join(_SPACES)}")
    return _SPACES[name](name)


def _imported(name: str) -> SearchSpace:
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"no search space {name!r}: {error}; the module must be installed or on PYTHONPATH"
        ) from error
    space = make(name)
    if not isinstance(space, SearchSpace):
        raise SpecError(f"{name} gave a {type(space).__name__}, which is no SearchSpace")
    return space


def register_space(name: str, make: Callable[[str], SearchSpace]) -> None:
    """Makes a space of one's own known to `get_space` by `name`; `make(name)` builds it.

    Raises:
        SpecError: If another space has the name.
    """
    if name in _SPACES:
        raise SpecError(f"there is a search space {name!r} already; choose another name")
    _SPACES[name] = make
