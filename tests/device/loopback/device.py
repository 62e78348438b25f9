"""Starts a device: adbd in namespaces of its own, on a cable that tests can pull."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from loopback.packages import DeviceSetupError
from loopback.rootfs import root_folder

HERE = Path(__file__).parent

PROPERTIES = {
    "ro.product.manufacturer": "ofa_hw",
    "ro.product.model": "Loopback 1",
    "ro.soc.manufacturer": "Debian",
    "ro.soc.model": "trixie",
    "ro.build.version.release": "13",
    "ro.build.version.sdk": "33",
    "ro.product.cpu.abi": "x86_64",
    "ro.build.fingerprint": "ofa_hw/loopback/1:13/test",
}
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  level: 87
  scale: 100
  temperature: 284
"""


def thermal_service(status: int) -> str:
    """What `dumpsys thermalservice` says at a status."""
    return f"""IsStatusOverride: false
ThermalEventListeners:
Thermal Status: {status}
Cached temperatures:
 Temperature{{mValue=31.5, mType=3, mName=skin, mStatus={status}}}
HAL Ready: true
"""


class Device:
    """One device. Everything it has vanishes with it.

    Attributes:
        serial: `host:port` at which the cable ends on this machine.
        state: Folder with what the device shows of itself: `sys` and `answers`.
    """

    def __init__(
        self,
        *,
        arch: str = "amd64",
        properties: Mapping[str, str] | None = None,
        data_size: str = "512m",
        clusters: tuple[tuple[int, int], ...] = ((1, 1_800_000), (1, 2_400_000)),
        launcher: Path | None = None,
        adbd: Path | None = None,
        foreign: str = "",
    ) -> None:
        if os.geteuid() != 0:
            raise DeviceSetupError("starting a device takes root")
        root = root_folder(arch)
        self.state = Path(tempfile.mkdtemp(prefix="ofa-hw-device-"))
        for name in ("sys", "answers", "mnt"):
            (self.state / name).mkdir()
        self.answer(
            "properties",
            "".join(f"{k}={v}\n" for k, v in {**PROPERTIES, **(properties or {})}.items()),
        )
        self.answer("dumpsys.battery", BATTERY)
        self.answer("dumpsys.thermalservice", thermal_service(0))
        self.answer("dumpsys.power", "Display Power: state=OFF\n")
        self._write_cpus(clusters)
        self._prepare()
        command = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
        command += ["setpriv", "--pdeathsig", "KILL"]  # it shall not outlive the tests
        # adbd ends a command by hanging up, which a test run under nohup would have it ignore.
        command += ["env", "--default-signal=HUP"]
        command += ["bash", str(HERE / "boot.sh"), str(root), str(self.state)]
        with (self.state / "boot.log").open("w") as log:
            self._boot = subprocess.Popen(
                [*command, foreign],
                env={
                    **os.environ,
                    "DATA_SIZE": data_size,
                    "LAUNCH": f"{sys.executable} {launcher}" if launcher else "",
                    "ADBD": str(adbd or ""),
                },
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self._cable: subprocess.Popen[bytes] | None = None
        self._plugging = threading.Lock()  # tests pull the cable from a timer's thread
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.serial = f"127.0.0.1:{self.port}"
        try:
            wait_for(self._up, "the device does not boot", log=self.state / "boot.log")
            self._started()
            self.plug()
        except BaseException:
            self.close()
            raise

    @property
    def boot_pid(self) -> int:
        """The process that holds the device's namespaces."""
        return self._boot.pid

    def _prepare(self) -> None:
        """What is to be done before it boots."""

    def _started(self) -> None:
        """What is to be done once adbd runs."""

    def _up(self) -> bool:
        if self._boot.poll() is not None:
            raise DeviceSetupError((self.state / "boot.log").read_text())
        return bool(self.pids("adbd"))

    def _write_cpus(self, clusters: tuple[tuple[int, int], ...]) -> None:
        cpu = 0
        for size, max_khz in clusters:
            related = " ".join(str(cpu + i) for i in range(size))
            for _ in range(size):
                files = {
                    "cpuinfo_max_freq": max_khz,
                    "scaling_max_freq": max_khz,
                    "scaling_cur_freq": max_khz,
                    "scaling_governor": "schedutil",
                    "related_cpus": related,
                }
                for name, value in files.items():
                    self.sysfs(f"devices/system/cpu/cpu{cpu}/cpufreq/{name}", f"{value}\n")
                cpu += 1
        for name in ("possible", "present", "online"):
            self.sysfs(f"devices/system/cpu/{name}", f"0-{cpu - 1}\n")
        self.sysfs("class/thermal/thermal_zone0/type", "cpu-thermal\n")
        self.sysfs("class/thermal/thermal_zone0/temp", "41000\n")

    def sysfs(self, name: str, text: str) -> None:
        """Writes a file of the device's /sys."""
        path = self.state / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def answer(self, name: str, text: str) -> None:
        """Writes what a program of the device answers from now on, whole or not at all."""
        path = self.state / "answers" / name
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    def commands(self) -> list[str]:
        """What was asked of `cmd` and `svc` so far."""
        path = self.state / "answers/commands"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, name: str) -> list[int]:
        """Processes of the device by name, as this machine numbers them."""
        holder = os.readlink(f"/proc/{self._boot.pid}/ns/net") if self._boot.poll() is None else ""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                same = os.readlink(entry / "ns/net") == holder
                if same and (entry / "comm").read_text().strip() == name[:15]:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill(self, name: str) -> int:
        """Kills the device's processes of this name; returns how many there were."""
        pids = self.pids(name)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    @property
    def data(self) -> Path:
        """The device's /data/local/tmp, as this machine can reach it."""
        return Path(f"/proc/{self._boot.pid}/root{self.state}/mnt/root/data/local/tmp")

    def listing(self) -> list[str]:
        """What lies under /data/local/tmp."""
        return sorted(path.name for path in self.data.iterdir())

    def reboot(self) -> None:
        """All processes die at once and adbd comes back; files stay."""
        init = int((self.state / "init.pid").read_text())
        for child in Path(f"/proc/{init}/task/{init}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)

    def plug(self) -> None:
        """Plugs the cable in."""
        ends = [str(self.port), str(self._boot.pid), "5555"]
        with self._plugging:
            if self._cable is None:
                self._cable = subprocess.Popen([sys.executable, str(HERE / "cable.py"), *ends])
                wait_for(self._reachable, "the cable does not come up")

    def _reachable(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """Pulls the cable: connections break and no new one comes up."""
        with self._plugging:
            if self._cable is not None:
                self._cable.kill()
                self._cable.wait()
                self._cable = None

    def freeze(self) -> None:
        """Nothing passes the cable any more, and nothing breaks."""
        assert self._cable is not None
        self._cable.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undoes `freeze`."""
        assert self._cable is not None
        self._cable.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Takes the device away."""
        self.cut()
        init_pid = self.state / "init.pid"
        if self._boot.poll() is None:
            os.killpg(self._boot.pid, signal.SIGKILL)
            self._boot.wait()
        if init_pid.exists():
            wait_for(lambda: not Path(f"/proc/{int(init_pid.read_text())}").exists(), "it lives on")
        shutil.rmtree(self.state, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(
    condition: Callable[[], bool], complaint: str, *, timeout_s: float = 20, log: Path | None = None
) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise DeviceSetupError(f"{complaint}: {log.read_text() if log else ''}")
        time.sleep(0.02)
