"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from typing import Annotated

import typer

from ofa_hw.errors import SpecError

SpaceOption = Annotated[str, typer.Option("--space", help="Search space.", metavar="NAME")]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same answer.", min=0)]
ThreadsOption = Annotated[int, typer.Option(help="Threads of the runtime.", min=1)]
ResolutionsOption = Annotated[
    str | None,
    typer.Option(help="Input resolutions, separated by commas.", metavar="N,N"),
]
SerialOption = Annotated[
    str | None,
    typer.Option("--serial", help="Device, for backends that reach others.", metavar="SERIAL"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the backend; repeat for more.", metavar="NAME=VALUE"),
]
BenchmarkBinaryOption = Annotated[
    str | None,
    typer.Option(
        help="Google's benchmark_model for the device, here or by its absolute path there; runs "
        "the networks in place of ofa-runner.",
        metavar="PATH",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def parse_resolutions(text: str | None) -> list[int] | None:
    """Reads `160,192`.

    Raises:
        SpecError: If a part is no whole number.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(f"--resolutions takes whole numbers like 160,192, got {text!r}") from None


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """Reads `name=value` pairs.

    Raises:
        SpecError: If one has no equals sign.
    """
    settings = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise SpecError(f"--set takes NAME=VALUE, got {pair!r}")
        settings[name] = value
    return settings


def device_settings(
    pairs: list[str] | None, benchmark_binary: str | None, *, has_serial: bool
) -> dict[str, str]:
    """The settings of a backend: `name=value` pairs, and the option that stands for one.

    Raises:
        SpecError: If a pair has no equals sign.
        BadParameter: If the option is given and no device is.
    """
    settings = parse_settings(pairs)
    if benchmark_binary is None:
        return settings
    if not has_serial:
        raise typer.BadParameter("--benchmark-binary runs on a device; pass --serial too")
    return {**settings, "benchmark_binary": benchmark_binary}
