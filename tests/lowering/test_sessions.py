"""Sessions run any file, say what runs it, and name what they cannot do."""

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from ofa_hw.errors import BackendUnavailableError, ProfilerError, TableError
from ofa_hw.graph import GraphBuilder, HardSwish, MaxPool, op_graph
from ofa_hw.latency import fill_table
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.sessions import (
    OPTIMISATIONS,
    OnnxSession,
    Session,
    TensorInfo,
    TfliteSession,
    random_inputs,
)
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import SamplingPlan, open_profiler

GRAPH = op_graph(OpSpec("conv", 8, 3, 4, kernel_size=3, stride=2, activation="h_swish"))
ONNX, TFLITE = to_onnx(GRAPH), to_tflite(GRAPH)
OPENERS: dict[str, tuple[Callable[[bytes | Path], Session], bytes]] = {
    "onnx": (OnnxSession, ONNX),
    "tflite": (TfliteSession, TFLITE),
}
both = pytest.mark.parametrize(("open_session", "content"), OPENERS.values(), ids=OPENERS)


def onnx_of_two_inputs(kind: int, shape: Sequence[int | str | None]) -> bytes:
    ends = {name: helper.make_tensor_value_info(name, kind, shape) for name in "aby"}
    graph = helper.make_graph(
        [helper.make_node("Mul", ["a", "b"], ["y"])], "mul", [ends["a"], ends["b"]], [ends["y"]]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test"
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tflite_of_two_inputs(kind: int, shape: Sequence[int]) -> bytes:
    tensors = [
        schema.TensorT(
            name=name,
            shape=np.maximum(1, shape).astype(np.int32),
            shapeSignature=np.array(shape, np.int32),
            type=kind,
        )
        for name in "aby"
    ]
    add = schema.OperatorT(
        inputs=np.array([0, 1], np.int32),
        outputs=np.array([2], np.int32),
        builtinOptionsType=schema.BuiltinOptions.MulOptions,
        builtinOptions=schema.MulOptionsT(),
    )
    subgraph = schema.SubGraphT(
        tensors=tensors, inputs=add.inputs, outputs=add.outputs, operators=[add]
    )
    code = schema.BuiltinOperator.MUL
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code)],
        subgraphs=[subgraph],
        buffers=[schema.BufferT()],
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@both
def test_a_new_session_can_be_timed_at_once(
    open_session: Callable[[bytes], Session], content: bytes
) -> None:
    session = open_session(content)
    session.invoke()
    (output,) = session.outputs()
    assert output.any()


@both
def test_bytes_and_file_give_the_same(
    open_session: Callable[[bytes | Path], Session], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "net").write_bytes(content)
    x = np.random.default_rng(0).standard_normal(GRAPH.input_shape, np.float32)
    expected = open_session(content).run(x)
    np.testing.assert_array_equal(open_session(tmp_path / "net").run(x), expected)
    assert expected.shape == GRAPH.output_shape


@both
def test_a_run_does_not_depend_on_the_one_before(
    open_session: Callable[[bytes], Session], content: bytes
) -> None:
    session = open_session(content)
    ones = np.ones(GRAPH.input_shape, np.float32)
    first = session.run(ones)
    assert not np.array_equal(session.run(2 * ones), first)
    np.testing.assert_array_equal(session.run(ones), first)


@both
@pytest.mark.parametrize("damage", [0, 10, 200], ids="first {} bytes".format)
def test_a_damaged_file_is_named(
    open_session: Callable[[Path], Session], content: bytes, damage: int, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.model"
    path.write_bytes(content[:damage])
    with pytest.raises(ProfilerError, match=re.escape(str(path))):
        open_session(path)


@pytest.mark.parametrize(
    ("open_session", "content"), [(OnnxSession, TFLITE), (TfliteSession, ONNX)], ids=str
)
def test_a_file_of_the_other_format_is_named(
    open_session: Callable[[Path], Session], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "net.bin").write_bytes(content)
    with pytest.raises(ProfilerError, match=re.escape(str(tmp_path / "net.bin"))):
        open_session(tmp_path / "net.bin")


@both
def test_a_missing_file_is_named(
    open_session: Callable[[Path], Session], content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ProfilerError, match=re.escape(str(tmp_path / "absent"))):
        open_session(tmp_path / "absent")


@both
@pytest.mark.parametrize(
    "x",
    [np.zeros((2, 3, 8, 8), np.float32), np.zeros((1, 3, 8, 8)), np.zeros((3, 8), np.float32)],
    ids=["batch", "dtype", "rank"],
)
def test_an_input_that_does_not_fit_is_refused_with_what_does(
    open_session: Callable[[bytes], Session], content: bytes, x: npt.NDArray[np.float32]
) -> None:
    with pytest.raises(ProfilerError, match=r"takes float32 \(1, .*, got float(32|64) \("):
        open_session(content).run(x)


ONNX_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}


@pytest.mark.parametrize(("dtype", "kind"), ONNX_TYPES.items(), ids=ONNX_TYPES)
def test_onnx_file_of_several_dynamic_inputs_runs(dtype: str, kind: int) -> None:
    session = OnnxSession(onnx_of_two_inputs(kind, ("batch", None, 5)))
    assert session.inputs[1] == TensorInfo("b", (None, None, 5), np.dtype(dtype))
    assert session.input_shape == (1, 1, 5)
    session.invoke()
    assert session.outputs()[0].shape == (1, 1, 5)
    larger = [np.full((2, 3, 5), value, dtype) for value in (3, 4)]
    session.set_inputs(larger)
    session.invoke()
    np.testing.assert_array_equal(session.outputs()[0], np.full((2, 3, 5), 12, dtype))


TFLITE_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize(("dtype", "kind"), TFLITE_TYPES.items(), ids=TFLITE_TYPES)
def test_tflite_file_of_several_dynamic_inputs_runs(dtype: str, kind: int, xnnpack: bool) -> None:
    session = TfliteSession(tflite_of_two_inputs(kind, (-1, 5)), xnnpack=xnnpack)
    assert session.inputs[1] == TensorInfo("b", (None, 5), np.dtype(dtype))
    assert session.input_shape == (1, 5)
    session.invoke()
    session.set_inputs([np.full((3, 5), value, dtype) for value in (3, 4)])
    session.invoke()
    np.testing.assert_array_equal(session.outputs()[0], np.full((3, 5), 12, dtype))


def test_a_wrong_number_of_inputs_is_refused() -> None:
    session = OnnxSession(onnx_of_two_inputs(TensorProto.FLOAT, (1, 5)))
    with pytest.raises(ProfilerError, match="2 inputs, got 1"):
        session.run(np.zeros((1, 5), np.float32))


def test_inputs_that_the_model_cannot_combine_are_refused() -> None:
    session = OnnxSession(onnx_of_two_inputs(TensorProto.FLOAT, ("n", None)))
    session.set_inputs([np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)])
    with pytest.raises(ProfilerError, match="cannot run the model"):
        session.invoke()


def test_a_provider_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(BackendUnavailableError, match=r"no NoSuchProvider .*CPUExecutionProvider"):
        OnnxSession(ONNX, provider="NoSuchProvider")


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs a provider that is there and runs none of our nodes",
)
def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="CPU"):
        OnnxSession(ONNX, provider="AzureExecutionProvider")


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_optimisation_does_not_change_the_result(optimisation: str) -> None:
    x = np.ones(GRAPH.input_shape, np.float32)
    session = OnnxSession(ONNX, optimisation=optimisation)
    np.testing.assert_allclose(session.run(x), OnnxSession(ONNX).run(x), rtol=1e-5)


def test_an_unknown_optimisation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ProfilerError, match="choose from none, basic, extended, all"):
        OnnxSession(ONNX, optimisation="most")


def test_threads_do_not_change_the_result() -> None:
    x = np.ones(GRAPH.input_shape, np.float32)
    for open_session, content in ((OnnxSession, ONNX), (TfliteSession, TFLITE)):
        one, two = (open_session(content, threads=n).run(x) for n in (1, 2))
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_operators_that_xnnpack_leaves_are_named() -> None:
    builder = GraphBuilder((1, 8, 8, 8))
    x = builder.add(HardSwish(), "input")
    builder.add(HardSwish(), builder.add(MaxPool(3, 2, 1), x))
    session = TfliteSession(to_tflite(builder.build()))
    assert (session.partitions, session.undelegated) == (2, ("PADV2",))


def test_xnnpack_can_be_left_out() -> None:
    session = TfliteSession(TFLITE, xnnpack=False)
    assert (session.partitions, session.undelegated) == (0, ("PAD", "CONV_2D", "HARD_SWISH"))


def test_runtimes_give_their_version() -> None:
    onnx_session, tflite_session = OnnxSession(ONNX), TfliteSession(TFLITE)
    assert onnx_session.runtime == "onnxruntime"
    assert tflite_session.runtime == "ai-edge-litert"
    for session in (onnx_session, tflite_session):
        assert re.match(r"\d+\.\d+", session.runtime_version)


@pytest.mark.parametrize(
    ("open_session", "modules", "remedy"),
    [
        (OnnxSession, ["onnxruntime"], "pip install onnxruntime"),
        (
            TfliteSession,
            ["ai_edge_litert.interpreter", "tflite_runtime.interpreter"],
            "pip install ai-edge-litert",
        ),
    ],
    ids=["onnxruntime", "tflite"],
)
def test_a_runtime_that_is_not_installed_is_named_with_its_remedy(
    open_session: Callable[[bytes], Session],
    modules: list[str],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailableError, match=remedy):
        open_session(ONNX)


def test_a_tflite_runtime_that_imports_and_fails_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:  # as tflite-runtime 2.14 does under numpy 2
        raise SystemError("returned a result with an exception set")

    working = importlib.import_module("ai_edge_litert.interpreter")
    broken = SimpleNamespace(OpResolverType=working.OpResolverType, Interpreter=fail)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", broken)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(BackendUnavailableError, match="ai-edge-litert does not work here"):
        TfliteSession(TFLITE)
    monkeypatch.setitem(sys.modules, "tflite_runtime", SimpleNamespace(__version__="2.14.0"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", working)
    session = TfliteSession(TFLITE)
    assert (session.runtime, session.runtime_version) == ("tflite-runtime", "2.14.0")


def test_tables_of_the_two_tflite_runtimes_do_not_mix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table, op = tmp_path / "table.jsonl", OpSpec("conv", 8, 8, 8, kernel_size=1)
    quick = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    with closing(open_profiler("tflite")) as profiler:
        assert profiler.device.runtime == "tflite"
        fill_table([op], profiler, table, plan=quick)
    working = importlib.import_module("ai_edge_litert.interpreter")
    version = importlib.import_module("ai_edge_litert").__version__
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", SimpleNamespace(__version__=version))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", working)
    with closing(open_profiler("tflite")) as profiler:
        assert profiler.device.runtime == "tflite-runtime"
        with pytest.raises(TableError, match=r"runtime.*'tflite'.*'tflite-runtime'"):
            fill_table([op], profiler, table, plan=quick)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int64", 0, 1), ("bool", 0, 1)],
)
def test_random_integers_span_bytes_and_index_small_tables(dtype: str, low: int, high: int) -> None:
    info = TensorInfo("x", (None, 9999), np.dtype(dtype))
    (array,) = random_inputs([info], rng=np.random.default_rng(0))
    assert info.accepts(array)
    assert array.shape == (1, 9999)
    assert (array.min(), array.max()) == (low, high)


def test_random_floats_are_normal_and_reproducible() -> None:
    info = TensorInfo("x", (1, 9999), np.dtype(np.float32))
    (first,), (again,) = (random_inputs([info], rng=np.random.default_rng(seed)) for seed in (5, 5))
    np.testing.assert_array_equal(first, again)
    assert first.std() == pytest.approx(1, abs=0.05)


def test_an_input_of_strings_is_refused() -> None:
    info = TensorInfo("words", (1,), np.dtype(object))
    with pytest.raises(ProfilerError, match="'words'"):
        random_inputs([info], rng=np.random.default_rng(0))
