"""The page of a run: its curves, and what its phases brought and cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import CheckpointError
from ofa_hw.plotting import GRID, document, facts_table, layout, numbers_table
from ofa_hw.training.log import read_log

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MOST_POINTS: Final = 2000
_SMOOTHING: Final = 50  # a mean curve has so many points a phase, each of 5 steps at least
_COLOURS: Final = ("#c77700", "#1668b8", "#2e8b57", "#8b4fa8")
_SHADES: Final = ("#ffffff", "#f2f5f8")


@dataclass(frozen=True, slots=True)
class PhaseCurve:
    """The steps of a phase.

    Attributes:
        name: Of the phase.
        steps: Numbers in the whole run, (n,).
        loss: (n,).
        learning_rate: (n,).
        duration_s: Of each step, data loading included, (n,).
        evaluations: Lines of evaluations while it lasted, the last one at its end.
    """

    name: str
    steps: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    learning_rate: npt.NDArray[np.float64]
    duration_s: npt.NDArray[np.float64]
    evaluations: tuple[dict[str, Any], ...]


def phase_curves(log: Sequence[dict[str, Any]]) -> list[PhaseCurve]:
    """A training log by phase.

    Raises:
        CheckpointError: If a line lacks something.
    """
    try:
        return list(_curves(log))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"a line of the training log lacks something ({error!r})") from error


def _curves(log: Sequence[dict[str, Any]]) -> Iterator[PhaseCurve]:
    steps = [line for line in log if line["line"] == "step"]
    evaluations = [line for line in log if line["line"] == "evaluation"]
    for name, group in groupby(steps, key=lambda line: str(line["phase"])):
        lines = list(group)
        first, last = lines[0]["step"], lines[-1]["step"]
        yield PhaseCurve(
            name,
            np.array([line["step"] for line in lines]),
            np.array([line["loss"] for line in lines], np.float64),
            np.array([line["learning_rate"] for line in lines], np.float64),
            np.array([line["duration_s"] for line in lines], np.float64),
            tuple(line for line in evaluations if first <= line["step"] <= last),
        )


def training_page(folder: str | Path) -> str:
    """The page, an HTML document that needs nothing else; of a run that goes on, what there is.

    Args:
        folder: Of the run.

    Raises:
        CheckpointError: If there is no run, nothing is logged yet, or plotly is not installed.
    """
    folder = Path(folder)
    log = folder / "log.jsonl"
    if not log.is_file():
        raise CheckpointError(f"{folder} holds no run: there is no {log}; ofa-hw train makes one")
    curves = phase_curves(read_log(log))
    if not curves:
        raise CheckpointError(f"{log} has no step yet; wait for the first checkpoint")
    facts, result = _json(folder / "run.json"), _json(folder / "result.json")
    recipe = facts.get("recipe", {})
    done = int(curves[-1].steps[-1])
    shown = {
        "space": facts.get("space", "unknown"),
        "recipe": f"{recipe.get('name')}, batches of {recipe.get('batch_size')}",
        "images": _images(facts.get("data", {})),
        "seed, workers": f"{facts.get('seed')}, {facts.get('workers')}",
        "execution": ", ".join(f"{k} {v}" for k, v in facts.get("execution", {}).items()),
        "steps": f"{done}, {'finished' if result else 'not finished, or being labelled'}",
    }
    try:
        figures = [("Top-1 after calibration", _accuracy_figure(curves))]
        figures.append(("Loss and learning rate", _loss_figure(curves)))
        return document(
            f"Training in {folder.name}",
            facts_table(shown),
            figures,
            _phases(curves, recipe.get("batch_size")) + _results(result),
        )
    except ImportError as error:
        raise CheckpointError("drawing takes plotly: pip install 'ofa-hw[plot]'") from error


def _accuracy_figure(curves: Sequence[PhaseCurve]) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    lines = [line for curve in curves for line in curve.evaluations]
    for name, colour in zip(lines[-1]["top1"] if lines else (), _COLOURS, strict=False):
        figure.add_scatter(
            x=[line["step"] for line in lines],
            y=[line["top1"].get(name) for line in lines],
            mode="lines+markers",
            name=name,
            line={"color": colour},
            hovertemplate="step %{x}: %{y:.2%}",
        )
    _shade(figure, curves)
    figure.update_layout(
        **layout(height=380),
        xaxis={"title": "step", "gridcolor": GRID},
        yaxis={"title": "validation top-1", "tickformat": ".0%", "gridcolor": GRID},
    )
    return figure


def _loss_figure(curves: Sequence[PhaseCurve]) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06)
    for index, curve in enumerate(curves):
        thin = slice(None, None, -(-sum(len(c.steps) for c in curves) // _MOST_POINTS))
        count = len(curve.steps)
        parts = np.array_split(np.arange(count), min(_SMOOTHING, -(-count // 5)))
        for name, x, y, look in (
            ("of a step", curve.steps[thin], curve.loss[thin], {"color": "#b8c4ce", "width": 1}),
            (
                "mean",
                [curve.steps[part].mean() for part in parts],
                [curve.loss[part].mean() for part in parts],
                {"color": "#1668b8", "width": 2},
            ),
        ):
            figure.add_scatter(
                x=x, y=y, mode="lines", line=look, name=name, showlegend=index == 0, row=1, col=1
            )
        figure.add_scatter(
            x=curve.steps[thin],
            y=curve.learning_rate[thin],
            mode="lines",
            line={"color": "#c77700"},
            showlegend=False,
            row=2,
            col=1,
        )
    _shade(figure, curves)
    figure.update_layout(**layout(height=520))
    figure.update_xaxes(gridcolor=GRID)
    figure.update_xaxes(title="step", row=2, col=1)
    figure.update_yaxes(gridcolor=GRID)
    figure.update_yaxes(title="loss", row=1, col=1)
    figure.update_yaxes(title="learning rate", row=2, col=1)
    return figure


def _shade(figure: go.Figure, curves: Sequence[PhaseCurve]) -> None:
    """Marks the phases, by name and shade."""
    for index, curve in enumerate(curves):
        figure.add_vrect(
            x0=int(curve.steps[0]) - 1,
            x1=int(curve.steps[-1]),
            fillcolor=_SHADES[index % 2],
            line_width=0,
            layer="below",
        )
        figure.add_annotation(
            x=float(curve.steps[[0, -1]].mean()),
            y=1.02,
            yref="paper",
            yanchor="bottom",
            text=curve.name,
            showarrow=False,
        )


def _phases(curves: Sequence[PhaseCurve], batch_size: int | None) -> str:
    names = [name for curve in curves for line in curve.evaluations[-1:] for name in line["top1"]]
    names = list(dict.fromkeys(names))
    rows = []
    for curve in curves:
        took_s = float(curve.duration_s.sum())
        cells = [len(curve.steps), f"{took_s:.0f}"]
        cells.append(f"{len(curve.steps) * batch_size / took_s:.0f}" if batch_size else "-")
        cells.append(f"{curve.loss[-len(curve.loss) // 10 :].mean():.3f}")
        end = curve.evaluations[-1]["top1"] if curve.evaluations else {}
        cells += [f"{end[name]:.1%}" if name in end else "-" for name in names]
        rows.append((curve.name, cells))
    columns = ("phase", "steps", "seconds", "images/s", "loss, last tenth", *names)
    return f"<h2>Phases</h2>\n{numbers_table(columns, rows)}"


def _results(result: dict[str, Any]) -> str:
    if not result:
        return ""
    rows = [
        (n["name"], (f"{n['macs'] / 1e6:.2f}", f"{n['top1']:.2%}")) for n in result["evaluated"]
    ]
    table = numbers_table(("sub-network", "M multiply-accumulates", "validation top-1"), rows)
    report, said = result.get("report"), ""
    if report:
        said = (
            f"<p>Predictor of {report['fitted']} labels, on {report['held_out']} sub-networks it "
            f"has not seen: RMSE {report['rmse']:.2%}, MAE {report['mae']:.2%}, "
            f"Spearman {report['spearman']:.3f}, Kendall {report['kendall']:.3f}.</p>"
        )
    return f"<h2>Result</h2>\n{table}\n{said}"


def _images(data: dict[str, Any]) -> str:
    if isinstance(sizes := data.get("images"), dict):
        return ", ".join(f"{split} {size}" for split, size in sizes.items())
    return str(data.get("name", "unknown"))


def _json(path: Path) -> dict[str, Any]:
    """An object in a file; an empty one where there is none."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    return content if isinstance(content, dict) else {}
