"""Files of a device: adb's file protocol, one request a stream."""

from __future__ import annotations

import struct
import time
from itertools import islice
from typing import NamedTuple

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.failures import lost, silent
from ofa_hw_profilers.adb.streams import Connection

_CHUNK = 64 << 10  # the most that the protocol takes at once
_CHUNKS_AT_ONCE = 64
_REGULAR = 0o100000


class FileStat(NamedTuple):
    """A file on the device."""

    mode: int
    size: int
    mtime_s: int


class FileService:
    """One request to the device's file service, and the time that it may take.

    Raises:
        DeviceOutputError: From each request that the device refuses, with its words.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._stream = connection.open("sync:", timeout_s)
        self._serial = connection.serial
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._received = bytearray()

    def __enter__(self) -> FileService:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def push(self, data: bytes, path: str, mode: int) -> None:
        """Writes a file."""
        self._request(b"SEND", f"{path},{_REGULAR | mode}".encode())
        chunks = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
        while group := list(islice(chunks, _CHUNKS_AT_ONCE)):
            self._send(b"".join(b"DATA" + _size(chunk) + chunk for chunk in group))
        self._send(b"DONE" + struct.pack("<I", int(time.time())))
        kind, size = self._header()
        if kind != b"OKAY":
            self._body(kind, size, path)

    def pull(self, path: str) -> bytes:
        """Reads a file."""
        self._request(b"RECV", path.encode())
        content = bytearray()
        while True:
            kind, size = self._header()
            if kind == b"DONE":
                return bytes(content)
            content += self._body(kind, size, path)

    def stat(self, path: str) -> FileStat:
        """Looks at a file; all zero where there is none."""
        self._request(b"STAT", path.encode())
        kind = self._exactly(4)
        if kind != b"STAT":
            raise DeviceOutputError(f"{self._serial!r} answered {kind!r} to a stat of {path}")
        return FileStat(*struct.unpack("<3I", self._exactly(12)))

    def _remaining_s(self) -> float:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise silent(self._serial, "moving a file", self._timeout_s)
        return remaining_s

    def _send(self, data: bytes) -> None:
        self._stream.send(data, self._remaining_s())

    def _request(self, kind: bytes, body: bytes) -> None:
        self._send(kind + _size(body) + body)

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self._stream.receive(self._remaining_s())
            if not data:
                raise lost(self._serial, "the file transfer ended early")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _header(self) -> tuple[bytes, int]:
        return self._exactly(4), struct.unpack("<I", self._exactly(4))[0]

    def _body(self, kind: bytes, size: int, path: str) -> bytes:
        """The bytes of a DATA answer; a FAIL answer's words as an error."""
        if kind == b"DATA":
            return self._exactly(size)
        words = self._exactly(size).decode(errors="replace") if kind == b"FAIL" else repr(kind)
        raise DeviceOutputError(f"device {self._serial!r} refused {path}: {words}")


def _size(data: bytes) -> bytes:
    return struct.pack("<I", len(data))
