"""Draws a table as a page: its rows by block and resolution, and its estimates of networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import TableError
from ofa_hw.latency.table import LatencyTable
from ofa_hw.latency.validate import unseen_estimates_ms, validation_report
from ofa_hw.latency.validation import measured_ms
from ofa_hw.ops import OpSpec
from ofa_hw.plotting import GRID, document, facts_table, layout, numbers_table
from ofa_hw.spaces import get_space

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROW_PIXELS = 15
_TICKS = tuple(digit * 10**power for power in range(-3, 5) for digit in (1, 2, 5))


@dataclass(frozen=True)
class HeatMap:
    """A table's rows by block and resolution.

    Attributes:
        blocks: Names of the blocks, those nearest to the image first.
        resolutions: Of the network's input where the table knows it, else of the block's.
        latency_ms: (blocks, resolutions); nan where there is no row.
        of_networks: Whether the resolutions are those of networks.
    """

    blocks: tuple[str, ...]
    resolutions: tuple[int, ...]
    latency_ms: npt.NDArray[np.float64]
    of_networks: bool


def heat_map(table: LatencyTable) -> HeatMap:
    """Arranges the rows of a table by block and resolution."""
    by_resolution: dict[int, Iterable[OpSpec]]
    if table.variants:
        by_resolution = {resolution: rows for resolution, rows in table.variants.items()}
    elif table.header.space is not None:
        space = get_space(table.header.space)
        by_resolution = {r: space.table_ops([r]) for r in space.resolutions}
    else:
        by_resolution = defaultdict(list)
        for op in table.rows:
            by_resolution[op.resolution] = [*by_resolution[op.resolution], op]
    cells: dict[str, dict[int, float]] = defaultdict(dict)
    sizes: dict[str, tuple[float, ...]] = {}
    for resolution in sorted(by_resolution):
        for op in by_resolution[resolution]:
            if op in table.rows:
                row = table.variants.get(resolution, {}).get(op)
                name = str(replace(op, resolution=1)).removesuffix("@1")
                cells[name][resolution] = table.at_level(row) if row else table.rows_ms[op]
                sizes[name] = (-op.resolution, op.in_channels, op.out_channels, op.mid_channels)
    blocks = tuple(sorted(cells, key=lambda name: (sizes[name], name)))
    resolutions = tuple(sorted({r for known in cells.values() for r in known}))
    values = [[cells[block].get(r, np.nan) for r in resolutions] for block in blocks]
    of_networks = bool(table.variants) or table.header.space is not None
    return HeatMap(blocks, resolutions, np.array(values), of_networks)


def plot_table(table: LatencyTable) -> str:
    """The page, an HTML document that needs nothing else.

    Raises:
        TableError: If plotly is not installed.
    """
    try:
        figures = [("Rows by block and resolution", _heat_figure(heat_map(table)))]
        if table.validated():
            figures.append(("Networks, estimated and measured", _network_figure(table)))
        return document(table.name, _facts(table), figures, _report(table))
    except ImportError as error:
        raise TableError("drawing takes plotly: pip install 'ofa-hw[plot]'") from error


def _heat_figure(rows: HeatMap) -> go.Figure:
    import plotly.graph_objects as go

    with np.errstate(invalid="ignore"):
        shade = np.log10(rows.latency_ms)
    low, high = np.nanmin(shade), np.nanmax(shade)
    ticks = [t for t in _TICKS if low <= np.log10(t) <= high]
    figure = go.Figure(
        go.Heatmap(
            x=[str(r) for r in rows.resolutions],
            y=rows.blocks,
            z=shade,
            customdata=rows.latency_ms,
            hovertemplate="%{y}<br>at %{x}: %{customdata:.4f} ms<extra></extra>",
            colorscale="Viridis",
            xgap=1,
            ygap=1,
            colorbar={
                "title": "ms",
                "tickvals": np.log10(ticks),
                "ticktext": [f"{t:g}" for t in ticks],
                "len": 400,
                "lenmode": "pixels",
                "y": 1,
                "yanchor": "top",
            },
        )
    )
    figure.update_layout(
        **layout(height=120 + _ROW_PIXELS * len(rows.blocks)),
        xaxis={
            "title": f"input of the {'network' if rows.of_networks else 'block'}, pixels",
            "type": "category",
            "side": "top",
        },
        yaxis={"autorange": "reversed", "tickfont": {"size": 10, "family": "monospace"}},
    )
    return figure


def _network_figure(table: LatencyTable) -> go.Figure:
    import plotly.graph_objects as go

    networks = table.validated()
    measured, _ = measured_ms(networks, table.sentinel_ms)
    plain = replace(table, calibration=None)
    space = get_space(networks[0].spec.space)
    series = {"sum of rows": [plain.latency_ms(space.ops(n.spec)) for n in networks]}
    unseen = unseen_estimates_ms(table, space)
    if unseen is not None:
        series["calibrated on the others"] = unseen.tolist()
    ends = np.array([measured.min() / 1.1, measured.max() * 1.1])
    figure = go.Figure()
    figure.add_scatter(
        x=[*ends, *ends[::-1]],
        y=[*(0.95 * ends), *(1.05 * ends[::-1])],
        mode="lines",
        fill="toself",
        line={"width": 0},
        fillcolor="rgba(120, 144, 156, 0.18)",
        name="within 5 %",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#78909c"}, name="equal", hoverinfo="skip"
    )
    marks = (("#c77700", "circle-open"), ("#1668b8", "circle"))
    for (name, estimates), (colour, symbol) in zip(series.items(), marks, strict=False):
        figure.add_scatter(
            x=measured,
            y=estimates,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            name=name,
            text=[f"{n.spec.resolution} pixels, depths {n.spec.depths}" for n in networks],
            hovertemplate="%{text}<br>measured %{x:.3f} ms<br>estimated %{y:.3f} ms",
        )
    axis = {
        "type": "log",
        "gridcolor": GRID,
        "tickvals": _TICKS,
        "ticktext": [f"{tick:g}" for tick in _TICKS],
    }
    figure.update_layout(
        **layout(height=620),
        xaxis={**axis, "title": "measured, ms"},
        yaxis={**axis, "title": "estimated, ms"},
        legend={"x": 0.02, "y": 0.98},
    )
    return figure


def _facts(table: LatencyTable) -> str:
    device = table.device
    facts: Mapping[str, object] = {
        "space": table.header.space or "unknown",
        "device": device.name,
        "runtime": f"{device.runtime} {device.runtime_version}",
        "dtype, threads, batch": f"{device.dtype}, {device.threads}, {device.batch}",
        **device.settings,
        **{name.replace("_", " "): value for name, value in device.details.items()},
        "created": table.header.created,
        "rows": len(table),
    }
    return facts_table(facts)


def _report(table: LatencyTable) -> str:
    networks = table.validated()
    if not networks:
        return "<p>No network was measured whole: ofa-hw lut validate.</p>"
    report = validation_report(table, get_space(networks[0].spec.space))
    figures = {
        "sum of rows": report.raw,
        "calibrated, unseen": report.calibrated,
        "interpolated": report.interpolated,
        "measured twice": report.noise_floor,
    }
    rows = []
    for name, of in figures.items():
        if of is not None:
            rank = "-" if of.spearman is None else f"{of.spearman:.4f}"
            cells = (of.networks, f"{of.mape:.2%}", f"{of.bias:+.2%}", f"{of.within_5:.0%}", rank)
            rows.append((name, cells))
    return numbers_table(("", "networks", "MAPE", "bias", "within 5 %", "Spearman"), rows)
