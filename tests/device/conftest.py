"""The device that these tests run on: a real adbd on loopback, and a real adb server."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the package `loopback`

if not os.environ.get("CI"):  # which must have them: there the imports below fail
    pytest.importorskip("adb_shell")
    pytest.importorskip("adbutils")

from loopback.device import Device
from loopback.packages import DeviceSetupError
from loopback.server import AdbServer
from loopback.tflite import tflite_library

from ofa_hw.profiling.types import ProfilerOptions
from ofa_hw_profilers.adb.build import build_runner
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.opening import open_adb_profiler
from ofa_hw_profilers.adb.profiler import AdbTfliteProfiler
from ofa_hw_profilers.adb.transport import Transport


def pytest_configure(config: pytest.Config) -> None:
    """Names this folder's own marker."""
    config.addinivalue_line(
        "markers", "benchmark_model: needs benchmark_model built from a source that can vanish"
    )


TRANSPORTS = ("direct", "server")


def unavailable(error: DeviceSetupError) -> None:
    """Skips a test that has no device, or fails it where there must be one."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have the device: {error}")
    pytest.skip(str(error))


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the test's own, and no adb server unless the test starts one."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    monkeypatch.setenv("ANDROID_USER_HOME", str(tmp_path / "android"))


@pytest.fixture
def make_device() -> Iterator[Callable[..., Device]]:
    """Starts devices and takes them away after the test."""
    devices: list[Device] = []

    def make(**kwargs: object) -> Device:
        try:
            devices.append(Device(**kwargs))  # type: ignore[arg-type]
        except DeviceSetupError as error:
            unavailable(error)
        return devices[-1]

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def device(make_device: Callable[..., Device]) -> Device:
    """A device."""
    return make_device()


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    """The adb server of all tests: it takes seconds to start."""
    try:
        server = AdbServer(tmp_path_factory.mktemp("adb"))
    except DeviceSetupError as error:
        unavailable(error)
        raise
    with server:
        yield server


@pytest.fixture
def adb_server(one_server: AdbServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """An adb server without devices, which the project's code finds as the only one."""
    one_server.start()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(one_server.port))
    yield one_server
    one_server.adb("disconnect")


@pytest.fixture(params=TRANSPORTS)
def serial(request: pytest.FixtureRequest, device: Device) -> str:
    """The serial of a device that is reached directly, and again through an adb server."""
    if request.param == "server":
        server = request.getfixturevalue("adb_server")
        server.adb("connect", device.serial)
    return device.serial


@pytest.fixture
def transport(serial: str) -> Iterator[Transport]:
    """A transport to the device, of either kind."""
    transport = connect(serial)
    yield transport
    transport.close()


@pytest.fixture
def library() -> Path:
    """TFLite's C library for the device."""
    try:
        return tflite_library()
    except DeviceSetupError as error:
        unavailable(error)
        raise


@pytest.fixture(scope="session")
def ofa_runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's runner, built with this machine's compiler."""
    if not shutil.which("cc"):
        unavailable(DeviceSetupError("there is no C compiler"))
    return build_runner("cc", output=tmp_path_factory.mktemp("runner") / "ofa-runner")


@pytest.fixture
def open_profiler(library: Path, ofa_runner: Path) -> Iterator[Callable[..., AdbTfliteProfiler]]:
    """Opens profilers on devices, and closes them after the test."""
    opened: list[AdbTfliteProfiler] = []

    def open_on(device: Device, **settings: str) -> AdbTfliteProfiler:
        threads = int(settings.pop("threads", "1"))
        dtype = settings.pop("dtype", "fp32")
        chosen = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "0"}
        options = ProfilerOptions(
            device.serial, threads=threads, dtype=dtype, settings={**chosen, **settings}
        )
        opened.append(open_adb_profiler(options))
        return opened[-1]

    yield open_on
    for profiler in opened:
        profiler.close()
