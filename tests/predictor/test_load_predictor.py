import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.predictor import (
    AccuracyPredictor,
    FittedPredictor,
    MlpPredictor,
    fit_predictor,
    load_predictor,
)
from ofa_hw.spaces import get_space

W10, W12 = "ofa_mbv3_d234_e346_k357_w1.0", "ofa_mbv3_d234_e346_k357_w1.2"


@pytest.fixture(scope="module")
def published(shared_data: Path) -> MlpPredictor:
    return load_predictor(shared_data / "acc_predictor.pth")


@pytest.fixture(scope="module", params=["mlp", "boosting", "gaussian"])
def fitted(request: pytest.FixtureRequest) -> FittedPredictor:
    tiny = get_space("tiny")
    specs = tiny.decode(tiny.sample_rows(40, rng=np.random.default_rng(0)))
    top1 = np.linspace(0.5, 0.9, 40)
    return fit_predictor(tiny, specs, top1, seed=0, model=request.param, hidden=(16,), max_epochs=5)


def test_published_mobilenetv3_predictor_agrees_with_the_reference(
    published: MlpPredictor, shared_data: Path
) -> None:
    cases = json.loads((shared_data / "golden/predictor_note10.json").read_text())
    specs = [
        published.space.spec(
            resolution=case["resolution"],
            depths=case["d"],
            kernel_sizes=case["ks"],
            expand_ratios=case["e"],
        )
        for case in cases
    ]
    expected = [case["top1"] for case in cases]
    np.testing.assert_allclose(published.predict(specs), expected, rtol=0, atol=1e-5)
    assert len(cases) == 12


def test_published_resnet50_predictor_agrees_with_torch(shared_data: Path) -> None:
    path = shared_data / "ofa_resnet50_acc_predictor.pth"
    predictor = load_predictor(path)
    state = torch.load(path, weights_only=True, map_location="cpu")
    spec = predictor.space.spec(
        resolution=224,
        depths=[2, 1, 0, 2, 0],
        expand_ratios=[0.25] * 17 + [0.35],
        width_indices=[0, 1, 2, 0, 1, 2],
    )
    ones = [5, 9, *(10 + 3 * i + w for i, w in enumerate([0, 1, 2, 0, 1, 2]))]
    runs = [
        0,
        1,
        2,
        4,
        5,
        *range(8, 14),
        14,
        15,
    ]  # blocks of depths 2+1, 2+0, 4+2, 2+0 of 4, 4, 6, 4
    x = torch.zeros(82)
    x[ones + [28 + 3 * block + 1 for block in runs]] = 1
    for i in range(3):
        x = torch.relu(state[f"layers.{i}.0.weight"] @ x + state[f"layers.{i}.0.bias"])
    expected = (state["layers.3.weight"] @ x + state["base_acc"]).item()
    assert predictor.predict([spec])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [W10, W12])
def test_published_mobilenetv3_predictor_serves_both_widths(name: str, shared_data: Path) -> None:
    space = get_space(name)
    predictor = load_predictor(shared_data / "acc_predictor.pth", space=space)
    assert predictor.space is space
    assert 0.6 < predictor.predict([space.largest()])[0] < 0.9


def test_published_predictor_refuses_a_space_of_another_layout(shared_data: Path) -> None:
    with pytest.raises(SpecError, match="ofa_proxyless"):
        load_predictor(
            shared_data / "acc_predictor.pth", space=get_space("ofa_proxyless_d234_e346_k357_w1.3")
        )


def test_published_mobilenetv3_predictor_knows_its_resolutions(published: MlpPredictor) -> None:
    assert published.resolutions == tuple(range(160, 225, 4))


def test_skipped_blocks_set_no_feature(published: MlpPredictor) -> None:
    rows = published.space.encode([published.space.smallest(), published.space.largest()])
    assert published.layout(rows).sum(1).tolist() == [10 + 10 + 1, 20 + 20 + 1]


def test_predictions_do_not_depend_on_the_batch(published: MlpPredictor) -> None:
    rng = np.random.default_rng(0)
    rows = published.space.canonical_rows(published.space.sample_rows(2500, rng=rng))
    one_by_one = np.concatenate([published.predict_rows(row[None]) for row in rows[::250]])
    np.testing.assert_allclose(published.predict_rows(rows)[::250], one_by_one, atol=1e-6)


def test_rows_and_specs_give_the_same_prediction(published: MlpPredictor) -> None:
    specs = published.space.decode(published.space.sample_rows(20, rng=np.random.default_rng(1)))
    rows = published.space.encode(specs)
    assert published.predict(specs).tolist() == published.predict_rows(rows).tolist()


def test_saved_predictor_predicts_the_same(fitted: FittedPredictor, tmp_path: Path) -> None:
    fitted.save(tmp_path / "p.npz")
    loaded = load_predictor(tmp_path / "p.npz")
    rows = fitted.space.encode([fitted.space.smallest(), fitted.space.largest()])
    assert isinstance(loaded, AccuracyPredictor)
    assert loaded.predict_rows(rows).tolist() == fitted.predict_rows(rows).tolist()
    assert loaded.report == fitted.report
    assert loaded.resolutions == fitted.resolutions
    assert [file.name for file in tmp_path.iterdir()] == ["p.npz"]


def test_saved_predictor_needs_neither_torch_nor_sklearn(
    fitted: FittedPredictor, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "p.npz")
    code = (
        "import sys; from ofa_hw.predictor import load_predictor\n"
        "p = load_predictor(sys.argv[1]); p.predict([p.space.smallest()])\n"
        "assert not {'torch', 'sklearn', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "p.npz"], check=True)


def test_saved_predictor_refuses_another_space(fitted: FittedPredictor, tmp_path: Path) -> None:
    fitted.save(tmp_path / "p.npz")
    with pytest.raises(SpecError, match=f"not of {W10}"):
        load_predictor(tmp_path / "p.npz", space=get_space(W10))


def test_failed_save_leaves_nothing(fitted: FittedPredictor, tmp_path: Path) -> None:
    (tmp_path / "p.npz").mkdir()
    with pytest.raises(OSError, match=r"p\.npz"):
        fitted.save(tmp_path / "p.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["p.npz"]


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1], ids=["empty", "head", "half", "all but one"])
def test_truncated_predictor_is_named(fitted: FittedPredictor, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "p.npz"
    fitted.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep == 0.5 else int(keep)])
    with pytest.raises(CheckpointError, match=r"p\.npz"):
        load_predictor(path)


def test_flipped_bytes_never_load_silently_wrong(fitted: FittedPredictor, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    fitted.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"p\.npz"):
        load_predictor(path)


@pytest.mark.parametrize(
    ("model", "array"),
    [("forest", "left"), ("forest", "feature"), ("gaussian", "known"), ("ridge", "weight_0")],
)
def test_arrays_that_do_not_fit_together_are_named(tmp_path: Path, model: str, array: str) -> None:
    tiny, path = get_space("tiny"), tmp_path / "p.npz"
    specs = tiny.decode(tiny.sample_rows(40, rng=np.random.default_rng(0)))
    fit_predictor(tiny, specs, np.linspace(0.5, 0.9, 40), seed=0, model=model).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays[array] = arrays[array][:-1] + 900
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(CheckpointError, match=r"p\.npz .* damaged"):
        load_predictor(path)
    del arrays[array]
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(CheckpointError, match=r"p\.npz .* damaged"):
        load_predictor(path)


@pytest.mark.parametrize("name", ["p.pth", "p.npz", "p.txt", "absent.npz"])
def test_file_of_something_else_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "absent" not in name:
        path.write_text("not a predictor")
    with pytest.raises(CheckpointError, match=name):
        load_predictor(path)


@pytest.mark.parametrize(
    "state",
    [{"0.weight": torch.zeros(4, 7), "0.bias": torch.zeros(4)}, {}, [1, 2]],
    ids=["other width", "empty", "list"],
)
def test_torch_file_of_something_else_is_named(tmp_path: Path, state: object) -> None:
    torch.save(state, tmp_path / "p.pth")
    with pytest.raises(CheckpointError, match=r"p\.pth"):
        load_predictor(tmp_path / "p.pth")


def test_incomplete_published_file_is_named(shared_data: Path, tmp_path: Path) -> None:
    state = torch.load(shared_data / "acc_predictor.pth", weights_only=True, map_location="cpu")
    del state["2.weight"]
    torch.save(state, tmp_path / "p.pth")
    with pytest.raises(CheckpointError, match=r"p\.pth"):
        load_predictor(tmp_path / "p.pth")


def test_missing_torch_is_one_sentence(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CheckpointError, match=r"pip install 'ofa-hw\[torch\]'"):
        load_predictor(shared_data / "acc_predictor.pth")
