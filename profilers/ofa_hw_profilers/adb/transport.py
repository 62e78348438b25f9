"""A device as the profiler sees it: run a command, push, pull, look at a file.

How bytes reach the device is a `Connection`'s matter: through the adb server (server.py) or
directly over TCP or USB (direct.py). What is said over it is the same for both and lives here:
adb's shell protocol version 2, which tells stdout, stderr and exit code apart and kills the remote
process when its stream closes, and adb's file protocol.
"""

from __future__ import annotations

import hashlib
import shlex
import struct
import time
from itertools import islice
from typing import NamedTuple, Protocol, Self

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.failures import DeviceFullError, lost, silent

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_CHUNK = 64 << 10  # the most that adb's file protocol takes at once
_CHUNKS_AT_ONCE = 64
_REGULAR = 0o100000


class Stream(Protocol):
    """A service of the device, e.g. one running command: bytes both ways."""

    def send(self, data: bytes, timeout_s: float) -> None:
        """Sends all of `data`."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """Some bytes; none once the device has closed the stream."""
        ...

    def close(self) -> None:
        """Closes it, whatever happened before."""
        ...


class Connection(Protocol):
    """A way to a device.

    Attributes:
        serial: What the user calls the device.
        features: What its adbd can do, e.g. `shell_v2`.
    """

    serial: str
    features: frozenset[str]

    def open(self, service: str, timeout_s: float) -> Stream:
        """Opens a service of the device, e.g. `sync:`."""
        ...

    def close(self) -> None:
        """Closes it and all its streams."""
        ...


class ShellResult(NamedTuple):
    """What a command on the device gave."""

    stdout: str
    stderr: str
    exit_code: int


class FileStat(NamedTuple):
    """A file on the device."""

    mode: int
    size: int
    mtime_s: int


class Process:
    """A command that runs on the device; closing it kills it there.

    Attributes:
        exit_code: None while it runs.
    """

    def __init__(self, stream: Stream, serial: str) -> None:
        self._stream = stream
        self._serial = serial
        self._raw = bytearray()
        self._out = bytearray()
        self._err = bytearray()
        self.exit_code: int | None = None

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._err.decode(errors="replace")

    def write(self, data: bytes, timeout_s: float) -> None:
        """Writes to its stdin."""
        self._stream.send(struct.pack("<BI", _STDIN, len(data)) + data, timeout_s)

    def close_stdin(self, timeout_s: float) -> None:
        """Lets it read the end of its stdin."""
        self._stream.send(struct.pack("<BI", _CLOSE_STDIN, 0), timeout_s)

    def read_line(self, timeout_s: float) -> str | None:
        """Its next line, without the end of line; None once it has ended.

        Raises:
            DeviceTimeoutError: If no line comes in time.
            DeviceLostError: If the connection breaks before the process ends.
        """
        deadline = time.monotonic() + timeout_s
        while (end := self._out.find(b"\n")) < 0:
            if self.exit_code is not None:
                line, self._out = bytes(self._out), bytearray()
                return line.decode(errors="replace") if line else None
            self._receive(deadline, timeout_s)
        line = bytes(self._out[:end])
        del self._out[: end + 1]
        return line.decode(errors="replace")

    def read_all(self, timeout_s: float) -> ShellResult:
        """Waits for its end and returns all that is still to be read."""
        deadline = time.monotonic() + timeout_s
        while self.exit_code is None:
            self._receive(deadline, timeout_s)
        return ShellResult(self._out.decode(errors="replace"), self.stderr, self.exit_code)

    def _receive(self, deadline: float, timeout_s: float) -> None:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise silent(self._serial, "running a command", timeout_s)
        data = self._stream.receive(remaining_s)
        if not data:
            raise lost(self._serial, "the command's stream closed before its exit code came")
        self._raw += data
        while len(self._raw) >= 5:
            kind, size = struct.unpack_from("<BI", self._raw)
            if len(self._raw) < 5 + size:
                return
            payload = bytes(self._raw[5 : 5 + size])
            del self._raw[: 5 + size]
            if kind == _STDOUT:
                self._out += payload
            elif kind == _STDERR:
                self._err += payload
            elif kind == _EXIT:
                self.exit_code = payload[0]

    def close(self) -> None:
        """Ends it on the device if it still runs."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Runs commands on a device and moves files to and from it. For one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.serial = connection.serial
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
            self._send_file(data, f"{path}.part", mode, timeout_s)
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
        with _FileService(self._connection, timeout_s) as service:
            service.request(b"RECV", path.encode())
            content = bytearray()
            while True:
                kind, size = service.header()
                if kind == b"DONE":
                    return bytes(content)
                content += service.body(kind, size, path)

    def stat(self, path: str, *, timeout_s: float = 30.0) -> FileStat:
        """Mode, size and time of a file; all zero where there is none."""
        with _FileService(self._connection, timeout_s) as service:
            service.request(b"STAT", path.encode())
            kind = service.exactly(4)
            if kind != b"STAT":
                raise DeviceOutputError(f"{self.serial!r} answered {kind!r} to a stat of {path}")
            return FileStat(*struct.unpack("<3I", service.exactly(12)))

    def _send_file(self, data: bytes, path: str, mode: int, timeout_s: float) -> None:
        with _FileService(self._connection, timeout_s) as service:
            service.request(b"SEND", f"{path},{_REGULAR | mode}".encode())
            chunks = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
            while group := list(islice(chunks, _CHUNKS_AT_ONCE)):
                service.send(b"".join(b"DATA" + _size(chunk) + chunk for chunk in group))
            service.send(b"DONE" + struct.pack("<I", int(time.time())))
            kind, size = service.header()
            if kind != b"OKAY":
                service.body(kind, size, path)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class _FileService:
    """adb's file protocol, one request a stream."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._stream = connection.open("sync:", timeout_s)
        self._serial = connection.serial
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._received = bytearray()

    def __enter__(self) -> _FileService:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _remaining_s(self) -> float:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise silent(self._serial, "moving a file", self._timeout_s)
        return remaining_s

    def send(self, data: bytes) -> None:
        self._stream.send(data, self._remaining_s())

    def request(self, kind: bytes, body: bytes) -> None:
        self.send(kind + _size(body) + body)

    def exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self._stream.receive(self._remaining_s())
            if not data:
                raise lost(self._serial, "the file transfer ended early")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def header(self) -> tuple[bytes, int]:
        return self.exactly(4), struct.unpack("<I", self.exactly(4))[0]

    def body(self, kind: bytes, size: int, path: str) -> bytes:
        """The bytes of a DATA answer; a FAIL answer's words as an error."""
        if kind == b"DATA":
            return self.exactly(size)
        words = self.exactly(size).decode(errors="replace") if kind == b"FAIL" else repr(kind)
        raise DeviceOutputError(f"device {self._serial!r} refused {path}: {words}")


def _size(data: bytes) -> bytes:
    return struct.pack("<I", len(data))
