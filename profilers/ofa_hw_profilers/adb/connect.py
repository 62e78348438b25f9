"""Finds the way to a device by its serial: the adb server first, then TCP, then USB."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ofa_hw.errors import (
    BackendUnavailableError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
)
from ofa_hw_profilers.adb.direct import DirectConnection
from ofa_hw_profilers.adb.links import Link, TcpLink, usb_link, usb_serials
from ofa_hw_profilers.adb.streams import Connection
from ofa_hw_profilers.adb.transport import Transport

if TYPE_CHECKING:
    from ofa_hw_profilers.adb.server import ServerDevice

ANY = "any"


def connect(serial: str, *, timeout_s: float = 10.0, auth_timeout_s: float = 30.0) -> Transport:
    """Connects to a device.

    Args:
        serial: As `adb devices` lists it, `host:port`, or `any` for the only device there is.
        timeout_s: For each answer of the device.
        auth_timeout_s: How long its user may take to accept this machine's key.

    Raises:
        DeviceNotFoundError: If it is not there, or not usable as it is; says what to do.
    """
    return Transport(_connection(serial, timeout_s, auth_timeout_s))


def reconnect(
    serial: str,
    *,
    wait_s: float,
    was_served: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Transport:
    """Connects to a device that went away, as soon as it is back.

    Args:
        serial: Of the device.
        wait_s: How long to wait for it.
        was_served: Whether it was reached through the adb server. Then a phone on USB is left to
            it, also while the server restarts and has not found it yet. One that has an address
            may be reached directly: a restarted server does not look for it.
        sleep: Waits some seconds.
        clock: Tells the seconds since any moment.

    Raises:
        DeviceNotFoundError: If it has not come back within `wait_s`; the last attempt's error.
    """
    deadline = clock() + wait_s
    while True:
        try:
            if was_served and not split_address(serial):
                transport = Transport(_served(serial, 10.0))
            else:
                transport = connect(serial)
            transport.shell("true", 10)
            return transport
        except DeviceUnauthorizedError:
            raise
        except (DeviceNotFoundError, DeviceTimeoutError) as error:
            if clock() >= deadline:
                raise type(error)(f"gave up after {wait_s:g} s of waiting: {error}") from error
        sleep(0.5)


def split_address(serial: str) -> tuple[str, int] | None:
    """Host and port of a serial that is an address; None for other serials."""
    found = re.fullmatch(r"\[?([^\s\[\]]+?)\]?:(\d{1,5})", serial)
    return (found[1], int(found[2])) if found else None


def served_devices() -> list[ServerDevice]:
    """Devices of the adb server, whatever their state; none where adbutils is not installed."""
    try:
        from ofa_hw_profilers.adb.server import server_devices
    except BackendUnavailableError:
        return []
    return server_devices()


def _connection(serial: str, timeout_s: float, auth_timeout_s: float) -> Connection:
    served = [device.serial for device in served_devices()]
    if serial == ANY:
        serial = _only(sorted({*served, *usb_serials()}))
    if serial in served:
        return _served(serial, timeout_s)
    address = split_address(serial)
    link = TcpLink(*address) if address else _usb_link(serial)
    return DirectConnection(serial, link, timeout_s=timeout_s, auth_timeout_s=auth_timeout_s)


def _served(serial: str, timeout_s: float) -> Connection:
    from ofa_hw_profilers.adb.server import ServerConnection

    return ServerConnection(serial, timeout_s=timeout_s)


def _usb_link(serial: str) -> Link:
    """The USB link to a phone that no adb server lists."""
    try:
        return usb_link(serial)
    except DeviceNotFoundError as error:
        hint = "adb start-server"
        if hint in str(error) or _server_runs():
            raise
        raise DeviceNotFoundError(f"{error}; no adb server runs; start one: {hint}") from error


def _server_runs() -> bool:
    try:
        from ofa_hw_profilers.adb.server import server_runs
    except BackendUnavailableError:
        return False
    return server_runs()


def _only(serials: list[str]) -> str:
    if len(serials) == 1:
        return serials[0]
    if serials:
        raise DeviceNotFoundError(
            f"there are {len(serials)} devices: {', '.join(serials)}; choose with --serial"
        )
    raise DeviceNotFoundError(
        "no device found: enable USB debugging on it and plug it in, or name it as "
        "--serial host:port; if adb knows it, run: adb start-server"
    )
