"""A command that runs on a device: adb's shell protocol version 2."""

from __future__ import annotations

import struct
import time
from typing import NamedTuple, Self

from ofa_hw_profilers.adb.failures import lost, silent
from ofa_hw_profilers.adb.streams import Stream

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)


class ShellResult(NamedTuple):
    """What a command on the device gave."""

    stdout: str
    stderr: str
    exit_code: int


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
