"""The commands of `ofa-hw lut` on published tables and measured ones."""

import json
import shutil
from pathlib import Path

import pytest

from ofa_hw.latency import load_table


def test_an_imported_folder_is_a_table_like_any_other(
    run, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "note10.jsonl"
    code, out, _ = run("lut", "import", shared_data / "note10", "--output", output, "--json")
    assert code == 0
    assert json.loads(out)["rows"] == {str(r): 96 for r in (160, 176, 192, 208, 224)}
    code, out, err = run("lut", "import", shared_data / "note10", "--output", output)
    assert (code, out) == (1, "")
    assert "pass --force" in err
    code, out, _ = run("lut", "show", output, "--rows", 2)
    assert code == 0
    assert "networks of 160, 176, 192, 208, 224 pixels" in out
    assert "None" not in out
    code, out, _ = run("lut", "show", output, "--json")
    assert json.loads(out)["network_resolutions"] == [160, 176, 192, 208, 224]


def test_what_is_no_table_leaves_no_file(run, tmp_path: Path) -> None:
    (tmp_path / "poem.yaml").write_text("roses: red")
    code, _, err = run("lut", "import", tmp_path / "poem.yaml", "-o", tmp_path / "poem.jsonl")
    assert code == 1
    assert "poem.yaml" in err
    assert not (tmp_path / "poem.jsonl").exists()


def test_a_table_is_validated_and_calibrated(run, table: Path, tmp_path: Path) -> None:
    mine = tmp_path / "tiny.jsonl"
    shutil.copy(table, mine)
    code, out, _ = run("lut", "validate", mine, "--networks", 6, "--json")
    assert code == 0
    assert json.loads(out)["raw"]["networks"] == 6
    code, out, _ = run("lut", "calibrate", mine)
    assert code == 0
    assert "calibrated, unseen" in out
    assert load_table(mine).calibration is not None


def test_an_imported_table_cannot_be_validated_and_says_what_to_do(
    run, shared_data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "trim.jsonl"
    run("lut", "import", shared_data / "mobile_trim.yaml", "-o", output)
    code, _, err = run("lut", "validate", output)
    assert code == 1
    assert "ofa-hw profile --space" in err


COMMANDS = ("show", "list", "import", "validate", "calibrate", "plot")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json(run, command: str) -> None:
    code, out, _ = run("lut", command, "--help")
    assert code == 0
    assert f"Example: ofa-hw lut {command}" in " ".join(out.split())
    assert "--json" in out


def test_a_page_is_written_once(run, table: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    page = tmp_path / "page.html"
    assert run("lut", "plot", table, "--output", page)[0] == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    code, _, err = run("lut", "plot", table, "--output", page)
    assert code == 1
    assert "--force" in err
    code, _, err = run("lut", "plot", table, "--output", tmp_path / "nowhere" / "page.html")
    assert code == 1
    assert "cannot write" in err


def test_the_list_says_what_every_bundled_table_covers_and_how_far_it_is_off(run) -> None:
    code, out, _ = run("lut", "list", "--json")
    assert code == 0
    for entry in json.loads(out):
        assert entry["resolutions"]
        assert 0 < entry["validation_mape"] < 0.05
    assert run("lut", "list")[0] == 0
