"""Finds backends, built-in and third-party alike, by the entry points `ofa_hw.profilers`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

from ofa_hw.errors import BackendUnavailableError, ProfilerError
from ofa_hw.profiling.types import ListedDevice, Profiler, ProfilerOptions

GROUP = "ofa_hw.profilers"
DEVICES = "ofa_hw.devices"


def backend_names() -> tuple[str, ...]:
    """Names of the backends installed here, sorted. Their libraries may still be missing."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def open_profiler(backend: str, options: ProfilerOptions | None = None) -> Profiler:
    """Opens the profiler of a backend.

    Args:
        backend: Name of its entry point.
        options: How it shall run networks; one thread in float32 by default.

    Raises:
        BackendUnavailableError: If there is no such backend, or what it needs is not installed.
        ProfilerError: If it refuses the options, or what it makes is no profiler.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if backend not in found:
        close = difflib.get_close_matches(backend, found, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise BackendUnavailableError(
            f"no backend {backend!r}; {hint}there are {', '.join(sorted(found)) or 'none at all'}"
        )
    profiler = _load(found[backend])(options or ProfilerOptions())
    if not isinstance(profiler, Profiler):
        raise ProfilerError(
            f"backend {backend!r} made a {type(profiler).__name__}, which is no Profiler; "
            f"its entry point is {found[backend].value}"
        )
    return profiler


def list_devices(addresses: Sequence[str] = ()) -> list[ListedDevice]:
    """Lists the devices that backends reach from this machine, by the entry points `DEVICES`.

    Args:
        addresses: `host:port` of devices that nothing here knows of.

    Raises:
        BackendUnavailableError: If addresses are given and what reaches them is not installed.
    """
    devices: list[ListedDevice] = []
    for entry in entry_points(group=DEVICES):
        try:
            devices += entry.load()(addresses)
        except BackendUnavailableError:  # a host without the extra reaches no such devices
            if addresses:
                raise
    return devices


def _load(entry: EntryPoint) -> Callable[[ProfilerOptions], object]:
    try:
        loaded: Callable[[ProfilerOptions], object] = entry.load()
    except ImportError as error:
        remedy = _remedy(entry, error.name or "")
        raise BackendUnavailableError(
            f"backend {entry.name!r} cannot be loaded: {error}; {remedy}"
        ) from error
    return loaded


def _remedy(entry: EntryPoint, module: str) -> str:
    """Which pip command brings a missing module."""
    if entry.dist is None:
        return f"install what provides {module or 'it'}"
    package = module.partition(".")[0]
    extras = set()
    for requirement in entry.dist.requires or ():
        name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
        if name.replace("-", "_") == package:
            extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
            extras.add(f"[{extra[1]}]" if extra else "")
    if not extras:
        return f"pip install what provides {module or 'it'}"
    # The narrowest does: one named after what it brings, rather than "all" or "dev".
    best = min(extras, key=lambda extra: (extra not in ("", f"[{package}]"), extra))
    return f"pip install '{entry.dist.name}{best}'"
