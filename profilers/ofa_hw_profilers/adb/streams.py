"""The seam between how bytes reach a device and what is said to it."""

from __future__ import annotations

from typing import Protocol


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
        is_served: Whether it leads through the adb server.
    """

    is_served: bool
    serial: str
    features: frozenset[str]

    def open(self, service: str, timeout_s: float) -> Stream:
        """Opens a service of the device, e.g. `sync:`."""
        ...

    def close(self) -> None:
        """Closes it and all its streams."""
        ...
