"""Whether an exported file keeps its promise: real files, true ones, liars and silent ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.errors import ExportError, ProfilerError
from ofa_hw.export import Provenance
from ofa_hw.graph import Conv, GraphBuilder, network_graph
from ofa_hw.latency import calibrate_table, fill_table, validate_table
from ofa_hw.latency.bench import bench_file
from ofa_hw.lowering.files import FORMATS, write_file
from ofa_hw.lowering.form import Form
from ofa_hw.profiling import ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.spaces import get_space
from ofa_hw.verify import BACKENDS, verify_file

torch = pytest.importorskip("torch")

from ofa_hw.lowering.torch_session import TorchSession  # noqa: E402  # it needs torch

TINY = get_space("tiny")
SPEC = TINY.largest(32)  # so quick that it often has the processor to itself for a whole inference
GRAPH = network_graph(TINY.ops(SPEC))
# Most is for a busy machine, on which few visits have the processor to themselves.
PLAN = SamplingPlan(relative_ci=0.2, min_time_s=0.02, max_time_s=4.0)
# A backend of somebody's that takes files as they are, as one of a device does.
FILING = """
from dataclasses import replace
from ofa_hw.lowering.sessions import OnnxSession
from ofa_hw.profiling import Engine, SystemClock
from ofa_hw_profilers.onnxruntime import OnnxRuntimeProfiler

class Filing(OnnxRuntimeProfiler):
    def __init__(self, options):
        super().__init__(replace(options, serial=None))
        self.device = replace(self.device, backend="filing")

    def measure_files(self, models, plan):
        sessions = {key: OnnxSession(model).invoke for key, model in models.items()}
        return Engine([], plan, clock=SystemClock(), cpu_bound=True).measure(sessions)
"""


@pytest.fixture(scope="module")
def measured_ms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What the network takes in each format on this machine."""
    folder = tmp_path_factory.mktemp("bench")
    latencies = {}
    for suffix in FORMATS:
        write_file(GRAPH, folder / f"net{suffix}")
        result = bench_file(folder / f"net{suffix}", max_time_s=4.0, min_time_s=0.02)
        latencies[suffix] = result.statistics.median_ms
    return latencies


@pytest.fixture
def promising(tmp_path: Path, measured_ms: dict[str, float]) -> Callable[..., Path]:
    """Writes a file that promises so many times what the network takes, or up to five times that.

    A machine that others use may be far slower when a file is verified than when it was measured.
    """

    def write(
        suffix: str = ".onnx", times: float = 1.0, form: Form | None = None, **changes: object
    ) -> Path:
        predicted_ms = times * measured_ms[suffix]
        promise = Provenance(
            spec=SPEC,
            table="mine.jsonl",
            device=open_profiler(BACKENDS[suffix]).device,
            predicted_latency_ms=predicted_ms,
            predicted_interval_ms=(predicted_ms / 5, predicted_ms * 5),
        )
        path = tmp_path / f"net{suffix}"
        write_file(GRAPH, path, form=form, metadata=replace(promise, **changes).to_metadata())
        return path

    return write


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_tells_the_truth_keeps_its_promise(promising, suffix: str) -> None:
    found = verify_file(promising(suffix), plan=PLAN)
    assert found.kept, found.to_dict()
    assert found.differences == ()
    assert -0.9 < found.off_by < 4
    assert found.sentence().startswith("kept: ")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_promises_a_fiftieth_of_its_latency_is_found_out(
    promising, suffix: str
) -> None:
    found = verify_file(promising(suffix, times=1 / 50), plan=PLAN)
    assert not found.kept
    assert found.off_by > 4
    assert found.sentence().startswith("broken: ")


def test_without_an_interval_the_tolerance_decides(promising) -> None:
    path = promising(predicted_interval_ms=None)
    assert verify_file(path, tolerance=4.0, plan=PLAN).kept
    assert not verify_file(path, tolerance=-0.9, plan=PLAN).kept


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_any_batch_is_measured_at_the_batch_that_was_promised_for(
    promising, suffix: str
) -> None:
    device = replace(open_profiler(BACKENDS[suffix]).device, batch=128)
    path = promising(suffix, form=Form(dynamic_batch=True), device=device)
    found = verify_file(path, plan=PLAN)
    assert found.device.batch == 128
    assert found.elsewhere == ()
    assert found.off_by > 4, found.to_dict()  # what one image takes was promised for 128
    assert found.sentence().startswith("broken: ")


def test_a_file_of_another_batch_than_was_promised_for_shows_nothing(promising) -> None:
    device = replace(open_profiler("onnxruntime").device, batch=8)
    found = verify_file(promising(device=device), plan=PLAN)
    assert not found.kept
    assert "not shown: " in found.sentence()
    assert "batch is 8 and 1" in found.sentence()


def test_a_device_that_runs_one_image_shows_nothing_of_many(
    promising, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "filing.py").write_text(FILING)
    info = tmp_path / "filing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: filing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ofa_hw.profilers]\nfiling = filing:Filing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with closing(open_profiler("filing")) as profiler:
        device = profiler.device
    form = Form(dynamic_batch=True)
    there: dict[str, str] = {"backend": "filing", "serial": "X"}
    assert verify_file(promising(form=form, device=device), plan=PLAN, **there).kept
    path = promising(form=form, device=replace(device, batch=8))
    with pytest.raises(ProfilerError, match=r"one at a time.* of 8; .*exported with --batch 8"):
        verify_file(path, plan=PLAN, **there)
    whole = promising(device=replace(device, batch=8))
    assert "batch is 8 and 1" in verify_file(whole, plan=PLAN, **there).sentence()


def test_a_layout_that_was_promised_for_is_measured_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    invoke = TorchSession.invoke

    def watched(session: TorchSession) -> None:
        invoke(session)
        assert session._output is not None
        seen.append(session._output.is_contiguous(memory_format=torch.channels_last))

    monkeypatch.setattr(TorchSession, "invoke", watched)
    builder = GraphBuilder((1, 3, 32, 32))
    builder.add(Conv(np.ones((8, 3, 3, 3), np.float32)), builder.input)
    path = tmp_path / "conv.pt2"
    for layout, is_last in (("on", True), ("off", False)):
        device = open_profiler("cpu", ProfilerOptions(settings={"channels_last": layout})).device
        promise = Provenance(device=device, predicted_latency_ms=1000.0)
        write_file(builder.build(), path, metadata=promise.to_metadata())
        found = verify_file(path, plan=PLAN)
        assert found.kept, found.to_dict()
        assert found.device.settings["channels_last"] == layout
        assert set(seen) == {is_last}
        seen.clear()


def test_a_promise_for_another_device_is_not_shown_to_be_kept(promising) -> None:
    device = replace(open_profiler("onnxruntime").device, name="a phone")
    found = verify_file(promising(device=device, times=9), plan=PLAN)
    assert found.meets_limit
    assert not found.kept
    assert "not shown: " in found.sentence()
    assert "name is 'a phone' and " in found.sentence()


def test_it_is_measured_with_the_threads_that_were_promised_for(promising) -> None:
    device = replace(open_profiler("onnxruntime").device, threads=2)
    found = verify_file(promising(device=device, times=9), plan=PLAN)
    assert found.device.threads == 2
    assert found.elsewhere == ()


def test_another_backend_is_said_plainly(promising) -> None:
    path = promising(".tflite", device=open_profiler("onnxruntime").device, times=9)
    found = verify_file(path, plan=PLAN)
    assert found.device.backend == "tflite"
    assert "backend is 'onnxruntime' and 'tflite'" in found.sentence()


def test_a_new_version_of_the_runtime_is_what_verifying_is_for(promising) -> None:
    device = replace(open_profiler("onnxruntime").device, runtime_version="1.0")
    found = verify_file(promising(device=device), plan=PLAN)
    assert found.kept
    assert [d.field for d in found.differences] == ["runtime_version"]


def test_settings_are_those_that_were_promised_for_unless_others_are_given(promising) -> None:
    device = open_profiler("onnxruntime").device
    device = replace(device, settings={**device.settings, "optimisation": "none"})
    path = promising(device=device, times=9)
    assert verify_file(path, plan=PLAN).device.settings["optimisation"] == "none"
    found = verify_file(path, settings={"optimisation": "all"}, plan=PLAN)
    assert "setting optimisation is 'none' and 'all'" in found.sentence()


def test_a_limit_within_the_uncertainty_is_neither_kept_nor_broken(promising) -> None:
    found = verify_file(promising(), plan=PLAN)
    statistics = replace(found.statistics, ci_low_ms=1.0, median_ms=1.5, ci_high_ms=3.0)
    for limit_ms, verdict in ((0.9, "broken"), (1.4, "not shown"), (2.0, "not shown"), (3, "kept")):
        judged = replace(found, statistics=statistics, limit_ms=limit_ms)
        assert judged.sentence().startswith(f"{verdict}: ")
        assert judged.kept == (verdict == "kept")


def test_xnnpack_says_what_it_runs(promising) -> None:
    assert verify_file(promising(".tflite"), plan=PLAN).undelegated == ()
    plain = verify_file(promising(".tflite", times=99), settings={"xnnpack": "off"}, plan=PLAN)
    assert plain.undelegated is None


def test_a_file_that_promises_nothing_says_what_to_do(promising, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_file(GRAPH, path)
    for silent in (path, promising(times=0)):
        with pytest.raises(ExportError, match=r"promises no latency.*specialize.*ofa-hw bench"):
            verify_file(silent)


def test_a_promise_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_file(GRAPH, path, metadata={"ofa_hw.device": "{}"})
    with pytest.raises(ExportError, match=r"net\.onnx .*provenance cannot be read"):
        verify_file(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_file_does_not_load(promising, suffix: str) -> None:
    path = promising(suffix)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises((ExportError, ProfilerError), match=str(path)):
        verify_file(path)


def test_a_backend_that_cannot_run_the_format_says_which_can(promising) -> None:
    with pytest.raises(ProfilerError, match=r"cannot run net\.onnx; \.onnx files run on"):
        verify_file(promising(), backend="tflite")


def test_the_command_ends_with_1_where_a_promise_is_broken(run, promising) -> None:
    code, out, err = run("verify", promising(".tflite"), "--seconds", 4)
    assert code == 0, out + err
    assert "XNNPACK      runs all of it" in out
    assert out.splitlines()[-1].startswith("kept: ")
    code, out, err = run("verify", promising(".tflite", times=0.02), "--seconds", 4, "--json")
    assert (code, err) == (1, "")
    answer = json.loads(out)
    assert not answer["kept"]
    assert answer["verdict"].startswith("broken: ")
    code, out, err = run("verify", "nowhere.onnx")
    assert (code, out) == (1, "")
    assert "nowhere.onnx" in err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["absent.onnx"], 1, "cannot read absent.onnx: No such file"),
        (["text.onnx"], 1, "text.onnx is no .onnx, .tflite or .pt2 file"),
        (["net.bin"], 1, "'net.bin' names no known format"),
        (["plain.onnx"], 1, "plain.onnx promises no latency"),
        (["net.onnx", "--backend", "tflite"], 1, "'tflite' cannot run net.onnx"),
        (["net.onnx", "--backend", "onxruntime"], 1, "did you mean 'onnxruntime'?"),
        (["net.onnx", "--serial", "X"], 1, "reaches no device 'X'"),
        (["net.onnx", "--set", "provider=TPU"], 1, "no provider 'TPU'"),
        (["net.onnx", "--seconds", "0"], 2, "--seconds"),
        ([], 2, "FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_verified_is_said_in_one_sentence(
    run,
    promising,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    args: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    promising()
    write_file(GRAPH, tmp_path / "plain.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    found, out, err = run("verify", *args)
    assert (found, out) == (code, "")
    assert message in err
    if code == 1:
        (line,) = [line for line in err.splitlines() if not line.startswith("INFO: ")]
        assert line.startswith("ofa-hw: ")


def test_what_specialize_exports_can_be_verified(
    run, weights: Path, predictor_file: Path, tmp_path: Path
) -> None:
    """End to end, on a real table: profiled, validated, calibrated, searched, exported."""
    table, file = tmp_path / "tiny.jsonl", tmp_path / "net.onnx"
    quick = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    with closing(open_profiler("onnxruntime")) as profiler:
        fill_table(TINY, profiler, table, resolutions=[24], plan=quick)
        validate_table(table, TINY, profiler, networks=10, plan=quick)
    calibrate_table(table)
    code, _, err = run(
        *("specialize", "--space", "tiny", "--lut", table, "--predictor", predictor_file),
        *("--latency-ms", 100, "--weights", weights, "--export", file),
    )
    assert code == 0, err
    code, out, err = run("verify", file, "--seconds", 0.5, "--json")
    answer = json.loads(out)
    assert answer["differences"] == []
    low, high = answer["predicted_interval_ms"]
    assert low < answer["predicted_latency_ms"] < high == answer["limit_ms"]
    assert code == int(not answer["kept"])
    assert -0.9 < answer["off_by"] < 9  # a busy machine may break the promise itself


def test_help_has_an_example_and_json(run) -> None:
    code, out, _ = run("verify", "--help")
    assert code == 0
    assert "Example: ofa-hw verify" in " ".join(out.split())
    assert "--json" in out
