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
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the backend; repeat for more.", metavar="NAME=VALUE"),
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
