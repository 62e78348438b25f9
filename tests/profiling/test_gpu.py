"""An NVIDIA GPU as its driver tells of it: which one, who uses it, what it meets with."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError, ProfilerError
from ofa_hw.profiling import DeviceInfo, Measurement
from ofa_hw_profilers import gpu as own_gpu
from ofa_hw_profilers.cuda_driver import DriverGpu, ask_driver
from ofa_hw_profilers.gpu import OwnGpu, require_alone, seen_of_others
from ofa_hw_profilers.gpu_watch import GpuWatch
from ofa_hw_profilers.nvidia import (
    GpuState,
    find_gpu,
    parse_states,
    read_gpus,
    read_while,
)

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
    <fb_memory_usage>
      <total>23034 MiB</total>
      <reserved>438 MiB</reserved>
      <used>1 MiB</used>
    </fb_memory_usage>
    <utilization><gpu_util>0 %</gpu_util></utilization>
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
    <fb_memory_usage><used>520 MiB</used></fb_memory_usage>
    <utilization><gpu_util>N/A</gpu_util></utilization>
    <processes>
      <process_info>
        <pid>7372</pid><type>C</type><process_name>ffmpeg</process_name>
        <used_memory>210 MiB</used_memory>
      </process_info>
      <process_info>
        <pid>812</pid><type>G</type><process_name>Xorg</process_name>
        <used_memory>300 MiB</used_memory>
      </process_info>
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
    assert gpu.idle
    assert (gpu.utilisation_percent, gpu.used_mib, gpu.drawing_mib) == (0, 1, 0)
    assert gpu.processes == ()


def test_what_a_gpu_does_not_say_is_unknown_and_what_draws_the_screen_is_no_matter() -> None:
    _, gpu = parse_states(NEW)
    assert gpu.temperature_c is None
    assert gpu.details()["gpu_temperature_c"] == "unknown"
    assert gpu.details()["gpu_sm_clock_mhz"] == "unknown"
    assert gpu.utilisation_percent is None
    assert [(p.pid, p.name) for p in gpu.processes] == [(7372, "ffmpeg")]
    assert (gpu.used_mib, gpu.drawing_mib) == (520, 300)


def test_a_driver_of_an_older_generation_is_read_too() -> None:
    (gpu,) = parse_states(OLD)
    assert gpu.slowed == ("at its power limit", "too hot")
    assert not gpu.idle
    assert gpu.power_limit_w == 250
    assert gpu.details()["gpu_slowed"] == "at its power limit, too hot"


@pytest.mark.parametrize("text", ["", "No devices were found", "<html/>"], ids=repr)
def test_an_answer_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DeviceOutputError, match="nvidia-smi"):
        parse_states(text)


def test_a_gpu_is_found_by_its_number_with_or_without_the_prefix() -> None:
    gpus = parse_states(NEW)
    for number in (gpus[1].uuid, gpus[1].uuid.removeprefix("GPU-")):
        assert find_gpu(number, gpus) is gpus[1]
    with pytest.raises(BackendUnavailableError, match=r"MIG-1 is none of those.*NVIDIA L4"):
        find_gpu("MIG-1", gpus)


IDLE, BUSY = parse_states(NEW)
(HOT,) = parse_states(OLD)
WORKING = replace(IDLE, idle=False)


def never() -> GpuState:
    raise AssertionError("looked again")


def test_another_process_on_the_gpu_is_refused_by_name() -> None:
    assert seen_of_others(IDLE, never, used_here=False) == ""
    assert seen_of_others(BUSY, never, used_here=True) == ""  # that is this one
    others = seen_of_others(BUSY, never, used_here=False)
    require_alone("GPU", "")
    with pytest.raises(ProfilerError, match=r"ffmpeg \(7372\).*others=note"):
        require_alone("GPU", others)


def test_a_process_that_no_list_names_shows_by_its_memory() -> None:
    """A container sees no processes but its own."""
    held = replace(IDLE, used_mib=900.0)
    assert "900 MiB" in seen_of_others(held, never, used_here=False)
    assert seen_of_others(held, never, used_here=True) == ""  # may be its own
    screen = replace(held, drawing_mib=880.0)
    assert seen_of_others(screen, never, used_here=False) == ""


def test_a_process_that_no_list_names_shows_by_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ofa_hw_profilers.gpu._PAUSE_S", 0.0)
    works = replace(IDLE, utilisation_percent=40.0)
    assert "40 % busy" in seen_of_others(works, lambda: works, used_here=True)
    assert seen_of_others(works, lambda: IDLE, used_here=True) == ""  # this one had just ended


def test_a_row_notes_what_the_gpu_met_with() -> None:
    def notes(*samples: GpuState, expected: int = 1, others: str = "") -> tuple[str, ...]:
        watch = GpuWatch(IDLE.uuid, expected=expected, others=others)
        for sample in samples:
            watch.see(sample)
        return watch.notes()

    assert notes() == ()
    assert notes(IDLE, WORKING) == ()
    assert notes(BUSY) == ()  # this very process
    assert "ffmpeg" in notes(BUSY, expected=0)[0]
    assert notes(WORKING, HOT, WORKING) == (
        "throttled: the GPU was at its power limit, too hot (1215 to 2040 MHz, 45 to 88 C)",
    )
    slow = replace(WORKING, sm_clock_mhz=1500.0, temperature_c=60.0)
    assert notes(slow, WORKING) == ("the GPU's clock changed (1500 to 2040 MHz, 45 to 60 C)",)
    assert notes(replace(slow, idle=True), WORKING) == ()  # nothing was measured then
    assert notes(others="a (1)") == ("other processes compute on the GPU: a (1)",)


def test_a_row_notes_nothing_of_the_group_before() -> None:
    watch = GpuWatch(HOT.uuid, expected=1)
    watch.see(HOT)
    watch.begin_group()
    assert watch.notes() == ()


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `nvidia-smi` of one's own, which a test writes."""
    program = tmp_path / "nvidia-smi"
    program.touch()
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return program


def until_noted(watch: GpuWatch) -> Iterator[Measurement]:
    for key in "ab":
        end_s = time.monotonic() + 20
        while not watch.notes() and time.monotonic() < end_s:
            time.sleep(0.01)
        yield Measurement(key, (1.0,), stable=True, notes=("of its own",))


def test_samples_are_taken_while_the_gpu_works(smi: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A looping `nvidia-smi` prints one document after another."""
    caplog.set_level(logging.INFO)
    cool = OLD.replace("<clocks_throttle_reason_sw_power_cap>Active", "<a>").replace("Active", "No")
    cool = cool.replace("</clocks_throttle_reason_sw_power_cap>", "</a>", 1)
    cool = cool.replace("88 C", "50 C")
    smi.write_text(
        f"#!/bin/sh\ncat <<'END'\n{cool}END\nsleep 0.2\ncat <<'END'\n{OLD}END\nexec sleep 60\n"
    )
    watch = GpuWatch(HOT.uuid, expected=1)
    start_s = time.monotonic()
    for measurement in watch.over(until_noted(watch)):
        note = "throttled: the GPU was at its power limit, too hot (1215 to 1215 MHz, 50 to 88 C)"
        assert measurement.notes == ("of its own", note)
    assert time.monotonic() - start_s < 15  # it is ended, not waited for
    assert "the GPU worked at 1215 to 1215 MHz, 50 to 88 C" in caplog.text


def test_a_watch_that_ends_early_says_so(smi: Path, caplog: pytest.LogCaptureFixture) -> None:
    smi.write_text("#!/bin/sh\nexit 9\n")
    with GpuWatch(HOT.uuid, expected=1).watching():
        time.sleep(1)
    assert "nvidia-smi ended with 9" in caplog.text


def test_without_the_driver_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA GPU: nvidia-smi.*cannot be run"):
        read_gpus()


def test_a_driver_that_fails_is_quoted(smi: Path) -> None:
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver mismatch'; exit 18\n")
    with pytest.raises(BackendUnavailableError, match="Failed to initialize NVML: Driver mismatch"):
        read_gpus()
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{OLD}END\n")
    assert read_gpus() == parse_states(OLD)


def test_reading_a_gpu_needs_no_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; import ofa_hw_profilers.gpu"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_clocks_are_read_while_there_is_work(smi: Path) -> None:
    smi.write_text(f"#!/bin/sh\nsleep 0.3\ncat <<'END'\n{OLD}END\n")
    calls = []

    def work() -> None:
        calls.append(time.sleep(0.01))

    assert read_while(work) == (HOT,)
    assert len(calls) > 3


class FakeDriver:
    """A `libcuda` of one GPU."""

    def __init__(self, number: str, *, active: bool = False, error: int = 0) -> None:
        self._number, self._active, self._error = uuid.UUID(number).bytes, active, error

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return 0

    def cuDeviceGet(self, device, place: int) -> int:  # noqa: N802
        device._obj.value = place
        return self._error

    def cuDeviceGetUuid(self, number, device) -> int:  # noqa: N802
        number._obj[:] = self._number
        return 0

    def cuDevicePrimaryCtxGetState(self, device, flags, active) -> int:  # noqa: N802
        active._obj.value = self._active
        return 0


NUMBER = "aaaaaaaa-5a60-059e-348d-b6d7466932e4"


@pytest.mark.parametrize("active", [False, True], ids=["unused", "used"])
def test_the_driver_says_which_gpu_a_runtime_will_use(
    monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    """Of what nvidia-smi lists it need not be the first."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(NUMBER, active=active))
    here = ask_driver()
    assert here == DriverGpu(NUMBER, active)
    assert find_gpu(here.uuid, parse_states(NEW)) == BUSY


def test_a_gpu_that_this_process_lacks_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(NUMBER, error=101))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(BackendUnavailableError, match=r"number 0.*101 of cuDeviceGet.*'7'"):
        ask_driver()


def test_without_the_library_of_the_driver_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ofa_hw_profilers.cuda_driver._LIBRARY", "libnone.so.1")
    with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU: its driver cannot be loaded"):
        ask_driver()


def test_a_table_names_the_gpu_that_is_computed_on(
    smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{NEW}END\n")
    monkeypatch.setattr(own_gpu, "ask_driver", lambda place: DriverGpu(NUMBER, used_here=False))
    with pytest.raises(ProfilerError, match="ffmpeg"):
        OwnGpu(others="refuse")
    host = DeviceInfo("a processor", "b", "r", "1", details={"kernel": "6"})
    device = OwnGpu(others="note").described(host, lambda: None)
    assert device.name == BUSY.name
    assert device.details.items() >= {"host": "a processor", "kernel": "6"}.items()
    assert device.details["gpu_others"] == "ffmpeg (7372)"
    assert OwnGpu(others="note").watch.notes() == (
        "other processes compute on the GPU: ffmpeg (7372)",
    )
