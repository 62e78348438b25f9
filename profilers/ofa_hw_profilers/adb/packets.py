"""adb's packets over a link: written whole, read whole, with a deadline each."""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from ofa_hw.errors import DeviceUnauthorizedError
from ofa_hw_profilers.adb.failures import direct_failures, lost, missing_library, silent
from ofa_hw_profilers.adb.links import Link

try:
    from adb_shell import constants
except ImportError as error:
    raise missing_library("adb-shell", "adb") from error

_MASK = 0xFFFFFFFF
_STLS = 0x534C5453


class Packet(NamedTuple):
    """One packet; what its two arguments mean depends on the command."""

    command: bytes
    arg0: int
    arg1: int
    data: bytes


class PacketLink:
    """Packets both ways.

    Args:
        serial: What the user calls the device.
        link: What carries them.
        timeout_s: For opening it.

    Attributes:
        sends_sums: Whether the device wants sums over the data.
    """

    def __init__(self, serial: str, link: Link, *, timeout_s: float) -> None:
        self.serial = serial
        self.sends_sums = True  # until the device says that it needs none
        self._link = link
        self._partial = bytearray()
        self._closed = False
        with direct_failures(serial, "connecting", timeout_s):
            link.connect(timeout_s)

    def write(self, command: bytes, arg0: int, arg1: int, data: bytes, *, timeout_s: float) -> None:
        """Sends a packet."""
        if self._closed:
            raise lost(self.serial, "it was closed")
        code = constants.ID_TO_WIRE[command]
        check = sum(data) & _MASK if self.sends_sums else 0
        header = struct.pack("<6I", code, arg0, arg1, len(data), check, code ^ _MASK)
        with direct_failures(self.serial, "sending", timeout_s):
            self._link.bulk_write(header, timeout_s)
            if data:
                self._link.bulk_write(data, timeout_s)

    def read(self, deadline: float, timeout_s: float, doing: str) -> Packet:
        """The next packet. A timeout keeps what has come, so that the next read goes on there.

        Args:
            deadline: Until when, by `time.monotonic`.
            timeout_s: How long that was at first, for the error's words.
            doing: What this is for, for the error's words.
        """
        self._fill(constants.MESSAGE_SIZE, deadline, timeout_s, doing)
        command, arg0, arg1, size, _, _ = struct.unpack_from("<6I", self._partial)
        if command == _STLS:
            raise DeviceUnauthorizedError(
                f"{self.serial!r} speaks wireless debugging, which needs the adb server: "
                "adb pair HOST:PORT, then adb connect HOST:PORT"
            )
        if command not in constants.WIRE_TO_ID:
            raise lost(self.serial, f"what it sends is no adb: {bytes(self._partial[:8])!r}")
        end = constants.MESSAGE_SIZE + size
        self._fill(end, deadline, timeout_s, doing)
        data = bytes(self._partial[constants.MESSAGE_SIZE : end])
        del self._partial[:end]
        return Packet(constants.WIRE_TO_ID[command], arg0, arg1, data)

    def _fill(self, size: int, deadline: float, timeout_s: float, doing: str) -> None:
        if self._closed:
            raise lost(self.serial, "it was closed")
        while (missing := size - len(self._partial)) > 0:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise silent(self.serial, doing, timeout_s)
            with direct_failures(self.serial, doing, timeout_s):
                self._partial += self._link.bulk_read(missing, remaining_s)

    def close(self) -> None:
        """Closes the link."""
        self._closed = True
        with direct_failures(self.serial, "closing", 5):
            self._link.close()
