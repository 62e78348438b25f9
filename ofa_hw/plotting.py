"""What the pages of figures share: one look, and documents that need nothing beside themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import plotly.graph_objects as go

GRID: Final = "#d9e0e6"
_INK: Final = "#1f2933"
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; background: #fff }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse } td, th { padding: 0.15rem 1rem 0.15rem 0; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
"""


def layout(*, height: int) -> dict[str, Any]:
    """The layout of a figure so many pixels high."""
    return {
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 60, "b": 10},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"color": _INK, "family": "system-ui, sans-serif"},
    }


def document(
    title: str, before: str, figures: Sequence[tuple[str, go.Figure]], after: str = ""
) -> str:
    """An HTML document of figures; raises ImportError without plotly.

    Args:
        title: Its heading.
        before: HTML above the figures.
        figures: Each with its heading.
        after: HTML below them.
    """
    import plotly.io

    parts = [
        f"<h2>{escape(heading)}</h2>\n"
        + plotly.io.to_html(
            figure,
            full_html=False,
            include_plotlyjs=index == 0,
            config={"displaylogo": False, "responsive": True},
        )
        for index, (heading, figure) in enumerate(figures)
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{before}\n{''.join(parts)}\n{after}\n</body>\n</html>\n"
    )


def facts_table(facts: Mapping[str, object]) -> str:
    """A table of two columns: names and what they are."""
    lines = (
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{''.join(lines)}</table>"


def numbers_table(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[object]]]) -> str:
    """A table of numbers.

    Args:
        columns: Headings, that of the names among them.
        rows: A name and its numbers each.
    """
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in columns) + "</tr>"]
    for name, cells in rows:
        numbers = "".join(f'<td class="number">{escape(str(cell))}</td>' for cell in cells)
        lines.append(f"<tr><th>{escape(name)}</th>{numbers}</tr>")
    return f"<table>{''.join(lines)}</table>"
