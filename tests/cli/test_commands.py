import json
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_hw.spaces import SubnetSpec, get_space

COMMANDS = (
    ["quickstart"],
    ["profile"],
    ["devices"],
    ["lut", "show"],
    ["lut", "list"],
    ["lut", "import"],
    ["lut", "validate"],
    ["lut", "calibrate"],
    ["lut", "plot"],
    ["device", "build-runner"],
    ["search"],
    ["train"],
    ["specialize"],
    ["bench"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example_and_json(run, command: list[str]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert f"Example: ofa-hw {' '.join(command)}" in " ".join(out.split())
    assert "--json" in out


def test_help_imports_neither_torch_nor_a_runtime() -> None:
    program = (
        "import sys\n"
        "from ofa_hw.cli import main\n"
        "sys.argv = ['ofa-hw', 'profile', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'onnxruntime', 'onnx', 'sklearn', 'scipy', 'ai_edge_litert'}\n"
        "    print('heavy:', heavy & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "heavy: set()" in done.stdout, done.stderr


def test_version_is_that_of_the_distribution(run) -> None:
    from importlib.metadata import version

    assert run("--version") == (0, f"ofa-hw {version('ofa-hw')}\n", "")


def test_devices_names_every_backend_of_this_machine(run) -> None:
    code, out, _ = run("devices", "--json")
    assert code == 0
    states = {row["backend"]: row["state"] for row in json.loads(out)["backends"]}
    assert {name: states[name] for name in ("cpu", "onnxruntime", "tflite")} == {
        "cpu": "ready",
        "onnxruntime": "ready",
        "tflite": "ready",
    }


def test_a_dry_run_counts_and_writes_nothing(run, tmp_path: Path) -> None:
    output = tmp_path / "new.jsonl"
    code, out, _ = run(
        "profile", "--space", "tiny", "--backend", "cpu", "-o", output, "--dry-run", "--json"
    )
    assert code == 0
    plan = json.loads(out)
    assert plan["cells"] == plan["missing"] == len(get_space("tiny").table_ops())
    assert not output.exists()


def test_a_complete_table_is_not_measured_again(run, table: Path) -> None:
    before = table.read_bytes()
    code, out, _ = run(
        *("profile", "--space", "tiny", "--backend", "onnxruntime", "--resolutions", "24"),
        *("-o", table, "--json"),
    )
    assert code == 0
    assert json.loads(out)["missing"] == 0
    assert table.read_bytes() == before


def test_lut_show_says_where_the_numbers_come_from(run, table: Path) -> None:
    code, out, _ = run("lut", "show", table, "--rows", 3)
    assert code == 0
    assert "onnxruntime" in out
    assert "tiny" in out
    code, out, _ = run("lut", "show", table, "--json")
    shown = json.loads(out)
    assert len(shown["rows"]) == len(get_space("tiny").table_ops([24]))
    assert shown["header"]["device"]["threads"] == 1


def test_specialize_ships_checked_files_that_bench_can_time(
    run, table: Path, predictor: Path, weights: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "net.onnx", tmp_path / "net.tflite", tmp_path / "net.pt2"]
    exports = [part for file in files for part in ("--export", file)]
    code, out, err = run(
        *("specialize", "--space", "tiny", "--lut", table, "--predictor", predictor),
        *("--latency-ms", 100, "--weights", weights, "--data", "digits", "--json", *exports),
    )
    assert code == 0, err
    result = json.loads(out)
    spec = SubnetSpec.from_json(json.dumps(result["spec"]))
    assert get_space("tiny").require(spec).resolution == 24
    assert [file["path"] for file in result["files"]] == [str(file) for file in files]
    for file in files:
        code, out, err = run("bench", file, "--seconds", 0.2, "--json")
        assert code == 0, err
        assert json.loads(out)["statistics"]["median_ms"] > 0


def test_the_same_seed_gives_the_same_sub_network(run, table: Path, predictor: Path) -> None:
    from ofa_hw import get_space, load_table, search
    from ofa_hw.predictor import load_predictor
    from ofa_hw.search import latency_range

    space = get_space("tiny")
    low, high = latency_range(space, load_table(table))
    budget = (low + high) / 2
    args = ("specialize", "--space", "tiny", "--lut", table, "--predictor", predictor)
    outputs = [run(*args, "--latency-ms", budget, "--seed", 3, "--json")[1] for _ in range(2)]
    assert outputs[0] == outputs[1]
    result = json.loads(outputs[0])
    assert result["predicted_latency_ms"] <= budget
    found = search(
        space,
        predictor=load_predictor(predictor),
        lut=load_table(table),
        latency_ms=budget,
        seed=3,
    )
    assert json.loads(found.best.spec.to_json()) == result["spec"]
