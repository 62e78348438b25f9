"""What the published predictors, tables and checkpoints give on the command line."""

import json
from pathlib import Path

import pytest

from ofa_hw.lowering.files import open_file
from ofa_hw.spaces import SubnetSpec, get_space

SPACE = "ofa_mbv3_d234_e346_k357_w1.2"


def specialize(shared_data: Path, *more: object) -> list[object]:
    return [
        *("specialize", "--space", SPACE, "--lut", shared_data / "note10"),
        *("--predictor", shared_data / "acc_predictor.pth", "--json", *more),
    ]


def test_published_data_alone_gives_a_sub_network(run, shared_data: Path) -> None:
    code, out, err = run(*specialize(shared_data, "--latency-ms", 25))
    assert code == 0, err
    result = json.loads(out)
    assert result["predicted_latency_ms"] <= 25
    assert result["predicted_top1"] > 0.81  # the published search found .8144 to .8199
    spec = SubnetSpec.from_json(json.dumps(result["spec"]))
    assert get_space(SPACE).require(spec).resolution in (160, 176, 192, 208, 224)


def test_a_checkpoint_of_the_published_layout_ships_files(
    run, shared_data: Path, tmp_path: Path
) -> None:
    from ofa_hw.supernet import load_supernet, save_checkpoint

    weights = tmp_path / "ofa_mbv3.pth"
    save_checkpoint(load_supernet(SPACE), weights)
    files = [tmp_path / "net.onnx", tmp_path / "net.tflite"]
    exports = [part for file in files for part in ("--export", file)]
    args = specialize(shared_data, "--latency-ms", 16, "--resolutions", 160)
    code, out, err = run(*args, "--weights", weights, *exports)
    assert code == 0, err
    written = json.loads(out)["files"]
    assert all(file["max_relative_error"] < 1e-3 for file in written)
    for file in files:
        assert open_file(file).input_shape == (1, 3, 160, 160)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(["--resolutions", "132"], "132", id="a resolution the table lacks"),
        pytest.param(["--resolutions", "100"], "100", id="a resolution of no network"),
        pytest.param(["--space", "ofa_resnet50"], "ofa_resnet50|acc_predictor", id="another space"),
    ],
)
def test_what_the_table_does_not_cover_is_named(run, shared_data: Path, more, message) -> None:
    code, out, err = run(*specialize(shared_data, "--latency-ms", 25, *more))
    assert code == 1, (out, err)
    assert "Traceback" not in err
    assert message.split("|")[0] in err or message.split("|")[-1] in err


def test_an_infeasible_budget_names_the_smallest_latency_of_the_table(
    run, shared_data: Path
) -> None:
    code, _, err = run(*specialize(shared_data, "--latency-ms", 3))
    assert code == 1
    assert "latency_ms" in err
