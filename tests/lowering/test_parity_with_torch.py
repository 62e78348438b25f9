"""What ONNX Runtime and TFLite compute from a written network is what torch computes."""

import zlib

import numpy as np
import pytest
import torch

from ofa_hw.graph import (
    Add,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    GraphBuilder,
    HardSigmoid,
    HardSwish,
    Linear,
    MaxPool,
    Mul,
    Primitive,
    Relu,
    Relu6,
    Scale,
    Shift,
    network_graph,
    op_graph,
)
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.parity import check_parity
from ofa_hw.lowering.sessions import OnnxSession, Session, TfliteSession
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.lowering.torch import to_torch
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space, space_names

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def conv(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, bias: bool = True
) -> Conv:
    weight = RNG.standard_normal((out, channels // groups, kernel, kernel), np.float32)
    offset = RNG.standard_normal(out, np.float32) if bias else None
    return Conv(weight, offset, stride, kernel // 2, groups)


def chain(shape: tuple[int, ...], *primitives: Primitive) -> Graph:
    builder = GraphBuilder(shape)
    x = builder.input
    for primitive in primitives:
        x = builder.add(primitive, x)
    return builder.build()


def linear(features: int, out: int) -> Linear:
    return Linear(RNG.standard_normal((out, features), np.float32))


def assert_parity(graph: Graph, tolerance: float = 1e-4) -> None:
    rng = np.random.default_rng(zlib.crc32(repr(graph.input_shape).encode()))
    x = rng.standard_normal(graph.input_shape, np.float32) * 3
    x = np.abs(x) if graph.never_negative else x
    with torch.inference_mode():
        expected = to_torch(graph)(torch.from_numpy(x)).numpy()
    assert expected.shape == graph.output_shape
    onnx, tflite = to_onnx(graph), to_tflite(graph)
    sessions: list[Session] = [
        OnnxSession(onnx),
        TfliteSession(tflite),
        TfliteSession(tflite, xnnpack=False),
    ]
    for session in sessions:
        assert session.input_shape == graph.input_shape
        check_parity(session.run(x), expected, tolerance=tolerance, name=session.runtime)


PRIMITIVES = {
    "relu": Relu(),
    "relu6": Relu6(),
    "hard sigmoid": HardSigmoid(),
    "hard swish": HardSwish(),
    "shift": Shift(np.array(0.3, np.float32)),
    "shift of each channel": Shift(RNG.standard_normal(6, np.float32)),
    "scale": Scale(np.array(-0.3, np.float32)),
    "scale of each channel": Scale(RNG.standard_normal(6, np.float32)),
    "global average pool": GlobalAvgPool(),
    "flatten": Flatten(),
    "1x1 conv": conv(6, 8, 1),
    "1x1 conv with stride": conv(6, 8, 1, 2),
    "conv without bias": conv(6, 8, 3, bias=False),
    "grouped conv": conv(6, 8, 3, 2, groups=2),
    "depthwise conv with multiplier": conv(6, 12, 3, 2, groups=6),
    "unpadded conv": Conv(conv(6, 8, 3).weight, None, 2, 0),
    "conv padded beyond its kernel": Conv(conv(6, 8, 3).weight, None, 2, 3),
}


@pytest.mark.parametrize("primitive", PRIMITIVES.values(), ids=PRIMITIVES)
def test_primitive_agrees(primitive: Primitive) -> None:
    assert_parity(chain((2, 6, 9, 9), primitive))


@pytest.mark.parametrize("size", [32, 33], ids=["even", "odd"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
def test_padded_convolution_agrees(groups: int, kernel: int, stride: int, size: int) -> None:
    assert_parity(chain((1, 4, size, size), conv(4, 4, kernel, stride, groups)))


@pytest.mark.parametrize("shape", [(1, 4, 8, 13), (2, 4, 13, 8)], ids=["wide", "tall, batch 2"])
@pytest.mark.parametrize(
    "primitive",
    [conv(4, 4, 5, 2, 4), MaxPool(3, 2, 1), AvgPool(2, 2), AvgPool(3, 3)],
    ids=["conv", "max pool", "avg pool 2", "avg pool 3"],
)
def test_window_on_an_image_that_is_not_square_agrees(
    primitive: Primitive, shape: tuple[int, ...]
) -> None:
    assert_parity(chain(shape, primitive))


@pytest.mark.parametrize("size", [8, 9, 10, 11])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(2, 2), (3, 3), (3, 2), (2, 3), (1, 2), (4, 4)], ids=str
)
def test_average_pool_rounds_up_and_averages_what_it_sees(
    kernel: int, stride: int, size: int
) -> None:
    assert_parity(chain((2, 3, size, size), AvgPool(kernel, stride)))


@pytest.mark.parametrize("size", [8, 9, 10])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (5, 3, 2)])
def test_padding_never_wins_a_max_pool_of_negative_numbers(
    kernel: int, stride: int, padding: int, size: int
) -> None:
    # A convolution by -1 of something positive: every number is below zero.
    below_zero = Conv(-np.ones((3, 3, 1, 1), np.float32), np.full(3, -0.1, np.float32))
    assert_parity(chain((1, 3, size, size), Relu(), below_zero, MaxPool(kernel, stride, padding)))


@pytest.mark.parametrize("before", [Relu(), Relu6(), HardSigmoid(), HardSwish()], ids=repr)
def test_max_pool_after_an_activation_agrees(before: Primitive) -> None:
    assert_parity(chain((1, 3, 8, 8), before, MaxPool(3, 2, 1), MaxPool(3, 2, 1)))


@pytest.mark.parametrize("gate_first", [False, True])
def test_gate_is_broadcast_over_the_image(gate_first: bool) -> None:
    builder = GraphBuilder((2, 4, 5, 6))
    gate = builder.add(HardSigmoid(), builder.add(GlobalAvgPool(), "input"))
    builder.add(Mul(), *((gate, "input") if gate_first else ("input", gate)))
    assert_parity(builder.build())


def test_tensor_added_to_itself_agrees() -> None:
    builder = GraphBuilder((2, 4, 5, 6))
    builder.add(Relu(), builder.add(Add(), "input", "input"))
    assert_parity(builder.build())


@pytest.mark.parametrize("activation", [Relu(), Relu6(), HardSwish()], ids=repr)
def test_activation_whose_input_is_read_again_agrees(activation: Primitive) -> None:
    builder = GraphBuilder((1, 4, 6, 6))
    x = builder.add(conv(4, 4, 3), "input")
    builder.add(Add(), builder.add(activation, x), x)
    assert_parity(builder.build())


@pytest.mark.parametrize(
    "tail",
    [(Flatten(),), (Flatten(), linear(60, 7)), (Flatten(), Relu(), linear(60, 7))],
    ids=["alone", "before linear", "before relu and linear"],
)
def test_flattening_an_image_keeps_the_order_of_channels(tail: tuple[Primitive, ...]) -> None:
    assert_parity(chain((2, 3, 4, 5), *tail))


OPS = [
    OpSpec("conv", 33, 3, 16, kernel_size=3, stride=2, activation="h_swish"),
    OpSpec("conv", 9, 16, 16, kernel_size=3, activation="relu", shortcut="identity"),
    OpSpec("conv", 1, 24, 32, activation="h_swish", norm=False),
    OpSpec("mbconv", 17, 16, 16, 16, kernel_size=3, activation="relu", shortcut="identity"),
    OpSpec("mbconv", 33, 16, 24, 64, kernel_size=5, stride=2, activation="relu6"),
    OpSpec("mbconv", 16, 16, 24, 64, kernel_size=7, stride=2, activation="h_swish", se_channels=16),
    OpSpec(
        "mbconv",
        9,
        24,
        24,
        72,
        kernel_size=7,
        activation="h_swish",
        se_channels=24,
        shortcut="identity",
    ),
    OpSpec("bottleneck", 9, 32, 32, 8, 3, activation="relu", shortcut="identity"),
    OpSpec("bottleneck", 9, 32, 64, 16, 3, stride=2, activation="relu", shortcut="project"),
    OpSpec("bottleneck", 8, 32, 64, 16, 3, stride=2, activation="relu", shortcut="project"),
    OpSpec("bottleneck", 8, 32, 64, 16, 3, activation="relu", shortcut="project"),
    OpSpec("bottleneck", 8, 32, 64, 16, 3, activation="relu"),
    OpSpec("max_pool", 16, 8, 8, kernel_size=3, stride=2),
    OpSpec("max_pool", 17, 8, 8, kernel_size=3, stride=2),
    OpSpec("global_pool", 7, 64, 64),
    OpSpec("linear", 1, 64, 10),
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("op", OPS, ids=str)
def test_operator_agrees(op: OpSpec, batch: int) -> None:
    assert_parity(op_graph(op, batch=batch))


@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("which", ["smallest", "random"])
def test_network_of_every_space_agrees(name: str, which: str) -> None:
    space = get_space(name)
    resolution = space.resolutions[0]
    spec = (
        space.smallest(resolution)
        if which == "smallest"
        else space.sample(rng=np.random.default_rng(7), resolution=resolution)
    )
    # Random weights amplify rounding through tens of layers, in torch as well.
    assert_parity(network_graph(space.ops(spec)), tolerance=1e-3)
