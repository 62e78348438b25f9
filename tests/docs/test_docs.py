"""What the pages of docs/ tell people to run, run."""

from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_space_of_ones_own_is_profiled_searched_trained_and_exported(
    run_page, tmp_path: Path
) -> None:
    out = run_page("docs/custom-space.md")
    assert float(out.split()[-1]) > 0.8
    assert {"my_cnn.onnx", "my_cnn.tflite", "my_cnn.jsonl"} <= {p.name for p in tmp_path.iterdir()}


def test_published_data_serves_as_documented(run_page, tmp_path: Path, shared_data: Path) -> None:
    out = run_page("docs/published-networks.md", environment={"DATA": str(shared_data)})
    assert int(out.split()[-1]) > 500_000_000
    assert (tmp_path / "note10-16ms.tflite").is_file()


@pytest.mark.slow
def test_searching_runs_as_documented(run_page, tmp_path: Path, shared_data: Path) -> None:
    out = run_page("docs/searching.md", environment={"DATA": str(shared_data)})
    assert "measured latency" in out
    assert "specialize" in (tmp_path / "front.html").read_text()
