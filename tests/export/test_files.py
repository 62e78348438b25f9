from pathlib import Path

import numpy as np
import pytest

from ofa_hw.errors import ExportError, OutputExistsError, ParityError
from ofa_hw.export import beside, export_graph
from ofa_hw.graph import Graph, network_graph
from ofa_hw.graph.ir import Array
from ofa_hw.lowering.files import FORMATS, open_file, opened
from ofa_hw.spaces import get_space

SPACE = get_space("tiny")
GRAPH = network_graph(SPACE.ops(SPACE.smallest()))


class Reference:
    """What torch computes."""

    def __init__(self, graph: Graph) -> None:
        import torch

        from ofa_hw.lowering.torch import to_torch

        self._module = to_torch(graph)
        self._torch = torch

    def __call__(self, x: Array) -> Array:
        with self._torch.inference_mode():
            return np.asarray(self._module(self._torch.from_numpy(x)))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_of_every_format_computes_what_torch_does(
    tmp_path: Path, suffix: str, batch: int
) -> None:
    graph = GRAPH.with_batch(batch)
    file = export_graph(graph, tmp_path / f"net{suffix}", reference=Reference(graph))
    assert file.max_relative_error < 1e-4
    assert file.size_bytes == file.path.stat().st_size
    assert open_file(file.path).input_shape[0] == batch
    assert [p.name for p in tmp_path.iterdir()] == [f"net{suffix}"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_computes_something_else_is_not_left_behind(
    tmp_path: Path, suffix: str
) -> None:
    def wrong(x: Array) -> Array:
        return Reference(GRAPH)(x) + 1

    with pytest.raises(ParityError, match="net"):
        export_graph(GRAPH, tmp_path / f"net{suffix}", reference=wrong)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="--force"):
        export_graph(GRAPH, path, reference=Reference(GRAPH))
    assert path.read_text() == "precious"
    export_graph(GRAPH, path, reference=Reference(GRAPH), force=True)
    assert open_file(path).input_shape == (1, 1, 24, 24)


def test_a_failed_export_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("precious")
    with pytest.raises(ParityError):
        export_graph(GRAPH, path, reference=lambda x: x, force=True)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("net.pb", "net.pb.*onnx, .tflite, .pt2", id="unknown ending"),
        pytest.param("net", "onnx", id="no ending"),
    ],
)
def test_a_name_of_no_known_format_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_graph(GRAPH, tmp_path / name, reference=Reference(GRAPH))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot write .*net\.onnx"):
        export_graph(GRAPH, tmp_path / "file" / "net.onnx", reference=Reference(GRAPH))


def test_too_few_images_for_one_batch_are_refused(tmp_path: Path) -> None:
    graph = GRAPH.with_batch(4)
    images = np.zeros((3, 1, 24, 24), np.float32)
    with pytest.raises(ExportError, match="at least 4 images"):
        export_graph(graph, tmp_path / "a.onnx", reference=Reference(graph), images=images)


def test_a_block_that_fails_leaves_no_draft(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), beside(tmp_path / "a.txt") as draft:
        draft.write_text(str(1 / 0))
    assert not list(tmp_path.iterdir())


def test_a_torch_program_runs_on_the_threads_asked_for_and_gives_them_back(tmp_path: Path) -> None:
    import torch

    path = export_graph(GRAPH, tmp_path / "net.pt2", reference=Reference(GRAPH)).path
    before = torch.get_num_threads()
    with opened(path, threads=before + 1) as session:
        assert torch.get_num_threads() == before + 1
        session.invoke()
        assert session.outputs()[0].shape == (1, 10)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_file_is_named(tmp_path: Path, suffix: str) -> None:
    from ofa_hw.errors import ProfilerError

    path = export_graph(GRAPH, tmp_path / f"net{suffix}", reference=Reference(GRAPH)).path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ProfilerError, match=f"net{suffix}"):
        open_file(path)
