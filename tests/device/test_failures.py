"""What the libraries raise, as sentences that say what to do."""

import pytest

from ofa_hw.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
    OfaHwError,
    ProfilerError,
)
from ofa_hw_profilers.adb.failures import direct_failures, server_failures, state_remedy

SERVER = {
    "unauthorized": (
        "device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set",
        DeviceUnauthorizedError,
        "accept the prompt",
    ),
    "offline": ("device offline", DeviceNotFoundError, "adb reconnect offline"),
    "authorizing": ("device still authorizing", DeviceNotFoundError, "asking its user"),
    "connecting": ("device still connecting", DeviceNotFoundError, "wait a little"),
    "no permissions": (
        "no permissions (missing udev rules? user is in the plugdev group)",
        DeviceNotFoundError,
        "udev rules",
    ),
    "several": ("more than one device/emulator", DeviceNotFoundError, "--serial"),
    "gone": ("device 'XYZ' not found", DeviceLostError, "adb devices -l"),
    "closed": ("closed", DeviceLostError, "check its cable"),
    "anything else": ("protocol fault (no status)", ProfilerError, "protocol fault"),
}


@pytest.mark.parametrize(("words", "kind", "remedy"), SERVER.values(), ids=SERVER.keys())
def test_the_servers_words_become_a_remedy(words: str, kind: type[OfaHwError], remedy: str) -> None:
    from adbutils.errors import AdbError

    with pytest.raises(kind, match=remedy), server_failures("XYZ", "connecting", 5):
        raise AdbError(words)


USB = {
    "USBErrorBusy": (DeviceNotFoundError, "free it with: adb kill-server"),
    "USBErrorAccess": (DeviceNotFoundError, "udev rules"),
    "USBErrorNoDevice": (DeviceLostError, "check its cable"),
    "USBErrorPipe": (DeviceLostError, "check its cable"),
}


@pytest.mark.parametrize(("name", "kind", "remedy"), [(n, *e) for n, e in USB.items()], ids=USB)
def test_what_usb_raises_becomes_a_remedy(name: str, kind: type[OfaHwError], remedy: str) -> None:
    usb1 = pytest.importorskip("usb1")
    with pytest.raises(kind, match=remedy), direct_failures("XYZ", "connecting", 5):
        raise getattr(usb1, name)


@pytest.mark.parametrize(
    ("name", "kind"), [("USBErrorTimeout", DeviceTimeoutError), ("USBErrorIO", DeviceLostError)]
)
def test_a_read_from_usb_that_fails_is_told_from_one_that_takes_long(
    name: str, kind: type[OfaHwError]
) -> None:
    from adb_shell.exceptions import UsbReadFailedError

    usb1 = pytest.importorskip("usb1")
    with pytest.raises(kind), direct_failures("XYZ", "reading", 5):
        raise UsbReadFailedError("cannot read", getattr(usb1, name)())


@pytest.mark.parametrize("state", ["recovery", "bootloader", "sideload", "connecting", "host"])
def test_every_state_has_a_remedy(state: str) -> None:
    assert "adb" in state_remedy(state) or "fastboot" in state_remedy(state)
    assert state_remedy("device") == ""
