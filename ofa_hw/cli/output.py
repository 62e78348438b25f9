"""How commands show what they did: results on stdout, progress on stderr, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def print_json(data: Any) -> None:  # noqa: ANN401 - whatever json can write
    """Prints data as JSON on stdout."""
    json.dump(data, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    stderr: bool = False,
) -> None:
    """Prints a table; columns whose cells are all numbers are set to the right.

    On stdout if it is a result, on stderr if it is news on the way to one.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console = Console(width=max(console.width, 200), stderr=stderr)
    console.print(table)


def _is_number(cell: object) -> bool:
    try:
        float(str(cell).rstrip("%"))
    except ValueError:
        return False
    return True


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Draws a bar a stage on stderr; the callback takes its name, steps done and steps in all."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    stages: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def advance(name: str, done: int, total: int) -> None:
            if name not in stages:
                stages[name] = bars.add_task(name, total=total)
            bars.update(stages[name], completed=done, total=total)

        yield advance


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Draws one bar on stderr; the callback takes steps done and steps in all."""
    with stage_bars() as advance:
        yield lambda done, total: advance(description, done, total)
