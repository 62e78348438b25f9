"""Reaches devices through the adb server that already runs, by adbutils.

No USB conflict, many phones at once, and wireless debugging. A server is never started here: who
has none is reached directly.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from ofa_hw.errors import DeviceLostError
from ofa_hw_profilers.adb.failures import missing_library, server_failures, unusable
from ofa_hw_profilers.adb.streams import Stream

try:
    from adbutils import AdbClient
except ImportError as error:
    raise missing_library("adbutils", "adb") from error

_RECEIVE = 1 << 18


@dataclass(frozen=True, slots=True)
class ServerDevice:
    """A device as the adb server lists it."""

    serial: str
    state: str
    model: str


def server_address() -> tuple[str, int]:
    """Where the adb server listens, by the environment variables that adb itself reads."""
    host = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    return host, int(os.environ.get("ANDROID_ADB_SERVER_PORT", "5037"))


def server_runs() -> bool:
    """Whether an adb server listens."""
    try:
        socket.create_connection(server_address(), timeout=1).close()
    except OSError:
        return False
    return True


def server_devices() -> list[ServerDevice]:
    """All devices of the adb server, whatever their state; none if no server runs."""
    if not server_runs():
        return []
    with server_failures("any", "listing devices", 10):
        listed = AdbClient(*server_address(), socket_timeout=10).list(extended=True)
    return [ServerDevice(d.serial, d.state, d.tags.get("model", "unknown")) for d in listed]


class ServerConnection:
    """A device of the adb server (see `Connection`).

    Raises:
        DeviceLostError: If no server runs, or it has no such device.
        DeviceNotFoundError: If the device cannot be used in its state; says what to do.
    """

    is_served = True

    def __init__(self, serial: str, *, timeout_s: float = 10.0) -> None:
        self.serial = serial
        self._client = AdbClient(*server_address())
        state = next((d.state for d in server_devices() if d.serial == serial), None)
        if state is None and not server_runs():
            raise DeviceLostError("no adb server runs any more; start it with: adb start-server")
        if state is None:
            raise DeviceLostError(f"the adb server has no device {serial!r}; see: adb devices -l")
        if state != "device":
            raise unusable(serial, state)
        with server_failures(self.serial, "asking for features", timeout_s):
            device = self._client.device(serial)
            with device.open_transport("features", timeout=timeout_s) as connection:
                self.features = frozenset(connection.read_string_block().split(","))

    def open(self, service: str, timeout_s: float) -> Stream:
        """Opens a service of the device (see `Connection`)."""
        # adbutils starts a server of its own, or of another version, where none answers.
        if not server_runs():
            raise DeviceLostError("no adb server runs any more; start it with: adb start-server")
        with server_failures(self.serial, "opening a service", timeout_s):
            connection = self._client.device(self.serial).open_transport(timeout=timeout_s)
            try:
                connection.conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                encoded = service.encode()
                connection.conn.sendall(b"%04x" % len(encoded) + encoded)
                connection.check_okay()
            except BaseException:
                connection.conn.close()
                raise
        return _ServerStream(self.serial, connection.conn)

    def close(self) -> None:
        """Nothing is kept open between services."""


class _ServerStream:
    """A socket on which the adb server forwards one service."""

    def __init__(self, serial: str, sock: socket.socket) -> None:
        self._serial = serial
        self._socket = sock

    def send(self, data: bytes, timeout_s: float) -> None:
        with server_failures(self._serial, "sending", timeout_s):
            self._socket.settimeout(timeout_s)
            self._socket.sendall(data)

    def receive(self, timeout_s: float) -> bytes:
        with server_failures(self._serial, "reading", timeout_s):
            self._socket.settimeout(timeout_s)
            return self._socket.recv(_RECEIVE)

    def close(self) -> None:
        self._socket.close()
