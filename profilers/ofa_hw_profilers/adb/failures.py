"""What goes wrong between this machine and a device, in sentences that say what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ofa_hw.errors import (
    BackendUnavailableError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
    ProfilerError,
)

STATES = {
    "unauthorized": "unlock it and accept the prompt 'Allow USB debugging?' on its screen",
    "authorizing": "it is asking its user; accept the prompt 'Allow USB debugging?' on its screen",
    "connecting": "the adb server has just found it; wait a little, or run: adb reconnect",
    "offline": "plug it in again, or run: adb reconnect offline",
    "no permissions": "this user may not open its USB port; install the udev rules of "
    "android-sdk-platform-tools-common and plug it in again",
    "recovery": "it is in recovery; boot it into Android: adb reboot",
    "bootloader": "it is in its bootloader; boot it into Android: fastboot reboot",
    "sideload": "it waits for an update; boot it into Android: adb reboot",
}


def state_remedy(state: str) -> str:
    """What to do about a device in a state of adb's; empty for a device that can be used."""
    if state == "device":
        return ""
    return next(
        (remedy for name, remedy in STATES.items() if state.startswith(name)),
        "plug it in again, or run: adb reconnect",
    )


def unusable(serial: str, state: str) -> DeviceNotFoundError:
    """The error for a device that adb lists in a state other than `device`."""
    kind = DeviceUnauthorizedError if state.startswith("unauth") else DeviceNotFoundError
    return kind(f"device {serial!r} is {state}: {state_remedy(state)}")


def unanswered_key(serial: str, key: str, wait_s: float) -> DeviceUnauthorizedError:
    """The error for a device whose user said no, or nothing, to this machine's key."""
    return DeviceUnauthorizedError(
        f"device {serial!r} did not accept this machine's key {key} within {wait_s:g} s: "
        f"{STATES['unauthorized']}, then run this again"
    )


def usb_busy(serial: str) -> DeviceNotFoundError:
    """The error for a phone whose USB interface another program holds, maybe for a moment only."""
    return DeviceNotFoundError(
        f"another program holds the USB interface of {serial!r}, usually an adb server that "
        "does not serve it; free it with: adb kill-server"
    )


def lost(serial: str, cause: object) -> DeviceLostError:
    """The error for a connection that broke."""
    return DeviceLostError(
        f"the connection to device {serial!r} broke ({cause}): check its cable and that it is on"
    )


def silent(serial: str, doing: str, timeout_s: float) -> DeviceTimeoutError:
    """The error for an answer that did not come."""
    return DeviceTimeoutError(
        f"device {serial!r} did not answer within {timeout_s:.3g} s while {doing}; "
        "check that it is awake and its cable is good"
    )


@contextmanager
def server_failures(serial: str, doing: str, timeout_s: float) -> Iterator[None]:
    """Turns what adbutils and its sockets raise into the project's errors."""
    from adbutils.errors import AdbConnectionError, AdbError, AdbTimeout

    try:
        yield
    except (AdbTimeout, TimeoutError) as error:
        raise silent(serial, doing, timeout_s) from error
    except AdbConnectionError as error:
        raise DeviceLostError(
            f"the adb server does not answer ({error}): start it with: adb start-server"
        ) from error
    except AdbError as error:
        raise _from_server(serial, str(error)) from error
    except (OSError, EOFError, ValueError) as error:  # ValueError: a length cut short
        raise lost(serial, error) from error


def _from_server(serial: str, words: str) -> ProfilerError:
    """The adb server's own words, e.g. `device 'XYZ' not found`, as an error."""
    lower = words.lower()
    for state in ("unauthorized", "authorizing", "connecting", "offline", "no permissions"):
        if state in lower:
            return unusable(serial, state)
    if "more than one" in lower:
        return DeviceNotFoundError(f"several devices answer to {serial!r}; name one with --serial")
    if "not found" in lower or "no devices" in lower:
        return DeviceLostError(f"the adb server has no device {serial!r}; see: adb devices -l")
    if "closed" in lower or "unknown data: b''" in lower:
        return lost(serial, words)
    return ProfilerError(f"the adb server refused for device {serial!r}: {words}")


@contextmanager
def direct_failures(serial: str, doing: str, timeout_s: float) -> Iterator[None]:
    """Turns what adb-shell, libusb and sockets raise into the project's errors."""
    from adb_shell import exceptions

    try:
        yield
    except (exceptions.TcpTimeoutException, exceptions.AdbTimeoutError, TimeoutError) as error:
        raise silent(serial, doing, timeout_s) from error
    except (exceptions.UsbReadFailedError, exceptions.UsbWriteFailedError) as error:
        cause = getattr(error, "usb_error", None) or error.__cause__ or error.__context__
        if type(cause).__name__ == "USBErrorTimeout":
            raise silent(serial, doing, timeout_s) from error
        raise lost(serial, error) from error
    except exceptions.UsbDeviceNotFoundError as error:
        raise DeviceNotFoundError(
            f"no device {serial!r} on USB; enable USB debugging on it and plug it in"
        ) from error
    except (exceptions.InvalidCommandError, exceptions.InvalidChecksumError) as error:
        raise lost(serial, f"what it sends is no adb: {error}") from error
    except socket.gaierror as error:
        raise DeviceNotFoundError(f"no host of the name in {serial!r}: {error}") from error
    except ConnectionRefusedError as error:
        raise DeviceLostError(
            f"nothing listens at {serial!r}; enable it on the device with: adb tcpip 5555"
        ) from error
    except OSError as error:
        raise lost(serial, error) from error
    except Exception as error:
        # libusb's errors have a base class of their own, in a module that may be absent.
        name = type(error).__name__
        if name == "USBErrorBusy":
            raise usb_busy(serial) from error
        if name == "USBErrorAccess":
            raise unusable(serial, "no permissions") from error
        if name.startswith("USBError"):
            raise lost(serial, error) from error
        raise


def missing_library(what: str, extra: str) -> BackendUnavailableError:
    """The error for a library that is not installed."""
    return BackendUnavailableError(f"{what} is not installed; pip install 'ofa-hw[{extra}]'")
