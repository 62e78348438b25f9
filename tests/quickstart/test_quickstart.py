"""The whole main job, as `make quickstart` runs it."""

import json
from pathlib import Path

import pytest

from ofa_hw import load_table
from ofa_hw.lowering.files import open_file
from ofa_hw.quickstart import BACKENDS, run_quickstart


@pytest.mark.slow
def test_the_quickstart_ships_what_it_promises(tmp_path: Path) -> None:
    stages: list[str] = []
    result = run_quickstart(tmp_path / "run", progress=lambda name, *_: stages.append(name))
    assert [row.backend for row in result.rows] == list(BACKENDS)
    assert list(dict.fromkeys(stages)) == ["training", *(f"profiling {b}" for b in BACKENDS)]
    for row in result.rows:
        assert row.predicted_ms <= row.budget_ms
        assert row.measured_top1 >= 0.95, row
        # A machine that others use may change its speed between table and file; a wrong table or
        # another network would be off by far more.
        assert row.measured_ms == pytest.approx(row.predicted_ms, rel=0.5), row
        table = load_table(result.folder / f"{row.backend}.jsonl")
        assert table.calibration is not None
        for suffix in (".onnx", ".tflite"):
            session = open_file(result.folder / f"{row.backend}{suffix}")
            assert session.input_shape[:2] == (1, 1)
    saved = json.loads((result.folder / "results.json").read_text())
    assert saved == json.loads(json.dumps(result.summary()))
