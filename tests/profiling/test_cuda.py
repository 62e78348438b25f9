"""The backend `cuda`: what it refuses, how it measures, and, where there is a GPU, its runs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from ofa_hw.errors import ProfilerError
from ofa_hw.graph import network_graph, op_graph
from ofa_hw.lowering.form import Form
from ofa_hw.lowering.sessions import GPU_PROVIDERS
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import (
    Cell,
    Engine,
    FileProfiler,
    ProfilerOptions,
    SamplingPlan,
    open_profiler,
)
from ofa_hw.spaces import get_space
from ofa_hw.testing import PROFILER_CHECKS, MakeProfiler
from ofa_hw_profilers.cuda_driver import ask_driver
from ofa_hw_profilers.gpu_watch import GpuWatch

torch = pytest.importorskip("torch")

from ofa_hw.lowering.torch import to_torch  # noqa: E402 - takes torch
from ofa_hw.lowering.torch_session import write_program  # noqa: E402
from ofa_hw_profilers.cuda import CudaProfiler  # noqa: E402
from ofa_hw_profilers.cuda.capture import CapturedForward  # noqa: E402
from ofa_hw_profilers.cuda.inputs import CacheSweep, InputRing  # noqa: E402
from ofa_hw_profilers.cuda.programs import load_program  # noqa: E402
from ofa_hw_profilers.cuda.timing import EventTimer, InferenceClock  # noqa: E402

OP = OpSpec("mbconv", 14, 24, 24, 72, kernel_size=3, activation="relu", shortcut="identity")
PLAN = SamplingPlan(relative_ci=0.05, min_time_s=0.01, max_time_s=0.2)
HAS_GPU = torch.cuda.is_available()


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
def test_inputs_come_again_only_after_twice_the_cache(channels_last: bool) -> None:
    cache_bytes, shape = 64 << 10, (2, 3, 10, 10)
    ring = InputRing(cache_bytes, torch.float16, device="cpu", channels_last=channels_last)
    seen: dict[int, int] = {}
    for turn in range(400):
        x = ring.next(shape)
        assert x.shape == shape
        layout = torch.channels_last if channels_last else torch.contiguous_format
        assert x.is_contiguous(memory_format=layout)
        if x.data_ptr() in seen:
            assert (turn - seen[x.data_ptr()]) * x.numel() * x.itemsize >= 1.5 * cache_bytes
        seen[x.data_ptr()] = turn
    assert len(seen) * x.numel() * x.itemsize >= 1.5 * cache_bytes
    assert len(seen) < 400


def test_two_inputs_in_a_row_never_overlap_however_large() -> None:
    ring = InputRing(1 << 10, torch.float32, device="cpu")
    for count in (64, 5000, 64, 5000, 5000):
        first, second = ring.next((1, 1, 1, count)), ring.next((1, 1, 1, count))
        assert abs(second.data_ptr() - first.data_ptr()) >= 4 * count


def test_inputs_are_no_constant() -> None:
    x = InputRing(1 << 16, torch.bfloat16, device="cpu").next((1, 3, 8, 8)).float()
    assert 0.5 < float(x.std()) < 2


def test_the_engine_times_what_an_inference_reports_and_nothing_beside_it() -> None:
    """Each run reports 40 or 90 microseconds; what passes on the host is no part of it."""
    clock = InferenceClock()
    runs = {"short": partial(clock.add, 40e3), "long": partial(clock.add, 90e3)}
    engine = Engine([], PLAN, clock=clock, cpu_bound=False)
    measured = {m.key: m for m in engine.measure(runs)}
    assert set(measured["short"].samples_ns) == {40e3}
    assert set(measured["long"].samples_ns) == {90e3}
    assert all(m.stable for m in measured.values())


def test_a_sweep_writes_over_more_than_the_cache() -> None:
    sweep = CacheSweep(1 << 10, device="cpu")
    sweep._buffer.fill_(7)
    sweep()
    assert sweep._buffer.nbytes == 2 << 10
    assert not sweep._buffer.any()


class FakeCuda:
    """Stands in for torch.cuda, and writes down what it was told to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        for name in ("Event", "CUDAGraph"):
            monkeypatch.setattr(torch.cuda, name, partial(self._made, name))
        for name in ("graph", "stream"):
            monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())
        stream = SimpleNamespace(wait_stream=lambda other: None)
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda: stream)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: self.log.append("synchronize"))

    def _made(self, kind: str, **_: object) -> SimpleNamespace:
        number = sum(entry.startswith(f"{kind} ") for entry in self.log)
        self.log.append(f"{kind} {number}")
        told = {
            name: partial(self.log.append, f"{name} {number}")
            for name in ("record", "synchronize", "replay")
        }
        return SimpleNamespace(**told, elapsed_time=lambda end: 0.25)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_events_are_made_before_anything_is_timed(fake_cuda: FakeCuda) -> None:
    timer = EventTimer()
    fake_cuda.log.clear()
    for _ in range(2):
        assert timer(lambda x: fake_cuda.log.append("forward"), torch.zeros(1)) == 0.25e6
    assert fake_cuda.log == ["record 0", "forward", "record 1", "synchronize 1"] * 2


def test_a_captured_graph_keeps_the_weights_that_it_reads(fake_cuda: FakeCuda) -> None:
    module = to_torch(op_graph(OP))
    weights = weakref.ref(next(module.parameters()))
    captured = CapturedForward(module, torch.randn(1, 24, 14, 14))
    del module
    gc.collect()
    assert weights() is not None
    del captured
    gc.collect()
    assert weights() is None


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_an_inference_begins_with_swept_caches_and_an_idle_gpu_in_either_mode(
    fake_cuda: FakeCuda, mode: str
) -> None:
    log, graph = fake_cuda.log, op_graph(OP)
    profiler = object.__new__(CudaProfiler)
    profiler._settings, profiler._layout = {"mode": mode}, torch.contiguous_format
    profiler._watch, profiler._timer = GpuWatch("GPU-1", expected=1), InferenceClock()
    profiler._sweep = partial(log.append, "sweep")

    def timed(forward: Callable[..., object], x: torch.Tensor) -> float:
        log.append("forward")
        forward(x)
        return 5e3

    def next_input() -> torch.Tensor:
        log.append("input")
        return torch.randn(graph.input_shape)

    profiler._timed = timed
    module = to_torch(graph)
    weights = weakref.ref(next(module.parameters()))
    run = profiler._runnable(module, next_input)
    del module
    gc.collect()
    assert weights() is not None
    log.clear()
    run()
    replayed = ["replay 0"] if mode == "graph" else []
    assert log == ["input", "sweep", "synchronize", "forward", *replayed]
    assert profiler._timer.perf_counter_ns() == 5000


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("bytes_in", [False, True], ids=["floats", "bytes"])
def test_a_file_is_loaded_for_the_device(tmp_path: Path, dynamic: bool, bytes_in: bool) -> None:
    graph, path = op_graph(OP), tmp_path / "net.pt2"
    write_program(graph, path, form=Form(dynamic_batch=dynamic, uint8_input=bytes_in))
    module, x = load_program(path.read_bytes(), "net", batch=3, dtype=torch.float32, device="cpu")
    assert x.shape == (3 if dynamic else 1, 24, 14, 14)
    assert x.dtype == (torch.uint8 if bytes_in else torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), to_torch(graph)(x.float()), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bytes_in", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_file_runs_in_the_data_type_asked_for(
    tmp_path: Path, dtype: torch.dtype, bytes_in: bool
) -> None:
    path = tmp_path / "net.pt2"
    write_program(op_graph(OP), path, form=Form(uint8_input=bytes_in))
    module, x = load_program(path.read_bytes(), "net", batch=1, dtype=dtype, device="cpu")
    with torch.inference_mode():
        assert module(x).dtype == dtype


def test_a_file_that_is_no_program_is_refused_by_name() -> None:
    with pytest.raises(ProfilerError, match="torch cannot load net"):
        load_program(b"no program", "net", batch=1, dtype=torch.float32, device="cpu")


def test_it_times_files_as_a_device_does() -> None:
    assert isinstance(object.__new__(CudaProfiler), FileProfiler)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (ProfilerOptions(dtype="int8"), "choose from fp32, tf32, fp16, bf16"),
        (ProfilerOptions(settings={"mode": "compiled"}), "choose from eager, graph"),
        (ProfilerOptions(settings={"timings": "host"}), "did you mean 'timing'"),
        (ProfilerOptions(threads=4), "got 4"),
        (ProfilerOptions(batch=0), "batch must be at least 1"),
        (ProfilerOptions(serial="0"), "leave the serial out"),
    ],
    ids=["dtype", "mode", "setting", "threads", "batch", "serial"],
)
def test_what_it_cannot_do_is_refused_with_or_without_a_gpu(
    options: ProfilerOptions, named: str
) -> None:
    with pytest.raises(ProfilerError, match=named):
        CudaProfiler(options)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("profile", "--space", "tiny", "--backend", "cuda", "-o", "t.jsonl")
    assert (code, out) == (1, "")
    assert err.strip().startswith("ofa-hw: no NVIDIA GPU")
    assert "ofa-hw devices" in err
    assert not Path("t.jsonl").exists()
    code, out, _ = run("devices", "--json")
    assert code == 0
    assert "no NVIDIA GPU" in out


@pytest.mark.gpu
@pytest.mark.parametrize("provider", GPU_PROVIDERS)
@pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
def test_onnxruntime_conforms_on_a_gpu(provider: str, check: Callable[..., None]) -> None:
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime lacks the {provider}")
    settings = {"provider": provider, "others": "note"}
    check(partial(open_profiler, "onnxruntime"), ProfilerOptions(settings=settings))


def test_the_setting_of_gpus_is_none_of_the_processors() -> None:
    with pytest.raises(ProfilerError, match="no setting 'others'"):
        open_profiler("onnxruntime", ProfilerOptions(settings={"others": "note"}))
    assert "others" not in open_profiler("onnxruntime").device.settings


gpu = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")]


@pytest.fixture
def on_gpu() -> MakeProfiler:
    def make(options: ProfilerOptions) -> CudaProfiler:
        """By graphs and events: alone, blocks of batch 1 are launched slower than they run."""
        settings = {"mode": "graph", "timing": "events", "others": "note", **options.settings}
        return CudaProfiler(replace(options, settings=settings))

    return make


class TestOnGpu:
    pytestmark = gpu

    def test_graphs_give_what_eager_does_whatever_became_of_the_memory(
        self, on_gpu: MakeProfiler
    ) -> None:
        """Weights that nobody held would be written over by what is allocated afterwards."""
        profiler = on_gpu(ProfilerOptions())
        ops = [replace(OP, mid_channels=24 * n) for n in range(1, 9)]
        with profiler.measuring(), torch.inference_mode():
            captured, wanted = [], []
            for op in ops:
                graph = op_graph(op)
                module = to_torch(graph).to("cuda")
                x = torch.randn(graph.input_shape, device="cuda")
                wanted.append((x, module(x)))
                captured.append(CapturedForward(module, x))
                del module
            gc.collect()
            torch.cuda.empty_cache()
            filler = [torch.full((1 << 18,), torch.nan, device="cuda") for _ in range(256)]
            for own, (x, y) in zip(captured, wanted, strict=True):
                torch.testing.assert_close(own(own.take(x)), y)
            del filler

    def test_loaded_cells_outlive_a_garbage_collection(self, on_gpu: MakeProfiler) -> None:
        profiler = on_gpu(ProfilerOptions())
        with profiler.measuring():
            runs = [profiler.load(op_graph(replace(OP, kernel_size=k))) for k in (3, 5, 7)]
            gc.collect()
            torch.cuda.empty_cache()
            for run in runs:
                run()
        assert profiler._timer.perf_counter_ns() > 0

    @pytest.mark.parametrize("mode", ["eager", "graph"])
    def test_weights_come_from_memory_in_either_mode(self, mode: str, on_gpu: MakeProfiler) -> None:
        profiler = on_gpu(ProfilerOptions(settings={"mode": mode}))
        cache_bytes = float(profiler.device.details["gpu_l2_mib"]) * 2**20
        size = int((cache_bytes / 2 / 4) ** 0.5)  # of float32, half the cache
        medians = []
        for sweep in (profiler._sweep, lambda: None):
            profiler._sweep = sweep
            (m,) = profiler.measure(
                [Cell("a", partial(op_graph, OpSpec("linear", 1, size, size)))], PLAN
            )
            medians.append(np.median(m.samples_ns))
        assert medians[0] > 1.05 * medians[1]

    @pytest.mark.parametrize("mode", ["eager", "graph"])
    @pytest.mark.parametrize("dtype", ["fp32", "fp16"])
    def test_a_file_is_as_fast_as_its_network(
        self, mode: str, dtype: str, on_gpu: MakeProfiler, tmp_path: Path
    ) -> None:
        space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
        graph = network_graph(space.ops(space.smallest(128)))
        write_program(graph, tmp_path / "net.pt2")
        profiler = on_gpu(ProfilerOptions(dtype=dtype, settings={"mode": mode}))
        content = (tmp_path / "net.pt2").read_bytes()
        (of_file,) = profiler.measure_files({"net": content}, PLAN)
        (of_graph,) = profiler.measure([Cell("net", lambda: graph)], PLAN)
        assert of_file.key == "net"
        ratio = np.median(of_file.samples_ns) / np.median(of_graph.samples_ns)
        assert 0.5 < ratio < 2

    def test_the_header_names_the_gpu_that_torch_uses(self, on_gpu: MakeProfiler) -> None:
        device = on_gpu(ProfilerOptions()).device
        assert device.name == torch.cuda.get_device_name()
        here = ask_driver(torch.cuda.current_device())
        assert here.uuid == str(torch.cuda.get_device_properties().uuid)
        assert here.used_here
        assert float(device.details["gpu_sm_clock_mhz"]) > 0

    def test_samples_are_taken_of_a_gpu_that_works(self, on_gpu: MakeProfiler) -> None:
        profiler = on_gpu(ProfilerOptions())
        plan = SamplingPlan(relative_ci=1e-9, min_time_s=2, max_time_s=3)
        list(profiler.measure([Cell("a", partial(op_graph, OP))], plan))
        assert profiler._watch._run, "no sample, or the GPU was idle at each"

    @pytest.mark.parametrize("check", PROFILER_CHECKS, ids=lambda check: check.__name__)
    def test_conforms(self, check: Callable[[MakeProfiler], None], on_gpu: MakeProfiler) -> None:
        check(on_gpu)

    @pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
    @pytest.mark.parametrize("mode", ["eager", "graph"])
    @pytest.mark.parametrize("timing", ["host", "events"])
    @pytest.mark.parametrize("channels_last", ["off", "on"])
    def test_a_network_runs(self, dtype, mode, timing, channels_last) -> None:
        settings = {"mode": mode, "timing": timing, "channels_last": channels_last}
        settings["others"] = "note"
        profiler = open_profiler("cuda", ProfilerOptions(dtype=dtype, batch=2, settings=settings))
        space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
        ops = space.ops(space.smallest(128))
        (measurement,) = profiler.measure(
            [Cell("network", partial(network_graph, ops, batch=2))], PLAN
        )
        assert 1e4 < np.median(measurement.samples_ns) < 1e9
        assert profiler.device.dtype == dtype

    def test_switches_of_torch_are_as_before(self, on_gpu: MakeProfiler) -> None:
        before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        list(
            on_gpu(ProfilerOptions(dtype="tf32")).measure([Cell("a", partial(op_graph, OP))], PLAN)
        )
        after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        assert after == before

    def test_a_graph_is_replayed_faster_than_it_is_launched(self) -> None:
        medians = []
        for mode in ("eager", "graph"):
            settings = {"mode": mode, "others": "note"}
            profiler = open_profiler("cuda", ProfilerOptions(settings=settings))
            (m,) = profiler.measure([Cell("a", partial(op_graph, OP))], PLAN)
            medians.append(np.median(m.samples_ns))
        assert medians[1] < medians[0]

    def test_a_larger_batch_takes_longer(self, on_gpu: MakeProfiler) -> None:
        medians = []
        for batch in (1, 256):
            profiler = on_gpu(ProfilerOptions(batch=batch))
            (m,) = profiler.measure([Cell("a", partial(op_graph, OP, batch=batch))], PLAN)
            medians.append(np.median(m.samples_ns))
        assert medians[1] > 2 * medians[0]

    def test_too_large_a_batch_says_so(self, on_gpu: MakeProfiler) -> None:
        op = OpSpec("conv", 224, 64, 64, kernel_size=3)
        profiler = on_gpu(ProfilerOptions(batch=1 << 17))
        with pytest.raises(ProfilerError, match="too little memory"):
            list(profiler.measure([Cell("a", partial(op_graph, op, batch=1 << 17))], PLAN))
