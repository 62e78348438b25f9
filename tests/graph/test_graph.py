"""Shapes, costs and refusals of a graph written by hand."""

import numpy as np
import pytest

from ofa_hw.errors import ExportError
from ofa_hw.graph import (
    Add,
    AvgPool,
    Conv,
    Flatten,
    GlobalAvgPool,
    GraphBuilder,
    HardSigmoid,
    Linear,
    MaxPool,
    Mul,
    Primitive,
    Relu,
    Scale,
    Shift,
)

CONV = Conv(np.zeros((8, 4, 3, 3), np.float32), np.zeros(8, np.float32), 2, 1)


@pytest.mark.parametrize(
    ("primitive", "shape"),
    [
        (CONV, (2, 8, 5, 3)),
        (MaxPool(3, 2, 1), (2, 4, 5, 3)),
        (MaxPool(2, 2), (2, 4, 4, 3)),
        (AvgPool(2, 2), (2, 4, 5, 3)),
        (AvgPool(1, 3), (2, 4, 3, 2)),
        (GlobalAvgPool(), (2, 4, 1, 1)),
        (Flatten(), (2, 4 * 9 * 6)),
        (Relu(), (2, 4, 9, 6)),
    ],
    ids=repr,
)
def test_output_shape(primitive: Primitive, shape: tuple[int, ...]) -> None:
    builder = GraphBuilder((2, 4, 9, 6))
    builder.add(primitive, "input")
    assert builder.build().output_shape == shape


def test_peak_is_the_most_that_is_alive_at_once() -> None:
    builder = GraphBuilder((1, 4, 8, 8))  # 1024 bytes
    wide = builder.add(Conv(np.zeros((16, 4, 1, 1), np.float32)), "input")  # 4096, input kept
    wide = builder.add(Relu(), wide)  # in place
    narrow = builder.add(Conv(np.zeros((4, 16, 1, 1), np.float32)), wide)  # 1024
    builder.add(Add(), narrow, "input")
    # input, wide and narrow, while the second convolution runs.
    assert builder.build().peak_bytes == 1024 + 4096 + 1024


def test_peak_without_a_shortcut_lets_the_input_go() -> None:
    builder = GraphBuilder((1, 4, 8, 8))
    wide = builder.add(Conv(np.zeros((16, 4, 1, 1), np.float32)), "input")
    builder.add(Conv(np.zeros((4, 16, 1, 1), np.float32)), wide)
    assert builder.build().peak_bytes == 4096 + 1024


def test_peak_counts_a_gate_beside_what_it_multiplies() -> None:
    builder = GraphBuilder((1, 4, 8, 8))
    gate = builder.add(HardSigmoid(), builder.add(GlobalAvgPool(), "input"))
    builder.add(Mul(), "input", gate)
    assert builder.build().peak_bytes == 1024 + 16


def test_costs_count_the_whole_batch_and_weights_once() -> None:
    builder = GraphBuilder((2, 4, 8, 8))
    builder.add(CONV, "input")
    graph = builder.build()
    assert graph.macs == 2 * 8 * 4 * 4 * 4 * 9
    assert graph.weight_bytes == 4 * (8 * 4 * 9 + 8)


@pytest.mark.parametrize(
    ("primitive", "message"),
    [
        (Conv(np.zeros((8, 5, 1, 1), np.float32)), "takes 5 channels and is given 4"),
        (Conv(np.zeros((8, 4, 7, 7), np.float32)), "larger than its input"),
        (MaxPool(6, 1), "larger than its input"),
        (AvgPool(9, 1), "larger than its input"),
        (Linear(np.zeros((8, 4), np.float32)), "takes 4 features"),
        (Scale(np.zeros(3, np.float32)), "one number or 4"),
        (Shift(np.zeros((4, 1), np.float32)), "one number or 4"),
    ],
    ids=[
        *("channels", "kernel", "max pool", "average pool", "image into linear"),
        *("scale of other channels", "shift by a matrix"),
    ],
)
def test_what_does_not_fit_is_refused(primitive: Primitive, message: str) -> None:
    builder = GraphBuilder((1, 4, 5, 5))
    name = builder.add(primitive, "input")
    with pytest.raises(ExportError, match=f"{name}.*{message}|{message}.*{name}"):
        builder.build()


@pytest.mark.parametrize("primitive", [CONV, MaxPool(2, 2), AvgPool(2, 2), GlobalAvgPool()])
def test_flat_tensor_into_an_image_operation_is_refused(primitive: Primitive) -> None:
    builder = GraphBuilder((1, 4, 5, 5))
    builder.add(primitive, builder.add(Flatten(), "input"))
    with pytest.raises(ExportError, match=r"takes \(N, C, H, W\), got \(1, 100\)"):
        builder.build()


@pytest.mark.parametrize("combine", [Add(), Mul()], ids=repr)
def test_tensors_of_other_shapes_do_not_combine(combine: Primitive) -> None:
    builder = GraphBuilder((1, 4, 8, 8))
    builder.add(combine, "input", builder.add(MaxPool(2, 2), "input"))
    with pytest.raises(ExportError, match=r"\(1, 4, 8, 8\) and \(1, 4, 4, 4\)"):
        builder.build()


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ExportError, match="'gelu'"):
        GraphBuilder((1, 1, 1, 1)).activation("gelu", "input")
