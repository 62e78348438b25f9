"""What carries adb's packets without an adb server, TCP or USB, and this machine's keys."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, Protocol

from ofa_hw.errors import DeviceNotFoundError
from ofa_hw_profilers.adb.failures import direct_failures, missing_library

try:
    from adb_shell.auth.keygen import keygen
    from adb_shell.auth.sign_pythonrsa import PythonRSASigner
    from adb_shell.exceptions import TcpTimeoutException
    from adb_shell.transport.tcp_transport import TcpTransport
except ImportError as error:
    raise missing_library("adb-shell", "adb") from error


class Link(Protocol):
    """What carries packets: adb-shell's transports, over TCP or USB."""

    def connect(self, transport_timeout_s: float) -> None:
        """Opens it."""
        ...

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        """Reads some bytes, at least one."""
        ...

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        """Writes all."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


class TcpLink(TcpTransport):  # type: ignore[misc]
    """adb-shell's TCP transport that sends at once and all, and notices a closed socket."""

    def connect(self, transport_timeout_s: float) -> None:
        """Opens it, without waiting to fill packets."""
        super().connect(transport_timeout_s)
        assert self._connection is not None  # adb-shell has just opened it
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        """Reads some bytes, at least one."""
        data: bytes = super().bulk_read(numbytes, transport_timeout_s)
        if not data:
            raise ConnectionResetError("it closed the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        """Writes all, in as many parts as the socket takes."""
        deadline = time.monotonic() + transport_timeout_s
        sent, view = 0, memoryview(data)
        while sent < len(view):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise TcpTimeoutException("sending")
            sent += super().bulk_write(view[sent:], remaining_s)
        return sent


def usb_link(serial: str) -> Link:
    """The USB transport of a phone.

    Raises:
        DeviceNotFoundError: If there is none of this serial.
    """
    try:
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise DeviceNotFoundError(
            f"device {serial!r} is unknown to an adb server, and USB cannot be searched for it: "
            f"{error}; run: adb start-server, or install libusb-1.0-0"
        ) from error
    with direct_failures(serial, "looking for it on USB", 10):
        link: Link = UsbTransport.find_adb(serial)
        return link


def usb_serials() -> list[str]:
    """Serials of phones on USB that offer adb; none where USB cannot be searched."""
    try:
        from adb_shell.transport.usb_transport import UsbTransport

        return sorted(found.serial_number for found in UsbTransport.find_all_adb_devices())
    except Exception:  # libusb absent, or no permission: then there is nothing to list
        return []


def load_keys(folder: Path | None = None) -> tuple[Path, list[Any]]:
    """This machine's adb keys, made if there are none: the first one's path, and signers."""
    folder = folder or Path(os.environ.get("ANDROID_USER_HOME", Path.home() / ".android"))
    vendor = os.environ.get("ADB_VENDOR_KEYS", "").split(os.pathsep)
    paths = [folder / "adbkey", *(Path(path) for path in vendor if path)]
    if not paths[0].exists():
        folder.mkdir(parents=True, exist_ok=True)
        keygen(str(paths[0]))
        paths[0].chmod(0o600)
    signers = []
    for path in paths:
        public = path.with_name(path.name + ".pub")
        if path.is_file():
            signers.append(
                PythonRSASigner(public.read_text() if public.exists() else "", path.read_text())
            )
    return paths[0], signers
