"""Eight bits and half precision: what runtimes compute is what float does, within known bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_hw.errors import ExportError
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
from ofa_hw.graph.ir import Array
from ofa_hw.lowering.calibrate import calibrated, observed_ranges, random_images
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.parity import relative_error
from ofa_hw.lowering.quantise import Levels, QuantisedGraph, quantise_weights
from ofa_hw.lowering.sessions import OnnxSession, Session, TfliteSession
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.lowering.torch import to_torch
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space, space_names

RNG = np.random.default_rng(0)
SHAPE = (1, 6, 9, 9)


def conv(out: int, kernel: int, stride: int = 1, groups: int = 1, *, bias: bool = True) -> Conv:
    weight = RNG.standard_normal((out, 6 // groups, kernel, kernel), np.float32)
    offset = RNG.standard_normal(out, np.float32) if bias else None
    return Conv(weight, offset, stride, kernel // 2, groups)


def chain(*primitives: Primitive) -> Graph:
    builder = GraphBuilder(SHAPE)
    x = builder.input
    for primitive in primitives:
        x = builder.add(primitive, x)
    return builder.build()


def combined(combine: Primitive, *, gate: bool = False) -> Graph:
    builder = GraphBuilder(SHAPE)
    other = builder.add(HardSwish(), "input")
    builder.add(combine, "input", builder.add(GlobalAvgPool(), other) if gate else other)
    return builder.build()


def features(*primitives: Primitive) -> Graph:
    weight = RNG.standard_normal((10, 6 * 9 * 9), np.float32)
    return chain(Flatten(), Linear(weight, RNG.standard_normal(10, np.float32)), *primitives)


def number(value: float) -> Array:
    return np.array(value, np.float32)


GRAPHS = {
    "convolution": chain(conv(8, 3)),
    "convolution without bias": chain(conv(8, 3, bias=False)),
    "strided convolution": chain(conv(8, 5, 2)),
    "1x1 convolution": chain(conv(8, 1)),
    "depthwise convolution": chain(conv(6, 7, groups=6)),
    "depthwise convolution with multiplier": chain(conv(12, 3, 2, groups=6)),
    "grouped convolution": chain(conv(8, 3, groups=2)),
    "convolution and relu": chain(conv(8, 3), Relu()),
    "convolution and relu6": chain(conv(8, 3), Relu6()),
    "convolution and hard sigmoid": chain(conv(8, 3), HardSigmoid()),
    "convolution and hard swish": chain(conv(8, 3), HardSwish()),
    "hard swish": chain(HardSwish()),
    "hard sigmoid": chain(HardSigmoid()),
    "relu": chain(Relu()),
    "relu6": chain(Relu6()),
    "relu after a pool": chain(MaxPool(2, 1), Relu()),
    "linear": features(),
    "linear and hard swish": features(HardSwish()),
    "flatten": chain(Flatten()),
    "global average pool": chain(GlobalAvgPool()),
    "global average pool and linear": chain(
        GlobalAvgPool(), Flatten(), Linear(RNG.standard_normal((10, 6), np.float32))
    ),
    "average pool": chain(AvgPool(3, 3)),
    "average pool cut off": chain(AvgPool(2, 2)),
    "max pool": chain(MaxPool(3, 2)),
    "padded max pool": chain(MaxPool(3, 2, 1)),
    "addition": combined(Add()),
    "product": combined(Mul()),
    "gate": combined(Mul(), gate=True),
    "shift": chain(Relu(), Shift(number(0.7))),
    "scale": chain(Relu(), Scale(number(-1.3))),
}
SE = {"activation": "h_swish", "se_channels": 8}
BLOCKS = {
    "mbconv": OpSpec("mbconv", 9, 8, 8, 24, 5, activation="relu6", shortcut="identity"),
    "mbconv with squeeze-excite": OpSpec("mbconv", 9, 8, 8, 24, 3, shortcut="identity", **SE),
    "mbconv without expansion": OpSpec("mbconv", 9, 8, 12, 8, 3, 2, **SE),
    "bottleneck": OpSpec("bottleneck", 9, 8, 8, 4, 3, activation="relu", shortcut="identity"),
    "bottleneck that projects": OpSpec("bottleneck", 9, 8, 16, 4, 3, 2, "relu", shortcut="project"),
    "stem": OpSpec("conv", 9, 3, 8, kernel_size=3, stride=2, activation="h_swish"),
    "residual convolution": OpSpec("conv", 9, 8, 8, kernel_size=3, shortcut="identity"),
    "max pool": OpSpec("max_pool", 9, 8, 8, kernel_size=3, stride=2),
    "global pool": OpSpec("global_pool", 9, 8, 8),
    "classifier": OpSpec("linear", 1, 8, 10),
}
ALL = {**GRAPHS, **{f"block: {name}": op_graph(op) for name, op in BLOCKS.items()}}


def noise(graph: Graph, seed: int = 0) -> Array:
    return random_images(graph, rng=np.random.default_rng(seed))


def sessions(network: QuantisedGraph) -> list[Session]:
    tflite = to_tflite(network)
    return [
        OnnxSession(to_onnx(network)),
        TfliteSession(tflite),
        TfliteSession(tflite, xnnpack=False),
    ]


def error_bound(network: QuantisedGraph, largest: dict[str, float]) -> float:
    """Most that the output can be off by, given the largest magnitude of each tensor.

    Every level is off by half its step, every product by what its factors are off by; a kernel may
    round once more. Values that saturate lie nearer to the truth than they were.
    """
    errors = {network.entry: network.levels[network.entry].scale}
    for node in network.graph.nodes:
        if node.output not in network.levels or node.output == network.entry:
            continue
        known = [errors[name] for name in node.inputs]
        sizes = [largest[name] + errors[name] for name in node.inputs]
        step = network.levels[node.output].scale
        match node.op:
            case Conv() | Linear():
                q = network.weights(node)
                flat = np.abs(node.op.weight.reshape(len(q.scales), -1))
                off = flat.sum(1) * known[0] + sizes[0] * flat.shape[1] * q.scales / 2
                error = float((off + q.bias_scales).max())
            case Add():
                error = sum(known)
            case Mul():
                error = known[0] * sizes[1] + known[1] * sizes[0]
            case Scale(factor=factor):
                error = known[0] * float(np.abs(factor))
            case AvgPool(kernel_size=k):
                error = known[0] + k**2 * step  # what was cut off is scaled up after rounding
            case _:
                error = known[0]
        errors[node.output] = error + step
    return errors[network.graph.output]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ALL)
def test_eight_bits_are_off_by_no_more_than_the_levels_allow(name: str, seed: int) -> None:
    graph = ALL[name]
    images = noise(graph, seed) * 2
    network = calibrated(graph, images)
    ranges = dict(observed_ranges(graph, images))
    largest = {n: max(abs(levels.low), abs(levels.high)) for n, levels in network.levels.items()}
    largest |= {n: max(map(abs, ranges[n])) for n in largest.keys() & ranges.keys()}
    bound = error_bound(network, largest) * 1.01 + 1e-6
    whole = OnnxSession(to_onnx(graph))
    for session in sessions(network):
        for x in np.split(images, len(images)):
            assert np.abs(session.run(x) - whole.run(x)).max() <= bound, session.runtime


@pytest.mark.parametrize("name", ALL)
def test_both_runtimes_compute_the_same_integers(name: str) -> None:
    # ONNX Runtime averages what a window sees; TFLite averages zeros, too, and scales that up.
    steps = 4 if name in ("average pool cut off", "block: bottleneck that projects") else 1
    network = calibrated(ALL[name], noise(ALL[name]))
    onnx, tflite, _ = sessions(network)
    step = network.levels[network.graph.output].scale
    for x in np.split(noise(ALL[name], 1), 4):
        assert np.abs(onnx.run(x) - tflite.run(x)).max() <= (steps + 0.01) * step


@pytest.mark.parametrize("name", ALL)
def test_torch_computes_the_same_levels(name: str) -> None:
    steps = 4 if name == "block: bottleneck that projects" else 1  # each may be rounded otherwise
    network = calibrated(ALL[name], noise(ALL[name]))
    module, onnx = to_torch(network), OnnxSession(to_onnx(network))
    step = network.levels[network.graph.output].scale
    for x in np.split(noise(ALL[name], 1), 4):
        off = np.abs(module(torch.from_numpy(x)).detach().numpy() - onnx.run(x)).max()
        assert off <= (steps + 0.01) * step


@pytest.mark.parametrize("name", ALL)
def test_xnnpack_takes_everything(name: str) -> None:
    session = TfliteSession(to_tflite(calibrated(ALL[name], noise(ALL[name]))))
    assert (session.partitions, session.undelegated) == (1, ())


@pytest.mark.parametrize(
    ("before", "left"), [([], ("PADV2",)), ([Relu()], ())], ids=["signed", "never negative"]
)
def test_a_pool_is_padded_below_zero_only_where_something_is_negative(
    before: list[Primitive], left: tuple[str, ...]
) -> None:
    graph = chain(MaxPool(2, 1), *before, MaxPool(3, 2, 1))  # of 8 x 8, which SAME pads otherwise
    network = calibrated(graph, noise(graph))
    onnx, tflite, plain = sessions(network)
    assert isinstance(tflite, TfliteSession)
    assert tflite.undelegated == left
    x = noise(graph)[:1] - 3
    np.testing.assert_array_equal(tflite.run(x), onnx.run(x))
    np.testing.assert_array_equal(plain.run(x), onnx.run(x))


@pytest.mark.parametrize("name", ALL)
def test_half_precision_is_off_by_its_rounding(name: str) -> None:
    graph = ALL[name]
    onnx = OnnxSession(to_onnx(graph, dtype="fp16"))
    tflite = TfliteSession(to_tflite(graph, dtype="fp16"))
    expected = OnnxSession(to_onnx(graph)).run(x := noise(graph)[:1])
    for session in (onnx, tflite):
        assert session.inputs[0].dtype == np.float32
        assert relative_error(session.run(x), expected) < 4e-3
    with torch.inference_mode():
        scores = to_torch(graph, dtype="fp16")(torch.from_numpy(x)).numpy()
    assert scores.dtype == np.float32
    assert relative_error(scores, expected) < 4e-3


@pytest.mark.parametrize("name", space_names())
def test_a_network_is_one_xnnpack_partition_in_eight_bits_too(name: str) -> None:
    space = get_space(name)
    graph = network_graph(space.ops(space.smallest(space.resolutions[0])))
    network = calibrated(graph, noise(graph))
    tflite, onnx = TfliteSession(to_tflite(network)), OnnxSession(to_onnx(network))
    assert (tflite.partitions, tflite.undelegated) == (1, ())
    x = noise(graph, 1)[:1]
    assert relative_error(tflite.run(x), onnx.run(x)) < 0.02
    assert relative_error(tflite.run(x), OnnxSession(to_onnx(graph)).run(x)) < 0.4


def test_half_precision_takes_half_the_bytes() -> None:
    graph = op_graph(OpSpec("conv", 4, 64, 256, kernel_size=3))
    for write in (to_onnx, to_tflite):
        assert len(write(graph, dtype="fp16")) < 0.51 * len(write(graph))
        assert len(write(calibrated(graph, noise(graph)))) < 0.27 * len(write(graph))


def test_weights_beyond_half_precision_saturate() -> None:
    graph = chain(Conv(np.full((1, 6, 1, 1), 1e6, np.float32)))
    for session in (
        OnnxSession(to_onnx(graph, dtype="fp16")),
        TfliteSession(to_tflite(graph, dtype="fp16")),
    ):
        assert session.run(np.full(SHAPE, 1e-6, np.float32)).max() == pytest.approx(
            6 * 65504e-6, rel=0.01
        )
    half = to_torch(graph, dtype="fp16")
    assert half(torch.full(SHAPE, 1e-6)).max().item() == pytest.approx(6 * 65504e-6, rel=0.1)


def test_a_part_of_a_network_is_written_in_bytes_at_its_inner_ends() -> None:
    op = OpSpec("mbconv", 8, 16, 16, 48, 3, activation="h_swish", shortcut="identity")
    graph = op_graph(op)
    form = Form.of_part(graph)
    network = calibrated(graph, noise(graph))
    tflite = TfliteSession(to_tflite(network, form=form))
    onnx = OnnxSession(to_onnx(network, form=form))
    assert [tflite.inputs[0].dtype, onnx.inputs[0].dtype] == [np.int8, np.uint8]
    for session in (tflite, onnx):
        session.invoke()
        assert session.outputs()[0].dtype.itemsize == 1
    half = OnnxSession(to_onnx(graph, dtype="fp16", form=form))
    half.invoke()
    assert half.inputs[0].dtype == half.outputs()[0].dtype == np.float16


def test_images_and_scores_of_a_part_are_floats() -> None:
    space = get_space("tiny")
    ops = space.ops(space.smallest())
    ends = [Form.of_part(op_graph(op)) for op in ops]
    assert [form.float_input for form in ends] == [True] + [False] * (len(ops) - 1)
    assert [form.float_output for form in ends] == [False] * (len(ops) - 1) + [True]
    whole = Form.of_part(network_graph(ops))
    assert (whole.float_input, whole.float_output) == (True, True)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.lists(st.floats(0, 1), min_size=1))
def test_levels_hold_zero_and_every_number_between(a: float, b: float, where: list[float]) -> None:
    low, high = sorted((a, b))
    levels = Levels.covering(low, high)
    assert levels.real(levels.quantised(np.zeros(1)))[0] == 0
    low, high = min(low, 0), max(high, 0)
    values = np.array([low + (high - low) * w for w in where])
    off = np.abs(levels.real(levels.quantised(values)) - values)
    assert off.max() <= levels.scale * 1.001


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-12, 1e3), st.floats(-1e4, 1e4), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_weights_of_any_size_have_biases_that_fit(
    size: float, bias: float, source: float, target: float
) -> None:
    weight = RNG.standard_normal((3, 4, 1, 1), np.float32) * np.float32(size)
    levels = Levels.covering(-source, source), Levels.covering(-target, target)
    found = quantise_weights(Conv(weight, np.full(3, bias, np.float32)), *levels)
    real = found.weight * found.scales[:, None, None, None]
    assert np.abs(real - weight).max() <= found.scales.max() * 0.501
    assert found.bias * found.bias_scales == pytest.approx(
        bias, rel=1e-6, abs=float(found.bias_scales.max())
    )


def test_a_channel_that_is_always_zero_is_written() -> None:
    weight = RNG.standard_normal((8, 6, 3, 3), np.float32)
    weight[2] = 0
    weight[3] = 1e-30
    graph = chain(Conv(weight, np.full(8, 3, np.float32), 1, 1))
    network = calibrated(graph, noise(graph))
    expected = OnnxSession(to_onnx(graph)).run(x := noise(graph)[:1])
    for session in sessions(network):
        assert relative_error(session.run(x), expected) < 0.02


def faded(*, size: float, bias: float, clip: Primitive) -> Graph:
    """A residual branch that is next to nothing, or always below or beyond its clip."""
    builder = GraphBuilder(SHAPE)
    weight = RNG.standard_normal((6, 6, 3, 3), np.float32) * np.float32(size)
    y = builder.add(Conv(weight, np.full(6, bias, np.float32), 1, 1), "input")
    y = builder.add(Conv(np.ones((6, 1, 3, 3), np.float32), None, 1, 1, 6), builder.add(clip, y))
    gate = builder.add(HardSigmoid(), builder.add(GlobalAvgPool(), y))
    builder.add(Add(), builder.add(Mul(), y, gate), "input")
    return builder.build()


@pytest.mark.parametrize("bias", [-1e3, 0.0, 1e3])
@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0])
@pytest.mark.parametrize("clip", [Relu(), Relu6(), HardSwish()], ids=repr)
def test_a_branch_that_fades_or_saturates_is_no_obstacle(
    size: float, bias: float, clip: Primitive
) -> None:
    graph = faded(size=size, bias=bias, clip=clip)
    network = calibrated(graph, noise(graph))
    onnx, tflite, _ = sessions(network)
    assert isinstance(tflite, TfliteSession)
    assert (tflite.partitions, tflite.undelegated) == (1, ())
    expected = OnnxSession(to_onnx(graph)).run(x := noise(graph)[:1])
    for session in (onnx, tflite):
        assert relative_error(session.run(x), expected) < 0.05


def test_one_calibration_serves_every_format_and_batch() -> None:
    graph = op_graph(BLOCKS["mbconv with squeeze-excite"])
    network = calibrated(graph, noise(graph))
    four = network.with_batch(4)
    x = noise(graph, 2)
    expected = np.concatenate(
        [TfliteSession(to_tflite(network)).run(part) for part in np.split(x, 4)]
    )
    np.testing.assert_array_equal(TfliteSession(to_tflite(four)).run(x), expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((0, *SHAPE[1:]), np.float32), "at least one"),
        (np.zeros((2, 3, 9, 9), np.float32), r"\(2, 3, 9, 9\)"),
        (np.full(SHAPE, np.nan, np.float32), "not finite"),
    ],
    ids=["none", "channels", "not a number"],
)
def test_images_that_say_nothing_are_refused(images: Array, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        calibrated(chain(HardSwish()), images)
