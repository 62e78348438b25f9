import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ofa_hw.errors import CheckpointError
from ofa_hw.spaces import mobilenetv3
from ofa_hw.supernet import (
    Supernet,
    load_supernet,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)

State = dict[str, torch.Tensor]
SPACE = mobilenetv3("small", width=0.25, resolutions=(32,), num_classes=5)


@pytest.fixture(scope="module")
def net() -> Supernet:
    return load_supernet(SPACE, seed=7)


def same(a: nn.Module, b: nn.Module) -> bool:
    own, other = a.state_dict(), b.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[k], other[k]) for k in own)


def older(key: str) -> str:
    key = key.replace(".conv.", ".mobile_inverted_conv.", 1) if key.startswith("blocks.") else key
    return key.replace(".bn.bn.", ".bn.").replace(".conv.conv.weight", ".conv.weight")


def doubled(key: str) -> str:
    for name in ("bn", "linear"):
        key = key.replace(f".{name}.", f".{name}.{name}.")
    return key.replace(".conv.weight", ".conv.conv.weight")


FORMS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "under state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "older names": lambda state: {older(key): value for key, value in state.items()},
    "doubled names": lambda state: {doubled(key): value for key, value in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_loads(form: str, net: Supernet, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(FORMS[form](net.state_dict()), path)
    assert same(load_supernet(SPACE, path), net)


def test_state_dict_loads_without_a_file(net: Supernet) -> None:
    assert same(load_supernet(SPACE, net.state_dict()), net)
    assert same(load_supernet(SPACE, {"state_dict": net.state_dict()}), net)  # type: ignore[dict-item]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_saved_loads_again(suffix: str, net: Supernet, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_text("an older file")
    save_checkpoint(net, path)
    assert same(load_supernet(SPACE, path), net)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_plain_network_saves_and_loads(net: Supernet, tmp_path: Path) -> None:
    spec = net.space.smallest()
    plain, other = net.extract(spec), load_supernet(SPACE, seed=8).extract(spec)
    save_checkpoint(plain, tmp_path / "plain.pth")
    load_weights(other, tmp_path / "plain.pth")
    assert same(plain, other)


def test_failed_save_leaves_the_old_file(net: Supernet, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write"):
        save_checkpoint(net, tmp_path / "no folder" / "weights.pth")
    assert not list(tmp_path.iterdir())


def test_all_wrong_keys_are_named_at_once(net: Supernet) -> None:
    state = dict(net.state_dict())
    del state["classifier.linear.bias"], state["first_conv.bn.bias"]
    state["classifier.linear.weight"] = torch.zeros(3, 3)
    state["extra.weight"] = torch.zeros(1)
    state["module.first_conv.conv.weight"] = state["first_conv.conv.weight"]
    with pytest.raises(CheckpointError) as caught:
        load_supernet(SPACE, state)
    message = str(caught.value)
    assert "2 missing: first_conv.bn.bias, classifier.linear.bias" in message
    assert "1 surplus: extra.weight" in message
    assert "1 given twice: module.first_conv.conv.weight" in message
    assert "1 of another shape: classifier.linear.weight (3, 3) for (5, " in message


def test_long_lists_are_cut_with_their_count(net: Supernet) -> None:
    other = load_supernet("tiny").state_dict()
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more") as caught:
        load_supernet(SPACE, other)
    assert len(str(caught.value)) < 3000


def test_misfit_leaves_the_network_unchanged(net: Supernet) -> None:
    other = load_supernet(SPACE, seed=9)
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    state = {k: v for k, v in net.state_dict().items() if k != "classifier.linear.bias"}
    with pytest.raises(CheckpointError):
        load_weights(other, state)
    assert all(torch.equal(before[key], tensor) for key, tensor in other.state_dict().items())


def test_missing_matrices_start_as_identities_only_when_asked(net: Supernet) -> None:
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("_matrix")}
    with pytest.raises(CheckpointError, match=r"40 missing: .*7to5_matrix.*identity_matrices=True"):
        load_supernet(SPACE, state)
    loaded = load_supernet(SPACE, state, identity_matrices=True)
    matrix = loaded.state_dict()["blocks.3.conv.depth_conv.conv.7to5_matrix"]
    assert torch.equal(matrix, torch.eye(25))


def test_half_precision_loads_as_single(net: Supernet) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    assert load_supernet(SPACE, state).state_dict()["first_conv.conv.weight"].dtype == torch.float32


class Payload:
    """What a malicious file would hold."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("the file was executed",)


def corrupt_zip(path: Path, net: Supernet) -> None:
    save_checkpoint(net, path)
    path.write_bytes(path.read_bytes()[:-2000])


def arbitrary_pickle(path: Path, net: Supernet) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload()}))


def arbitrary_objects(path: Path, net: Supernet) -> None:
    torch.save({"state_dict": net.state_dict(), "rest": Payload()}, path)


def whole_module(path: Path, net: Supernet) -> None:
    torch.save(net, path)


BROKEN: dict[str, Callable[[Path, Supernet], object]] = {
    "truncated": corrupt_zip,
    "text": lambda path, net: path.write_text("no weights here"),
    "empty": lambda path, net: path.write_bytes(b""),
    "pickle": arbitrary_pickle,
    "objects": arbitrary_objects,
    "module": whole_module,
    "folder": lambda path, net: path.mkdir(),
    "missing": lambda path, net: None,
    "list": lambda path, net: torch.save([1, 2], path),
    "numbers": lambda path, net: torch.save({"epoch": 3, "lr": 0.1}, path),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_refused_by_name(
    kind: str, suffix: str, net: Supernet, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    BROKEN[kind](path, net)
    with pytest.raises(CheckpointError, match=f"weights{suffix}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
