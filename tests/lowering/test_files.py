"""What the written files look like from outside."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ofa_hw.errors import ExportError
from ofa_hw.graph import (
    Conv,
    Graph,
    GraphBuilder,
    HardSwish,
    MaxPool,
    Relu,
    network_graph,
    op_graph,
)
from ofa_hw.lowering.metadata import read_metadata
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.sessions import TfliteSession
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space, space_names

BLOCK = OpSpec(
    "mbconv",
    14,
    40,
    40,
    120,
    kernel_size=5,
    activation="h_swish",
    se_channels=32,
    shortcut="identity",
)
METADATA = {"ofa_hw.spec": '{"resolution": 160}', "labels": "chat\nchien\nhérisson", "empty": ""}


def tflite_operators(graph: Graph) -> list[str]:
    return list(TfliteSession(to_tflite(graph), xnnpack=False).undelegated)


def onnx_operators(graph: Graph) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(to_onnx(graph)).graph.node]


@pytest.mark.parametrize("batch", [1, 4])
def test_block_is_one_xnnpack_partition(batch: int) -> None:
    session = TfliteSession(to_tflite(op_graph(BLOCK, batch=batch)))
    assert (session.partitions, session.undelegated) == (1, ())


@pytest.mark.parametrize("name", space_names())
def test_network_is_one_xnnpack_partition(name: str) -> None:
    space = get_space(name)
    ops = space.ops(space.smallest(space.resolutions[0]))
    session = TfliteSession(to_tflite(network_graph(ops)))
    assert (session.partitions, session.undelegated) == (1, ())


def test_block_is_written_in_the_fewest_tflite_operators() -> None:
    assert tflite_operators(op_graph(BLOCK)) == [
        *("CONV_2D", "HARD_SWISH", "DEPTHWISE_CONV_2D", "HARD_SWISH"),
        *("MEAN", "CONV_2D", "CONV_2D", "ADD", "MUL", "MUL"),
        *("CONV_2D", "ADD"),
    ]


def test_block_is_written_in_the_fewest_onnx_operators() -> None:
    assert onnx_operators(op_graph(BLOCK)) == [
        *("Conv", "HardSwish", "Conv", "HardSwish"),
        *("GlobalAveragePool", "Conv", "Relu", "Conv", "HardSigmoid", "Mul"),
        *("Conv", "Add"),
    ]


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_tflite_convolution_and_sum_take_their_activation_in(activation: str) -> None:
    op = OpSpec("bottleneck", 8, 8, 8, 8, 3, activation=activation, shortcut="identity")
    assert tflite_operators(op_graph(op)) == ["CONV_2D", "CONV_2D", "CONV_2D", "ADD"]


@pytest.mark.parametrize(
    ("size", "operators"),
    [(33, ["CONV_2D"]), (32, ["PAD", "CONV_2D"])],
    ids=["same is symmetric", "same is not symmetric"],
)
def test_convolution_is_padded_explicitly_only_where_same_would_differ(
    size: int, operators: list[str]
) -> None:
    op = OpSpec("conv", size, 3, 8, kernel_size=3, stride=2, activation="relu")
    assert tflite_operators(op_graph(op)) == operators


@pytest.mark.parametrize(
    ("activation", "pad"), [(Relu(), "PAD"), (HardSwish(), "PADV2")], ids=["positive", "signed"]
)
def test_max_pool_is_padded_by_zero_only_where_nothing_is_negative(
    activation: Relu | HardSwish, pad: str
) -> None:
    builder = GraphBuilder((1, 8, 8, 8))
    builder.add(MaxPool(3, 2, 1), builder.add(activation, "input"))
    assert pad in tflite_operators(builder.build())


def test_a_max_pool_on_its_own_is_padded_as_after_the_relu_that_it_follows_in_networks() -> None:
    operators = tflite_operators(op_graph(OpSpec("max_pool", 8, 8, 8, kernel_size=3, stride=2)))
    assert operators == ["PAD", "MAX_POOL_2D"]


def test_onnx_model_passes_the_checker() -> None:
    for op in (BLOCK, OpSpec("bottleneck", 9, 8, 16, 8, 3, 2, "relu6", shortcut="project")):
        onnx.checker.check_model(to_onnx(op_graph(op, batch=2)), full_check=True)


def test_tensors_at_the_ends_are_named_input_and_output() -> None:
    graph = op_graph(BLOCK)
    model = onnx.load_model_from_string(to_onnx(graph)).graph
    assert [tensor.name for tensor in (*model.input, *model.output)] == ["input", "output"]
    signatures = Interpreter(model_content=to_tflite(graph)).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["input"], "outputs": ["output"]}}


def test_names_of_a_graph_may_be_anything() -> None:
    builder = GraphBuilder((1, 4, 4, 4), input="output")
    builder.add(Relu(), builder.add(HardSwish(), "output"))
    onnx.checker.check_model(to_onnx(builder.build()), full_check=True)


def test_tflite_constants_are_aligned_and_right() -> None:
    weight = np.arange(1 * 3 * 1 * 1, dtype=np.float32).reshape(1, 3, 1, 1)
    builder = GraphBuilder((1, 3, 4, 4))
    builder.add(Conv(weight), "input")
    content = to_tflite(builder.build(), metadata={"odd": "x"})
    model = schema.Model.GetRootAs(content, 0)
    found = []
    for i in range(model.BuffersLength()):
        if not model.Buffers(i).DataIsNone():
            data = model.Buffers(i).DataAsNumpy()
            offset = (
                data.__array_interface__["data"][0]
                - np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            )
            assert offset % 16 == 0
            found.append(data.tobytes())
    assert weight.tobytes() in found


@pytest.mark.parametrize("write", [to_onnx, to_tflite], ids=["onnx", "tflite"])
def test_metadata_is_read_back(write: object, tmp_path: Path) -> None:
    assert callable(write)
    content = write(op_graph(BLOCK), metadata=METADATA)
    assert read_metadata(content) == METADATA
    (tmp_path / "net").write_bytes(content)
    assert read_metadata(tmp_path / "net") == METADATA


def test_model_without_metadata_has_none() -> None:
    assert read_metadata(to_onnx(op_graph(BLOCK))) == {}
    assert read_metadata(to_tflite(op_graph(BLOCK))) == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"neither", to_tflite(op_graph(BLOCK), metadata=METADATA)[:400]],
    ids=["empty", "other", "truncated"],
)
def test_unreadable_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=re.escape(str(path))):
        read_metadata(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="absent"):
        read_metadata(tmp_path / "absent.onnx")
