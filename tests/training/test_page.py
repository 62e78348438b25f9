"""The page of a run: what it shows, of one that is finished and of one that is not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.errors import CheckpointError
from ofa_hw.training import read_log
from ofa_hw.training.page import phase_curves, training_page

Run = Callable[..., tuple[int, str, str]]


def traces(page: str) -> list[dict[str, object]]:
    """The curves of a page, as they will be drawn."""
    found = []
    for text in re.findall(r"Plotly.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"", page, re.DOTALL):
        found += json.JSONDecoder().raw_decode(text)[0]
    return found


def test_the_page_shows_the_curves_and_the_phases_of_the_log(
    whole: Path, tmp_path: Path, run: Run
) -> None:
    page = tmp_path / "curves.html"
    code, out, err = run("training", "plot", whole, "-o", page)
    assert (code, out) == (0, f"written to {page}\n"), err
    text = page.read_text()
    log = read_log(whole / "log.jsonl")
    evaluations = [line for line in log if line["line"] == "evaluation"]
    drawn = {trace["name"]: trace for trace in traces(text) if "name" in trace}
    for name in ("smallest", "largest", "random 1", "random 2"):
        assert drawn[name]["y"] == [line["top1"][name] for line in evaluations]
        assert drawn[name]["x"] == [4, 8]
    assert "<th>all</th>" in text
    assert f"{evaluations[-1]['top1']['largest']:.1%}</td>" in text
    assert "8, finished" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    code, _, err = run("training", "plot", whole, "-o", page)
    assert code == 1
    assert "--force" in err


def test_phases_hold_their_steps_and_evaluations(whole: Path) -> None:
    log = read_log(whole / "log.jsonl")
    curves = phase_curves(log)
    assert [(c.name, c.steps.tolist()) for c in curves] == [
        ("full", [1, 2, 3, 4]),
        ("all", [5, 6, 7, 8]),
    ]
    assert np.concatenate([c.loss for c in curves]).tolist() == [
        x["loss"] for x in log if "loss" in x
    ]
    assert [[e["step"] for e in c.evaluations] for c in curves] == [[4], [8]]


def test_a_run_that_goes_on_is_drawn_as_far_as_it_is(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "run.json", tmp_path)
    lines = (whole / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    page = training_page(tmp_path)
    assert "2, not finished" in page
    assert "<th>full</th>" in page
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="no step yet"):
        training_page(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"line": "step", "step": 1}\n')
    with pytest.raises(CheckpointError, match=r"lacks something.*phase"):
        training_page(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds no run.*ofa-hw train"):
        training_page(tmp_path / "nowhere")
