"""Reaches a device without an adb server: over TCP (`host:port`) or USB.

adb-shell gives the links and the signatures of keys. The conversation itself is held here, one
packet at a time with a deadline each, because adb-shell's own loses what a full socket does not
take, spins on a closed one, drops packets of a stream that is being written to, and waits 44 ms a
command for want of TCP_NODELAY.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ofa_hw.errors import DeviceNotFoundError, DeviceOutputError, DeviceTimeoutError, ProfilerError
from ofa_hw_profilers.adb.failures import lost, missing_library, unanswered_key
from ofa_hw_profilers.adb.links import Link, load_keys
from ofa_hw_profilers.adb.packets import Packet, PacketLink
from ofa_hw_profilers.adb.streams import Stream

try:
    from adb_shell import constants
except ImportError as error:
    raise missing_library("adb-shell", "adb") from error

_VERSION = 0x01000001  # of the protocol, the first without sums over the data
_MAX_DATA = 1 << 20
_BANNER = b"host::features=shell_v2,cmd,stat_v2\0"


class DirectConnection:
    """A conversation with a device's adbd (see `Connection`).

    Args:
        serial: What the user calls the device.
        link: What carries the packets.
        auth_timeout_s: How long its user may take to accept this machine's key.
        keys: Folder of the keys; `~/.android` by default.
    """

    is_served = False

    def __init__(
        self,
        serial: str,
        link: Link,
        *,
        timeout_s: float = 10.0,
        auth_timeout_s: float = 30.0,
        keys: Path | None = None,
    ) -> None:
        self.serial = serial
        self._streams: dict[int, _DirectStream] = {}
        self._next_id = 1
        self._max_data = 4096
        self._packets = PacketLink(serial, link, timeout_s=timeout_s)
        try:
            banner = self._shake_hands(timeout_s, auth_timeout_s, keys)
        except BaseException:
            with suppress(ProfilerError):
                self._packets.close()
            raise
        found = banner.partition(b"features=")[2].partition(b";")[0].strip(b"\0")
        self.features = frozenset(found.decode(errors="replace").split(","))

    def _shake_hands(self, timeout_s: float, auth_timeout_s: float, keys: Path | None) -> bytes:
        """Says hello and proves who asks; returns the device's banner."""
        deadline = time.monotonic() + timeout_s
        self._packets.write(constants.CNXN, _VERSION, _MAX_DATA, _BANNER, timeout_s=timeout_s)
        command, version, max_data, data = self._packets.read(deadline, timeout_s, "connecting")
        if command == constants.AUTH:
            key, signers = load_keys(keys)
            command, version, max_data, data = self._authorise(
                key, signers, data, timeout_s, auth_timeout_s
            )
        if command != constants.CNXN:
            raise DeviceOutputError(f"device {self.serial!r} answered {command!r} to a greeting")
        self._max_data = min(max_data, _MAX_DATA)
        self._packets.sends_sums = version < _VERSION
        return data

    def _authorise(
        self, key: Path, signers: Sequence[Any], token: bytes, timeout_s: float, wait_s: float
    ) -> Packet:
        """Signs the device's token with each key, then shows the first to its user."""
        for signer in signers:
            self._packets.write(
                constants.AUTH, constants.AUTH_SIGNATURE, 0, signer.Sign(token), timeout_s=timeout_s
            )
            deadline = time.monotonic() + timeout_s
            answer = self._packets.read(deadline, timeout_s, "checking a key")
            if answer.command == constants.CNXN:
                return answer
            token = answer.data
        public = (signers[0].GetPublicKey() or "").encode().strip() + b"\0"
        self._packets.write(
            constants.AUTH, constants.AUTH_RSAPUBLICKEY, 0, public, timeout_s=timeout_s
        )
        deadline = time.monotonic() + wait_s
        try:
            while True:
                answer = self._packets.read(deadline, wait_s, "asking its user")
                if answer.command == constants.CNXN:
                    return answer
        except DeviceTimeoutError as error:
            raise unanswered_key(self.serial, f"{key}.pub", wait_s) from error

    def open(self, service: str, timeout_s: float) -> Stream:
        """Opens a service of the device (see `Connection`)."""
        stream = _DirectStream(self, self._next_id)
        self._streams[self._next_id] = stream
        self._next_id += 1
        self._packets.write(
            constants.OPEN, stream.local_id, 0, service.encode() + b"\0", timeout_s=timeout_s
        )
        deadline = time.monotonic() + timeout_s
        while not stream.remote_id:
            if stream.ended:
                raise DeviceOutputError(
                    f"device {self.serial!r} refuses the service {service[:60]!r}"
                )
            self.pump(deadline, timeout_s, "opening a service")
        return stream

    def pump(self, deadline: float, timeout_s: float, doing: str) -> None:
        """Reads one packet and gives it to its stream."""
        command, remote_id, local_id, data = self._packets.read(deadline, timeout_s, doing)
        stream = self._streams.get(local_id)
        if stream is None:
            if command == constants.WRTE:  # of a stream closed meanwhile: end it there as well
                self._packets.write(constants.CLSE, local_id, remote_id, b"", timeout_s=timeout_s)
            return
        if command == constants.OKAY:
            stream.remote_id = remote_id
            stream.may_send = True
        elif command == constants.WRTE:
            stream.received.append(data)
        elif command == constants.CLSE:
            stream.ended = True

    def send_on(self, stream: _DirectStream, data: bytes, timeout_s: float) -> None:
        """Sends on a stream, each part once the device has taken the one before."""
        deadline = time.monotonic() + timeout_s
        for start in range(0, len(data), self._max_data):
            while not stream.may_send:
                if stream.ended:
                    raise lost(self.serial, "the device closed the stream")
                self.pump(deadline, timeout_s, "sending")
            stream.may_send = False
            part = data[start : start + self._max_data]
            self._packets.write(
                constants.WRTE, stream.local_id, stream.remote_id, part, timeout_s=timeout_s
            )

    def receive_on(self, stream: _DirectStream, timeout_s: float) -> bytes:
        """The stream's next bytes, and lets the device send more; none at its end."""
        deadline = time.monotonic() + timeout_s
        while not stream.received:
            if stream.ended:
                return b""
            self.pump(deadline, timeout_s, "reading")
        data = stream.received.popleft()
        if not stream.ended:
            self._packets.write(
                constants.OKAY, stream.local_id, stream.remote_id, b"", timeout_s=timeout_s
            )
        return data

    def close_stream(self, stream: _DirectStream) -> None:
        """Ends a stream here and there."""
        if self._streams.pop(stream.local_id, None) and stream.remote_id and not stream.ended:
            self._packets.write(constants.CLSE, stream.local_id, stream.remote_id, b"", timeout_s=5)

    def close(self) -> None:
        """Closes the link; the device ends what still runs."""
        self._streams.clear()
        self._packets.close()


class _DirectStream:
    """One service of a device among those of its connection."""

    def __init__(self, connection: DirectConnection, local_id: int) -> None:
        self._connection = connection
        self.local_id = local_id
        self.remote_id = 0
        self.may_send = False
        self.ended = False
        self.received: deque[bytes] = deque()

    def send(self, data: bytes, timeout_s: float) -> None:
        self._connection.send_on(self, data, timeout_s)

    def receive(self, timeout_s: float) -> bytes:
        return self._connection.receive_on(self, timeout_s)

    def close(self) -> None:
        with suppress(DeviceNotFoundError, DeviceTimeoutError):  # what broke ended the stream
            self._connection.close_stream(self)
