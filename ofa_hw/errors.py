"""The errors that ofa_hw raises on purpose.

```
OfaHwError
├── SpecError (ValueError)            a sub-network or an operator that no space contains
├── TableError                        a latency table cannot serve
│   ├── TableFormatError (ValueError) its file is not of a format this version reads
│   └── MissingOpError (LookupError)  it lacks operators of the network it is asked about
├── ProfilerError                     a device or a runtime cannot measure
│   ├── BackendUnavailableError       the backend is unknown or not installed
│   ├── DeviceNotFoundError           no such device
│   │   ├── DeviceLostError           it was there and is no more
│   │   └── DeviceUnauthorizedError   it has not agreed to be debugged by this machine
│   ├── DeviceTimeoutError (TimeoutError)  the device did not answer in time
│   ├── DeviceFullError               a file does not fit on the device
│   └── DeviceOutputError             the device answered what nobody can read
├── InfeasibleError                   no sub-network meets the constraints
├── ExportError                       a network cannot be written in a format
│   └── ParityError                   the written file computes something else
├── CheckpointError                   a file of weights is not what it should be
└── OutputExistsError                 a file is in the way and nobody said to replace it
```

Every message carries the value received and what to try next. The command line prints it as one
line and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ofa_hw.ops import OpSpec


class OfaHwError(Exception):
    """Base class of every error that ofa_hw raises on purpose."""


class SpecError(OfaHwError, ValueError):
    """A sub-network, an operator or a choice that the space does not contain."""


class TableError(OfaHwError):
    """A latency table cannot serve."""


class TableFormatError(TableError, ValueError):
    """A latency table's file is not of a format that this version reads."""


class MissingOpError(TableError, LookupError):
    """A latency table lacks operators of the network it is asked about.

    Attributes:
        missing: Every missing operator, sorted.
    """

    def __init__(self, table: str, missing: Iterable[OpSpec], *, remedy: str) -> None:
        self.missing = tuple(sorted(missing))
        named = ", ".join(str(op) for op in self.missing[:5])
        more = f" and {len(self.missing) - 5} more" if len(self.missing) > 5 else ""
        super().__init__(
            f"table {table!r} has no row for {len(self.missing)} of the network's operators: "
            f"{named}{more}; {remedy}"
        )


class ProfilerError(OfaHwError):
    """A device or a runtime cannot measure."""


class BackendUnavailableError(ProfilerError):
    """The backend is unknown here, or what it needs is not installed."""


class DeviceNotFoundError(ProfilerError):
    """There is no device of this name."""


class DeviceLostError(DeviceNotFoundError):
    """The device was there and is no more: a cable, a reboot, adbd or the adb server."""


class DeviceUnauthorizedError(DeviceNotFoundError):
    """The device is there and has not yet agreed to be debugged by this machine."""


class DeviceTimeoutError(ProfilerError, TimeoutError):
    """The device did not answer in time."""


class DeviceFullError(ProfilerError):
    """A file does not fit on the device."""


class DeviceOutputError(ProfilerError):
    """The device answered what cannot be read as a measurement."""


class InfeasibleError(OfaHwError):
    """No sub-network of the space meets the constraints."""


class ExportError(OfaHwError):
    """A network cannot be written in the format asked for."""


class ParityError(ExportError):
    """A written network computes something else than the one it was written from."""


class CheckpointError(OfaHwError):
    """A file of weights is damaged, or of another network."""


class OutputExistsError(OfaHwError):
    """A file is in the way, and nobody said to replace it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists; pass --force (in Python force=True) to replace it, or name another"
        )
