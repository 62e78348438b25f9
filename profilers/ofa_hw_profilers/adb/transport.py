"""A device as the profiler sees it: run a command, push, pull, look at a file.

How bytes reach the device is a `Connection`'s matter: through the adb server (server.py) or
directly over TCP or USB (direct.py). What is said over it is the same for both (process.py,
files.py).
"""

from __future__ import annotations

import hashlib
import shlex

from ofa_hw.errors import DeviceFullError, DeviceOutputError
from ofa_hw_profilers.adb.files import FileService, FileStat
from ofa_hw_profilers.adb.process import Process, ShellResult
from ofa_hw_profilers.adb.streams import Connection


class Transport:
    """Runs commands on a device and moves files to and from it. For one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.serial = connection.serial
        self.is_served = connection.is_served
        if "shell_v2" not in connection.features:
            raise DeviceOutputError(
                f"device {self.serial!r} has no shell protocol 2; Android 7 or newer has it"
            )

    def start(self, command: str, *, timeout_s: float = 30.0) -> Process:
        """Starts a command whose output is read while it runs."""
        stream = self._connection.open(f"shell,v2,raw:{command}", timeout_s)
        return Process(stream, self.serial)

    def shell(self, command: str, timeout_s: float = 30.0) -> ShellResult:
        """Runs a command to its end; one that takes longer is killed on the device.

        Raises:
            DeviceTimeoutError: If it does not end in time.
            DeviceLostError: If the connection breaks.
        """
        with self.start(command, timeout_s=timeout_s) as process:
            return process.read_all(timeout_s)

    def push(self, data: bytes, path: str, *, mode: int = 0o644, timeout_s: float = 120.0) -> None:
        """Writes a file on the device, whole or not at all, and checks its size and sha256.

        Raises:
            DeviceFullError: If it does not fit.
            DeviceOutputError: If what arrived differs, or the device refuses the path.
        """
        part, target = shlex.quote(f"{path}.part"), shlex.quote(path)
        try:
            with FileService(self._connection, timeout_s) as service:
                service.push(data, f"{path}.part", mode)
        except DeviceOutputError as error:
            self.shell(f"rm -f {part}", timeout_s)
            if "No space left" in str(error):
                raise DeviceFullError(
                    f"device {self.serial!r} has no room for {path} ({len(data)} bytes): "
                    "free some; see: adb shell df /data"
                ) from error
            raise
        digest = hashlib.sha256(data).hexdigest()
        checked = self.shell(f"wc -c <{part} && sha256sum {part}", timeout_s)
        words = checked.stdout.split()
        if checked.exit_code or words[:2] != [str(len(data)), digest]:
            self.shell(f"rm -f {part}", timeout_s)
            raise DeviceOutputError(
                f"{path} arrived on device {self.serial!r} as {words[:1]} bytes with sha256 "
                f"{words[1:2]}, sent were {len(data)} with {digest}; {checked.stderr.strip()}"
            )
        moved = self.shell(f"mv {part} {target}", timeout_s)
        if moved.exit_code:
            raise DeviceOutputError(f"device {self.serial!r}: {moved.stderr.strip()}")

    def holds(self, data: bytes, path: str, *, timeout_s: float = 30.0) -> bool:
        """Whether a file on the device has this content."""
        if self.stat(path, timeout_s=timeout_s).size != len(data):
            return False
        seen = self.shell(f"sha256sum {shlex.quote(path)}", timeout_s).stdout.split()
        return seen[:1] == [hashlib.sha256(data).hexdigest()]

    def pull(self, path: str, *, timeout_s: float = 120.0) -> bytes:
        """Reads a file of the device.

        Raises:
            DeviceOutputError: If there is none, with the device's words.
        """
        with FileService(self._connection, timeout_s) as service:
            return service.pull(path)

    def stat(self, path: str, *, timeout_s: float = 30.0) -> FileStat:
        """Mode, size and time of a file; all zero where there is none."""
        with FileService(self._connection, timeout_s) as service:
            return service.stat(path)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()
