"""Options that `search` and `specialize` share, and how their text is read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_hw.errors import SpecError

if TYPE_CHECKING:
    from ofa_hw.latency import LatencyTable
    from ofa_hw.spaces import SearchSpace

LutOption = Annotated[
    list[str],
    typer.Option(
        help="A table's file, a folder, or a bundled name; repeat for one network on several "
        "devices.",
        metavar="TABLE",
    ),
]
PredictorOption = Annotated[
    Path, typer.Option(help="An accuracy predictor's file.", metavar="FILE")
]
RestrictOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Allowed values of a field or of one gene, e.g. kernel_sizes=3,5 or 'depths[0]=2'; "
        "repeat for more.",
        metavar="NAME=V,V",
    ),
]
MacsOption = Annotated[
    float | None, typer.Option(help="Most multiply-accumulates, e.g. 300e6.", metavar="N")
]
ParamsOption = Annotated[float | None, typer.Option(help="Most parameters.", metavar="N")]
WeightBytesOption = Annotated[
    float | None, typer.Option(help="Most bytes of float32 weights.", metavar="N")
]
PeakBytesOption = Annotated[
    float | None, typer.Option(help="Most bytes of activations alive at once.", metavar="N")
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option(
        help="Apply the budget to the upper end of the table's prediction interval, e.g. 0.9.",
        metavar="P",
    ),
]
InterpolateOption = Annotated[
    bool,
    typer.Option(
        "--interpolate", help="Choose from resolutions between those that a table measured, too."
    ),
]


def load_tables(
    sources: Sequence[str], space: SearchSpace, *, interpolate: bool
) -> list[LatencyTable]:
    """Loads the tables of a search.

    Args:
        sources: Files, folders or bundled names.
        space: What is searched.
        interpolate: Whether they shall have its operators between measured input sizes, too.

    Raises:
        TableError: If one cannot be read.
    """
    from ofa_hw.latency import load_table

    tables = [load_table(source) for source in sources]
    return [table.interpolated(space.table_ops()) for table in tables] if interpolate else tables


def parse_restrict(pairs: Sequence[str] | None) -> dict[str, tuple[int | float, ...]]:
    """Reads `name=value,value` pairs.

    Raises:
        SpecError: If one is none.
    """
    fields: dict[str, tuple[int | float, ...]] = {}
    for pair in pairs or []:
        name, _, values = pair.partition("=")
        try:
            numbers = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise SpecError(
                f"--restrict takes NAME=VALUE,VALUE like kernel_sizes=3,5, got {pair!r}"
            ) from None
        if name in fields:
            raise SpecError(f"--restrict {name} is given twice; list its values in one")
        fields[name] = tuple(int(n) if n == int(n) else n for n in numbers)
    return fields


@dataclass(frozen=True, slots=True)
class SpecializeCommand:
    """What leads `ofa-hw specialize` to a network of a search.

    Attributes:
        options: Of the search, by name; None, False and empty ones are left out.
    """

    options: Mapping[str, object]

    def line(self, latency_ms: Sequence[float]) -> str:
        """The command at these budgets."""
        parts = ["ofa-hw", "specialize"]
        for name, value in {**self.options, "latency-ms": list(latency_ms)}.items():
            for each in value if isinstance(value, list) else [value]:
                if each is not None and each is not False:
                    parts += [f"--{name}"] if each is True else [f"--{name}", str(each)]
        return shlex.join(parts)
