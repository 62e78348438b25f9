"""Files of every data type and form: what they take and give, and what the check lets through."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ofa_hw.errors import ExportError, ParityError, ProfilerError
from ofa_hw.export import ExportOptions, Normalisation, export_graph
from ofa_hw.graph import Conv, Graph, GraphBuilder, HardSwish, MaxPool, network_graph, op_graph
from ofa_hw.graph.ir import Array
from ofa_hw.lowering.files import FORMATS, open_file
from ofa_hw.lowering.form import DTYPES
from ofa_hw.lowering.metadata import read_metadata
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.sessions import OnnxSession
from ofa_hw.ops import OpSpec
from ofa_hw.spaces import get_space

SPACE = get_space("tiny")
GRAPH = network_graph(SPACE.ops(SPACE.smallest()))
IMAGES = np.random.default_rng(0).standard_normal((24, 1, 24, 24), np.float32)
GREY = Normalisation((0.4,), (0.2,))
COLOUR = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Reference:
    """What the network computes, one image at a time."""

    def __init__(self, graph: Graph) -> None:
        self._session = OnnxSession(to_onnx(graph.with_batch(1)))

    def __call__(self, x: Array) -> Array:
        return np.concatenate([self._session.run(x[i : i + 1]) for i in range(len(x))])


REFERENCE = Reference(GRAPH)


def options(dtype: str = "fp32", **others: object) -> ExportOptions:
    """Classes that an untrained network tells noise apart by do not count."""
    return ExportOptions(dtype=dtype, min_agreement=0, **others)


# Programs take seconds to write, and their batches and bytes are no matter of the data type.
FORMS = [
    *itertools.product([".onnx", ".tflite"], [1, 3, None], [None, GREY]),
    (".pt2", 3, None),
    (".pt2", None, GREY),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("suffix", "batch", "normalisation"),
    FORMS,
    ids=[f"{suffix} {batch or 'any'} {'bytes' if grey else ''}" for suffix, batch, grey in FORMS],
)
def test_a_file_of_every_form_is_written_and_right(
    tmp_path: Path, suffix: str, dtype: str, batch: int | None, normalisation: Normalisation | None
) -> None:
    how = options(dtype, dynamic_batch=batch is None, normalisation=normalisation)
    file = export_graph(
        GRAPH.with_batch(batch or 1),
        tmp_path / f"net{suffix}",
        reference=REFERENCE,
        options=how,
        images=IMAGES,
    )
    limit = {"fp32": 1e-5, "fp16": 3e-3, "int8": 0.4}[dtype]
    assert file.max_relative_error < limit
    assert file.check.partitions in (None, 1)
    (taken,) = open_file(file.path).inputs
    assert taken.dtype == (np.uint8 if normalisation else np.float32)
    assert taken.shape[0] == batch
    assert taken.name == "input"
    assert file.dtype == read_metadata(file.path)["ofa_hw.dtype"] == dtype


@pytest.mark.parametrize("suffix", FORMATS)
def test_borders_are_padded_with_what_zero_was_before_normalising(
    tmp_path: Path, suffix: str
) -> None:
    """A mean folded into the convolution's bias would count for the border, too."""
    builder = GraphBuilder((1, 3, 5, 5))
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3), np.float32)
    builder.add(Conv(weight, np.ones(4, np.float32), 2, 1), "input")
    graph = builder.build()
    pixels = np.full((1, 3, 5, 5), 255, np.uint8)
    path = tmp_path / f"net{suffix}"
    how = options(normalisation=COLOUR)
    export_graph(
        graph, path, reference=Reference(graph), options=how, images=COLOUR.applied(pixels)
    )
    expected = Reference(graph)(COLOUR.applied(pixels))
    assert np.abs(expected - expected[..., 1:2, 1:2]).max() > 1  # the border differs
    np.testing.assert_allclose(open_file(path).run(pixels), expected, rtol=1e-4, atol=1e-4)


def test_ends_have_the_names_asked_for(tmp_path: Path) -> None:
    how = options(input_name="pixels", output_name="logits")
    for suffix in FORMATS:
        path = tmp_path / f"net{suffix}"
        export_graph(GRAPH, path, reference=REFERENCE, options=how)
        assert open_file(path).inputs[0].name == "pixels"
    model = onnx.load(tmp_path / "net.onnx").graph
    assert [model.input[0].name, model.output[0].name] == ["pixels", "logits"]
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(model_path=str(tmp_path / "net.tflite")).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["pixels"], "outputs": ["logits"]}}
    program = torch.export.load(tmp_path / "net.pt2").module()
    (name,) = program(torch.from_numpy(IMAGES[:1]))
    assert name == "logits"


def test_a_program_gives_a_tensor_where_nobody_names_its_output(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    export_graph(GRAPH, path, reference=REFERENCE, images=IMAGES)
    scores = torch.export.load(path).module()(torch.from_numpy(IMAGES[:1]))
    np.testing.assert_allclose(scores.detach().numpy(), REFERENCE(IMAGES[:1]), rtol=1e-3, atol=1e-4)


def test_programs_of_fewer_bits_are_smaller_and_take_and_give_floats(tmp_path: Path) -> None:
    graph = op_graph(OpSpec("conv", 4, 64, 256, kernel_size=3))
    images = np.random.default_rng(0).standard_normal((40, *graph.input_shape[1:]), np.float32)
    sizes = {}
    for dtype in DTYPES:
        path = tmp_path / f"{dtype}.pt2"
        file = export_graph(
            graph, path, reference=Reference(graph), options=options(dtype), images=images
        )
        assert file.check.images == 20 if dtype == "int8" else 40
        sizes[dtype] = sum(t.nbytes for t in torch.export.load(path).state_dict.values())
        assert open_file(path).run(images[:1]).dtype == np.float32
    assert sizes["fp16"] == sizes["fp32"] / 2
    assert sizes["int8"] < 0.27 * sizes["fp32"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"dtype": "bf16"}, "'bf16'; choose from fp32, fp16, int8"),
        ({"input_name": "x", "output_name": "x"}, "two different ones"),
        ({"min_agreement": 1.5}, "between 0 and 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_impossible_options_are_refused(how: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        ExportOptions(**how)


@pytest.mark.parametrize("name", ["serving:input", "class", "self", "0"])
def test_a_program_of_torch_has_no_input_that_is_no_parameter(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pt2"
    with pytest.raises(ExportError, match=f"cannot be called {name!r}"):
        export_graph(GRAPH, path, reference=REFERENCE, options=options(input_name=name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [None, IMAGES[:1]], ids=["none", "one"])
def test_eight_bits_ask_for_images(tmp_path: Path, images: Array | None) -> None:
    path = tmp_path / "net.tflite"
    with pytest.raises(ExportError, match=r"net\.tflite in int8 needs images"):
        export_graph(GRAPH, path, reference=REFERENCE, options=options("int8"), images=images)
    assert not list(tmp_path.iterdir())


def test_a_normalisation_of_other_channels_is_refused(tmp_path: Path) -> None:
    how = options(normalisation=COLOUR)
    with pytest.raises(ExportError, match="takes 1 channels, and the normalisation has 3"):
        export_graph(GRAPH, tmp_path / "a.onnx", reference=REFERENCE, options=how)


@pytest.mark.parametrize("suffix", FORMATS)
def test_eight_bits_that_tell_other_classes_leave_no_file(tmp_path: Path, suffix: str) -> None:
    def other_classes(x: Array) -> Array:
        """The two best classes of every other image change places."""
        y = REFERENCE(x)
        best = np.argsort(y, axis=1)[::2, -2:]
        y[::2][np.arange(len(best))[:, None], best] = np.take_along_axis(
            y[::2], best[:, ::-1], axis=1
        )
        return y

    path = tmp_path / f"net{suffix}"
    message = r"class that torch does on \d+\.\d% of 12 images, less than 90.0%.*--min-agreement"
    with pytest.raises(ParityError, match=message):
        export_graph(
            GRAPH,
            path,
            reference=other_classes,
            options=ExportOptions(dtype="int8"),
            images=IMAGES,
        )
    assert not list(tmp_path.iterdir())


def test_calibration_images_and_those_of_the_check_are_kept_apart(tmp_path: Path) -> None:
    seen: list[Array] = []

    def reference(x: Array) -> Array:
        seen.append(x)
        return REFERENCE(x)

    path = tmp_path / "net.onnx"
    how = options("int8")
    file = export_graph(GRAPH, path, reference=reference, options=how, images=IMAGES)
    np.testing.assert_array_equal(np.concatenate(seen), IMAGES[1::2])
    assert file.check.images == 12
    seen.clear()
    file = export_graph(
        GRAPH,
        path,
        reference=reference,
        options=how,
        images=IMAGES,
        calibration=IMAGES,
        force=True,
    )
    assert file.check.images == 24


def test_calibration_images_alone_are_compared_on_too(tmp_path: Path) -> None:
    def of_others(x: Array) -> Array:
        return REFERENCE(x)[:, ::-1].copy()

    path = tmp_path / "net.tflite"
    file = export_graph(
        GRAPH, path, reference=REFERENCE, options=options("int8"), calibration=IMAGES
    )
    assert (file.check.images, file.notes) == (12, ())
    file = export_graph(GRAPH, path, reference=REFERENCE, calibration=IMAGES, force=True)
    assert (file.check.images, file.notes) == (24, ())
    path.unlink()
    with pytest.raises(ParityError):
        export_graph(
            GRAPH,
            path,
            reference=of_others,
            options=ExportOptions(dtype="int8"),
            calibration=IMAGES,
        )
    assert not list(tmp_path.iterdir())


def test_what_xnnpack_leaves_out_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    builder = GraphBuilder((1, 4, 8, 8))
    builder.add(MaxPool(3, 2, 1), builder.add(HardSwish(), "input"))
    graph = builder.build()
    path = tmp_path / "net.tflite"
    with pytest.raises(
        ParityError, match=r"leaves PADV2 of .*net\.tflite.*2 parts.*--allow-fallback"
    ):
        export_graph(graph, path, reference=Reference(graph))
    assert not list(tmp_path.iterdir())
    file = export_graph(
        graph, path, reference=Reference(graph), options=ExportOptions(allow_fallback=True)
    )
    assert file.check.undelegated == ("PADV2",)


def test_noise_in_place_of_images_is_noted(tmp_path: Path) -> None:
    assert export_graph(GRAPH, tmp_path / "a.onnx", reference=REFERENCE).notes
    file = export_graph(GRAPH, tmp_path / "b.onnx", reference=REFERENCE, images=IMAGES)
    assert file.notes == ()
    assert file.check.images == 24


def test_the_runtime_verifies_a_tflite_file_against_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    export_graph(GRAPH, path, reference=REFERENCE)
    content = bytearray(path.read_bytes())
    root = int.from_bytes(content[:4], "little")
    content[root : root + 4] = (2**31 - 1).to_bytes(4, "little")  # where its table of fields lies
    path.write_bytes(content)
    with pytest.raises(ProfilerError, match="not a valid Flatbuffer"):
        open_file(path)


def test_a_file_that_onnx_refuses_is_no_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofa_hw.lowering.onnx.writer import Writer

    end = Writer.end

    def with_an_unknown_node(self: Writer) -> None:
        end(self)
        self.nodes[0].attribute.append(onnx.helper.make_attribute("no_such_attribute", 1))

    monkeypatch.setattr(Writer, "end", with_an_unknown_node)
    with pytest.raises(ParityError, match=r"net\.onnx is no valid ONNX model: .*no_such_attribute"):
        export_graph(GRAPH, tmp_path / "net.onnx", reference=lambda x: x)
    assert not list(tmp_path.iterdir())
