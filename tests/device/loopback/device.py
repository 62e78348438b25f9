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
from contextlib import suppress
from pathlib import Path
from typing import Self

from loopback.packages import DeviceSetupError
from loopback.rootfs import root_folder
from loopback.shown import Shown

HERE = Path(__file__).parent
ADBD_PORT = 5555
_LISTEN = "0A"  # a socket's state in /proc/net/tcp


class Device(Shown):
    """One device. Everything it has vanishes with it.

    Attributes:
        serial: `host:port` at which the cable ends on this machine.
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
        state = Path(tempfile.mkdtemp(prefix="ofa-hw-device-"))
        super().__init__(state, properties or {}, clusters)
        (state / "mnt").mkdir()
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
            self.wait_until_up()
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

    def wait_until_up(self) -> None:
        """Waits until adbd takes connections: until then the cable closes each at once."""
        wait_for(self._up, "the device does not boot", log=self.state / "boot.log")

    def _up(self) -> bool:
        if self._boot.poll() is not None:
            raise DeviceSetupError((self.state / "boot.log").read_text())
        return any(_listens(pid) for pid in self.pids("adbd"))

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
            wait_for(lambda pid=child: not Path(f"/proc/{pid}").exists(), "it does not go down")  # type: ignore[misc]

    def plug(self) -> None:
        """Plugs the cable in."""
        ends = [str(self.port), str(self._boot.pid), str(ADBD_PORT)]
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
        pid = self._cable.pid
        wait_for(lambda: _is_stopped(pid), "the cable does not stop")

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


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process have stopped."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def _listens(pid: int) -> bool:
    """Whether something in a process's network listens at adbd's port."""
    for family in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if (local.rpartition(":")[2], state) == (f"{ADBD_PORT:04X}", _LISTEN):
                    return True
    return False
