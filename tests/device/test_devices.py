"""What `ofa-hw devices` lists."""

from collections.abc import Callable

import pytest
from loopback.device import Device, wait_for
from loopback.server import AdbServer

from ofa_hw.errors import DeviceNotFoundError
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.devices import list_devices

pytestmark = pytest.mark.adbd


def test_no_device_is_an_empty_list() -> None:
    assert list_devices() == []


def test_devices_of_the_server_and_addresses_are_described(
    make_device: Callable[..., Device], adb_server: AdbServer
) -> None:
    served, direct = make_device(), make_device(clusters=((2, 2_000_000),))
    adb_server.adb("connect", served.serial)
    first, second, third = list_devices([served.serial, direct.serial, "127.0.0.1:9"])
    assert (first.serial, first.reached, first.state) == (served.serial, "server", "device")
    assert (first.name, first.soc, first.android) == ("ofa_hw Loopback 1", "Debian trixie", "13")
    assert (first.cores, first.big_cores, first.abi) == (2, 1, "x86_64")
    assert (second.serial, second.reached, second.big_cores) == (direct.serial, "tcp", 0)
    assert third.state == "unreachable"
    assert "adb tcpip 5555" in third.remedy


def test_a_device_that_went_offline_is_listed_with_its_remedy(
    device: Device, adb_server: AdbServer
) -> None:
    adb_server.adb("connect", device.serial)
    device.cut()
    wait_for(lambda: "offline" in adb_server.adb("devices"), "the server does not notice")
    (listed,) = list_devices()
    assert (listed.serial, listed.state) == (device.serial, "offline")
    assert "adb reconnect offline" in listed.remedy


def test_without_a_device_the_only_one_is_asked_for() -> None:
    with pytest.raises(DeviceNotFoundError, match=r"USB debugging.*adb start-server"):
        connect("any")
