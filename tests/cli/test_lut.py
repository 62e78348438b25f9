"""The commands of `ofa-hw lut` on published tables and measured ones."""

import json
import shutil
from pathlib import Path

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
