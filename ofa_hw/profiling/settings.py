"""Checks the options that a backend was given against those it has."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from ofa_hw.errors import DeviceNotFoundError, ProfilerError
from ofa_hw.profiling.types import ProfilerOptions


def resolve_settings(
    backend: str, options: ProfilerOptions, known: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """The backend's settings, defaults written out.

    Args:
        backend: Name of the backend.
        options: What the user asked for.
        known: Each setting's values, the default first.

    Raises:
        ProfilerError: If a setting is unknown or has a value that it cannot have.
    """
    if unknown := sorted(options.settings.keys() - known.keys()):
        close = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ProfilerError(
            f"backend {backend!r} has no setting {', '.join(map(repr, unknown))}; {hint}it has "
            + "; ".join(f"{name} ({', '.join(values)})" for name, values in known.items())
        )
    settings = {name: options.settings.get(name, values[0]) for name, values in known.items()}
    for name, value in settings.items():
        if value not in known[name]:
            raise ProfilerError(
                f"{name} of backend {backend!r} cannot be {value!r}; "
                f"choose from {', '.join(known[name])}"
            )
    return settings


def require_options(
    backend: str, options: ProfilerOptions, *, dtypes: Collection[str] = ("fp32",)
) -> None:
    """Checks threads, batch and data type.

    Raises:
        ProfilerError: If the backend cannot serve one of them.
    """
    if options.dtype not in dtypes:
        raise ProfilerError(
            f"backend {backend!r} cannot measure dtype {options.dtype!r}; "
            f"choose from {', '.join(dtypes)}"
        )
    for name, value in (("threads", options.threads), ("batch", options.batch)):
        if value < 1:
            raise ProfilerError(f"{name} must be at least 1, got {value}")


def require_local(backend: str, options: ProfilerOptions) -> None:
    """Checks that no other device is asked for.

    Raises:
        DeviceNotFoundError: If one is.
    """
    if options.serial is not None:
        raise DeviceNotFoundError(
            f"backend {backend!r} measures on this machine only and reaches no device "
            f"{options.serial!r}; leave the serial out"
        )
