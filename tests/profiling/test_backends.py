"""The backends that come with ofa_hw pass the conformance suite, and refuse what they lack."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ofa_hw.errors import BackendUnavailableError, DeviceNotFoundError, ProfilerError, TableError
from ofa_hw.graph import Graph, op_graph
from ofa_hw.latency import fill_table, load_table
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import (
    Cell,
    Profiler,
    ProfilerOptions,
    SamplingPlan,
    backend_names,
    open_profiler,
)
from ofa_hw.profiling.device import cpu_model, host_details
from ofa_hw.testing import PROFILER_CHECKS, Check

BACKENDS = ("cpu", "onnxruntime", "tflite")
OP = OpSpec("mbconv", 14, 24, 24, 72, kernel_size=3, activation="relu", shortcut="identity")
PLAN = SamplingPlan(relative_ci=0.05, min_time_s=0.005, max_time_s=0.1)


def measure_once(profiler: Profiler, key: str = "cell") -> float:
    (measurement,) = profiler.measure([Cell(key, partial(op_graph, OP))], PLAN)
    return float(np.median(measurement.samples_ns))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
def test_conforms(backend: str, check: Check) -> None:
    check(partial(open_profiler, backend))


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("backend", ["onnxruntime", "tflite"])
@pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
def test_conforms_in_fewer_bits(check: Check, backend: str, dtype: str) -> None:
    check(partial(open_profiler, backend), ProfilerOptions(dtype=dtype))


def test_every_built_in_backend_is_listed() -> None:
    assert set(BACKENDS) <= set(backend_names())


def test_an_unknown_backend_names_those_that_exist() -> None:
    with pytest.raises(BackendUnavailableError, match=r"did you mean 'tflite'.*onnxruntime"):
        open_profiler("tflit")


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("cpu", {"channels_last": "on"}),
        ("onnxruntime", {"optimisation": "none"}),
        ("tflite", {"xnnpack": "off"}),
    ],
)
def test_settings_are_recorded_with_their_defaults(backend: str, settings: dict[str, str]) -> None:
    profiler = open_profiler(backend, ProfilerOptions(settings=settings))
    assert profiler.device.settings.items() >= settings.items()
    plain = open_profiler(backend).device.settings
    assert plain.keys() == profiler.device.settings.keys()
    assert measure_once(profiler) > 0


@pytest.mark.parametrize(
    ("backend", "settings", "named"),
    [
        ("cpu", {"channels_last": "maybe"}, "off, on"),
        ("onnxruntime", {"optimisation": "most"}, "all, extended, basic, none"),
        ("tflite", {"xnnpac": "on"}, "did you mean 'xnnpack'"),
    ],
)
def test_a_wrong_setting_names_the_right_ones(
    backend: str, settings: dict[str, str], named: str
) -> None:
    with pytest.raises(ProfilerError, match=named):
        open_profiler(backend, ProfilerOptions(settings=settings))


def test_a_provider_that_is_not_there_names_those_that_are() -> None:
    options = ProfilerOptions(settings={"provider": "CUDAExecutionProvider"})
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    with pytest.raises(BackendUnavailableError, match="CPUExecutionProvider"):
        open_profiler("onnxruntime", options)


def test_a_provider_that_would_leave_nodes_to_another_is_refused() -> None:
    """Azure's provider comes with the CPU build and runs no ordinary node."""
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime lacks the provider")
    with pytest.raises(BackendUnavailableError, match="leaves nodes to the CPU"):
        open_profiler("onnxruntime", ProfilerOptions(settings={"provider": name}))


def test_tflite_without_xnnpack_is_not_taken_for_tflite_with_it() -> None:
    from ofa_hw.lowering.sessions import TfliteSession
    from ofa_hw.lowering.tflite import to_tflite
    from ofa_hw_profilers.tflite import require_xnnpack

    model = to_tflite(op_graph(OP))
    require_xnnpack(TfliteSession(model))
    with pytest.raises(BackendUnavailableError, match=r"leaves .*CONV_2D.* to other kernels"):
        require_xnnpack(TfliteSession(model, xnnpack=False))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_header_says_where_it_was_measured(backend: str) -> None:
    import os
    import platform

    device = open_profiler(backend).device
    assert device.name == cpu_model() != ""
    assert device.runtime_version[0].isdigit()
    details = device.details
    assert details["cores"] == str(os.cpu_count())
    assert details["kernel"] == platform.release()
    assert details["python"] == platform.python_version()
    assert 0 <= float(details["load_at_start"]) < 1000
    for name in ("governor", "max_frequency_mhz", "memory_mib", "usable_cores"):
        assert details[name] == "unknown" or details[name] not in ("", "0")
    for private in (platform.node(), os.getcwd(), os.path.expanduser("~")):
        assert private not in details.values()


def test_what_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ofa_hw.profiling.device._read", lambda path: "")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert cpu_model() == "unknown"
    details = host_details()
    assert {details[name] for name in ("governor", "max_frequency_mhz", "memory_mib")} == {
        "unknown"
    }


@pytest.mark.parametrize("backend", ["cpu", "onnxruntime"])
def test_a_serial_number_means_another_device(backend: str) -> None:
    with pytest.raises(DeviceNotFoundError, match="R5CT"):
        open_profiler(backend, ProfilerOptions(serial="R5CT"))


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"batch": -1}], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_impossible_numbers_are_refused(backend: str, wrong: dict[str, int]) -> None:
    with pytest.raises(ProfilerError, match="at least 1"):
        open_profiler(backend, ProfilerOptions(**wrong))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_larger_batch_takes_longer(backend: str) -> None:
    """The quickest of each are compared: whatever else the machine does only slows down."""
    quickest = []
    for batch in (1, 64):
        profiler = open_profiler(backend, ProfilerOptions(batch=batch))
        (m,) = profiler.measure([Cell("cell", partial(op_graph, OP, batch=batch))], PLAN)
        quickest.append(min(m.samples_ns))
    assert quickest[1] > 8 * quickest[0]


def test_torch_keeps_its_threads_outside_of_measuring() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        profiler = open_profiler("cpu")
        ops = [OP, OpSpec("linear", 1, 64, 10)]
        for _ in profiler.measure([Cell(str(op), partial(op_graph, op)) for op in ops], PLAN):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_closed_profiler_says_so() -> None:
    profiler = open_profiler("onnxruntime")
    profiler.close()
    with pytest.raises(ProfilerError, match="closed"):
        profiler.measure([], PLAN)


def test_two_cells_of_one_key_are_refused() -> None:
    with pytest.raises(ProfilerError, match="one key"):
        open_profiler("onnxruntime").measure([Cell("a", partial(op_graph, OP))] * 2, PLAN)


def test_models_are_built_in_groups() -> None:
    alive, most = 0, 0

    def graph_of(index: int) -> Graph:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return op_graph(OpSpec("linear", 1, 8 + index, 8))

    plan = SamplingPlan(relative_ci=1.0, min_time_s=0.0001, max_time_s=0.001)
    cells = [Cell(str(i), partial(graph_of, i)) for i in range(150)]
    for _ in open_profiler("onnxruntime").measure(cells, plan):
        alive -= 1
    assert alive == 0
    assert most <= 64


def test_a_missing_library_names_the_extra_that_brings_it() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from ofa_hw.errors import BackendUnavailableError\n"
        "from ofa_hw.profiling import open_profiler\n"
        "try:\n    open_profiler('cpu')\n"
        "except BackendUnavailableError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'ofa-hw[torch]'" in done.stdout, done.stderr


def test_tables_and_other_backends_work_without_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import ofa_hw.latency\nfrom ofa_hw.profiling import open_profiler\n"
        "open_profiler('onnxruntime').close(); open_profiler('tflite').close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["onnxruntime", "tflite"])
def test_tables_of_one_data_type_take_no_rows_of_another(backend: str, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    ops = [OpSpec("linear", 1, 64, 10), OpSpec("linear", 1, 64, 20)]
    plan = SamplingPlan(relative_ci=1.0, min_time_s=0.0001, max_time_s=0.001)
    table = fill_table(ops, open_profiler(backend, ProfilerOptions(dtype="int8")), path, plan=plan)
    assert table.device.dtype == load_table(path).device.dtype == "int8"
    for other in ("fp32", "fp16"):
        with pytest.raises(TableError, match=f"dtype is 'int8' there and '{other}' now"):
            fill_table(ops, open_profiler(backend, ProfilerOptions(dtype=other)), path, plan=plan)
