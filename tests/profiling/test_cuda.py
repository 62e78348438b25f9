"""The backend `cuda`: what it refuses and reads of a GPU, and, where there is one, its runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError, ProfilerError
from ofa_hw.graph import network_graph, op_graph
from ofa_hw.ops import OpSpec
from ofa_hw.profiling import Cell, Engine, ProfilerOptions, SamplingPlan, open_profiler
from ofa_hw.spaces import get_space
from ofa_hw.testing import PROFILER_CHECKS, MakeProfiler
from ofa_hw_profilers.nvidia import (
    GpuState,
    GpuWatch,
    find_gpu,
    parse_states,
    read_gpus,
    require_alone,
)

torch = pytest.importorskip("torch")

from ofa_hw_profilers.cuda import CudaProfiler  # noqa: E402 - takes torch
from ofa_hw_profilers.cuda.inputs import InputRing  # noqa: E402
from ofa_hw_profilers.cuda.timing import InferenceClock  # noqa: E402

OP = OpSpec("mbconv", 14, 24, 24, 72, kernel_size=3, activation="relu", shortcut="identity")
PLAN = SamplingPlan(relative_ci=0.05, min_time_s=0.01, max_time_s=0.2)
HAS_GPU = torch.cuda.is_available()


# What drivers 555 and 470 print for `nvidia-smi -q -x`, without the parts that are not read.
NEW = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
  <timestamp>Mon Jul 15 13:41:56 2024</timestamp>
  <driver_version>555.42.06</driver_version>
  <attached_gpus>2</attached_gpus>
  <gpu id="00000000:01:00.0">
    <product_name>NVIDIA L4</product_name>
    <uuid>GPU-c5533cd4-5a60-059e-348d-b6d7466932e4</uuid>
    <clocks_event_reasons>
      <clocks_event_reason_gpu_idle>Active</clocks_event_reason_gpu_idle>
      <clocks_event_reason_sw_power_cap>Not Active</clocks_event_reason_sw_power_cap>
      <clocks_event_reason_hw_thermal_slowdown>Not Active</clocks_event_reason_hw_thermal_slowdown>
    </clocks_event_reasons>
    <temperature>
      <gpu_temp>45 C</gpu_temp>
      <gpu_target_temperature>N/A</gpu_target_temperature>
    </temperature>
    <gpu_power_readings><current_power_limit>72.00 W</current_power_limit></gpu_power_readings>
    <clocks><sm_clock>2040 MHz</sm_clock><mem_clock>6250 MHz</mem_clock></clocks>
    <max_clocks><sm_clock>2040 MHz</sm_clock></max_clocks>
    <processes></processes>
  </gpu>
  <gpu id="00000000:02:00.0">
    <product_name>NVIDIA L4</product_name>
    <uuid>GPU-aaaaaaaa-5a60-059e-348d-b6d7466932e4</uuid>
    <temperature><gpu_temp>N/A</gpu_temp></temperature>
    <clocks><sm_clock>[N/A]</sm_clock></clocks>
    <processes>
      <process_info><pid>7372</pid><type>C</type><process_name>ffmpeg</process_name></process_info>
      <process_info><pid>812</pid><type>G</type><process_name>Xorg</process_name></process_info>
    </processes>
  </gpu>
</nvidia_smi_log>
"""
OLD = """<?xml version="1.0" ?>
<nvidia_smi_log>
  <driver_version>470.57.02</driver_version>
  <gpu id="00000000:17:00.0">
    <product_name>NVIDIA A40</product_name>
    <uuid>GPU-bbbbbbbb-5a60-059e-348d-b6d7466932e4</uuid>
    <clocks_throttle_reasons>
      <clocks_throttle_reason_sw_power_cap>Active</clocks_throttle_reason_sw_power_cap>
      <clocks_throttle_reason_hw_slowdown>Not Active</clocks_throttle_reason_hw_slowdown>
      <clocks_throttle_reason_hw_thermal_slowdown>Active</clocks_throttle_reason_hw_thermal_slowdown>
      <clocks_throttle_reason_sw_thermal_slowdown>Active</clocks_throttle_reason_sw_thermal_slowdown>
    </clocks_throttle_reasons>
    <temperature><gpu_temp>88 C</gpu_temp></temperature>
    <power_readings>
      <power_limit>300.00 W</power_limit>
      <enforced_power_limit>250.00 W</enforced_power_limit>
    </power_readings>
    <clocks><sm_clock>1215 MHz</sm_clock><mem_clock>7250 MHz</mem_clock></clocks>
    <max_clocks><sm_clock>1740 MHz</sm_clock></max_clocks>
  </gpu>
</nvidia_smi_log>
"""


def test_a_gpu_is_read_from_what_the_driver_says() -> None:
    gpu, _ = parse_states(NEW)
    assert (gpu.name, gpu.driver_version) == ("NVIDIA L4", "555.42.06")
    assert (gpu.temperature_c, gpu.power_limit_w) == (45, 72)
    assert (gpu.sm_clock_mhz, gpu.memory_clock_mhz, gpu.max_sm_clock_mhz) == (2040, 6250, 2040)
    assert gpu.slowed == ()  # being idle is no reason
    assert gpu.processes == ()


def test_what_a_gpu_does_not_say_is_unknown_and_what_draws_the_screen_is_no_matter() -> None:
    _, gpu = parse_states(NEW)
    assert gpu.temperature_c is None
    assert gpu.details()["gpu_temperature_c"] == "unknown"
    assert gpu.details()["gpu_sm_clock_mhz"] == "unknown"
    assert [(p.pid, p.name) for p in gpu.processes] == [(7372, "ffmpeg")]


def test_a_driver_of_an_older_generation_is_read_too() -> None:
    (gpu,) = parse_states(OLD)
    assert gpu.slowed == ("at its power limit", "too hot")
    assert gpu.power_limit_w == 250
    assert gpu.details()["gpu_slowed"] == "at its power limit, too hot"


@pytest.mark.parametrize("text", ["", "No devices were found", "<html/>"], ids=repr)
def test_an_answer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DeviceOutputError, match="nvidia-smi"):
        parse_states(text)


def test_a_gpu_is_found_by_its_number_with_or_without_the_prefix() -> None:
    gpus = parse_states(NEW)
    for uuid in (gpus[1].uuid, gpus[1].uuid.removeprefix("GPU-")):
        assert find_gpu(uuid, gpus) is gpus[1]
    with pytest.raises(BackendUnavailableError, match=r"MIG-1 is none of those.*NVIDIA L4"):
        find_gpu("MIG-1", gpus)


def test_another_process_on_the_gpu_is_refused_by_name() -> None:
    idle, busy = parse_states(NEW)
    require_alone(idle, own=0)
    require_alone(busy, own=1)
    with pytest.raises(ProfilerError, match=r"ffmpeg \(7372\).*others=note"):
        require_alone(busy, own=0)


def test_a_row_notes_what_the_gpu_met_with() -> None:
    idle, busy = parse_states(NEW)
    (hot,) = parse_states(OLD)
    assert GpuWatch(lambda: idle, expected=1).notes() == ()
    assert GpuWatch(lambda: busy, expected=1).notes() == ()  # this very process
    assert "ffmpeg" in GpuWatch(lambda: busy, expected=0).notes()[0]
    assert "too hot" in GpuWatch(lambda: hot, expected=1).notes()[0]


def test_the_gpu_is_not_looked_at_for_every_row() -> None:
    looks = []

    def look() -> GpuState:
        looks.append(1)
        return parse_states(NEW)[0]

    watch = GpuWatch(look, expected=1)
    for _ in range(100):
        watch.notes()
    assert len(looks) == 1


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


def test_without_the_driver_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA GPU: nvidia-smi.*cannot be run"):
        read_gpus()


def test_a_driver_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver mismatch'; exit 18\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(BackendUnavailableError, match="Failed to initialize NVML: Driver mismatch"):
        read_gpus()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{OLD}END\n")
    assert read_gpus() == parse_states(OLD)


def test_reading_a_gpu_needs_no_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; import ofa_hw_profilers.nvidia"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
