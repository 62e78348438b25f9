"""Both transports against a real adbd, and through a real adb server."""

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from loopback.device import Device, wait_for
from loopback.server import AdbServer

from ofa_hw.errors import (
    DeviceFullError,
    DeviceLostError,
    DeviceNotFoundError,
    DeviceOutputError,
    DeviceTimeoutError,
)
from ofa_hw_profilers.adb.connect import connect, reconnect
from ofa_hw_profilers.adb.direct import DirectConnection
from ofa_hw_profilers.adb.failures import usb_busy
from ofa_hw_profilers.adb.links import Link, TcpLink
from ofa_hw_profilers.adb.server import ServerConnection
from ofa_hw_profilers.adb.transport import Transport

pytestmark = pytest.mark.adbd


def test_a_command_gives_stdout_stderr_and_exit_code_apart(transport: Transport) -> None:
    assert transport.shell("echo out; echo err >&2; exit 7") == ("out\n", "err\n", 7)


def test_a_device_takes_connections_as_soon_as_it_is_up(device: Device) -> None:
    for _ in range(3):
        connect(device.serial).close()
        device.reboot()
        device.wait_until_up()


def test_output_larger_than_any_buffer_arrives_whole(transport: Transport) -> None:
    result = transport.shell("seq 400000; seq 400000 >&2")
    expected = "".join(f"{i}\n" for i in range(1, 400_001))
    assert result.stdout == expected
    assert result.stderr == expected


def test_commands_take_milliseconds_each(transport: Transport) -> None:
    started = time.perf_counter()
    for _ in range(20):
        transport.shell("true")
    assert (time.perf_counter() - started) / 20 < 0.04


def test_output_can_be_read_while_the_command_works(transport: Transport) -> None:
    with transport.start("while read line; do echo got $line; done; exit 3") as process:
        process.write(b"one\ntw", 5)
        assert process.read_line(5) == "got one"
        assert transport.shell("echo meanwhile").stdout == "meanwhile\n"
        process.write(b"o\n", 5)
        assert process.read_line(5) == "got two"
        process.close_stdin(5)
        assert process.read_line(5) is None
        assert process.exit_code == 3


def test_a_large_push_arrives_and_comes_back(transport: Transport) -> None:
    data = os.urandom(20 << 20)
    transport.push(data, "/data/local/tmp/big.bin", mode=0o755)
    assert transport.stat("/data/local/tmp/big.bin").size == len(data)
    assert transport.holds(data, "/data/local/tmp/big.bin")
    assert not transport.holds(data[:-1] + b"?", "/data/local/tmp/big.bin")
    assert transport.pull("/data/local/tmp/big.bin") == data
    assert transport.shell("test -x /data/local/tmp/big.bin").exit_code == 0


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1 << 20])
def test_pushes_of_every_size_arrive(transport: Transport, size: int) -> None:
    data = os.urandom(size)
    transport.push(data, "/data/local/tmp/file with 'quotes'")
    assert transport.pull("/data/local/tmp/file with 'quotes'") == data


def test_a_missing_file_is_named(transport: Transport) -> None:
    with pytest.raises(DeviceOutputError, match=r"/data/nothing: .*No such file"):
        transport.pull("/data/nothing")
    assert transport.stat("/data/nothing").size == 0


def test_a_push_damaged_on_the_device_is_refused(transport: Transport, device: Device) -> None:
    liar = "#!/system/bin/sh\\necho 0000 $1\\n"
    transport.shell(f"mkdir -p /system/bin; printf '{liar}' >/system/bin/sha256sum")
    transport.shell("chmod 755 /system/bin/sha256sum")
    with pytest.raises(DeviceOutputError, match="sha256"):
        transport.push(b"x" * 1000, "/data/local/tmp/x")
    assert device.listing() == []


@pytest.mark.parametrize("kind", ["direct", "server"])
def test_a_full_device_is_named_and_nothing_is_left_on_it(
    make_device: Callable[..., Device], kind: str, request: pytest.FixtureRequest
) -> None:
    device = make_device(data_size="2m")
    if kind == "server":
        request.getfixturevalue("adb_server").adb("connect", device.serial)
    transport = connect(device.serial)
    with pytest.raises(DeviceFullError, match=r"no room for /data/local/tmp/big .*df /data"):
        transport.push(os.urandom(4 << 20), "/data/local/tmp/big")
    assert device.listing() == []
    transport.push(b"small", "/data/local/tmp/small")
    transport.close()


def test_a_command_that_takes_too_long_is_killed_on_the_device(
    transport: Transport, device: Device
) -> None:
    with pytest.raises(DeviceTimeoutError, match=r"did not answer within 0\.\d+ s"):
        transport.shell("sleep 77", timeout_s=0.5)
    wait_for(lambda: not device.pids("sleep"), "an orphan is left")
    assert transport.shell("echo still here").stdout == "still here\n"


def test_a_closed_transport_leaves_no_process(transport: Transport, device: Device) -> None:
    process = transport.start("sleep 77")
    wait_for(lambda: bool(device.pids("sleep")), "it does not start")
    process.close()
    wait_for(lambda: not device.pids("sleep"), "an orphan is left")


@pytest.mark.parametrize("break_it", [lambda d: d.kill("adbd"), Device.cut, Device.reboot],
                         ids=["adbd killed", "cable pulled", "reboot"])  # fmt: skip
def test_a_connection_that_breaks_is_an_error_at_once_and_comes_back(
    transport: Transport,
    device: Device,
    break_it: Callable[[Device], object],
    request: pytest.FixtureRequest,
) -> None:
    with transport.start("echo ready; sleep 77") as process:
        assert process.read_line(5) == "ready"
        threading.Timer(0.3, break_it, [device]).start()
        started = time.perf_counter()
        with pytest.raises(DeviceLostError):
            process.read_line(20)
    assert time.perf_counter() - started < 5
    device.plug()
    device.wait_until_up()
    if "adb_server" in request.fixturenames:
        request.getfixturevalue("adb_server").adb("connect", device.serial)
    again = reconnect(device.serial, wait_s=15)
    assert again.shell("echo back").stdout == "back\n"
    again.close()


def test_a_frozen_cable_is_a_timeout_and_thaws(transport: Transport, device: Device) -> None:
    with transport.start("cat") as process:
        process.write(b"one\n", 5)
        assert process.read_line(5) == "one"
        device.freeze()
        process.write(b"two\n", 5)
        with pytest.raises(DeviceTimeoutError):
            process.read_line(0.5)
        device.thaw()
        assert process.read_line(10) == "two"


def test_a_push_over_a_frozen_cable_ends_in_time(transport: Transport, device: Device) -> None:
    device.freeze()
    started = time.perf_counter()
    with pytest.raises(DeviceTimeoutError):
        transport.push(os.urandom(40 << 20), "/data/local/tmp/x", timeout_s=1)
    assert time.perf_counter() - started < 8
    device.thaw()


def test_the_server_is_preferred_and_without_it_the_way_is_direct(
    device: Device, adb_server: AdbServer
) -> None:
    direct = connect(device.serial)
    assert isinstance(direct._connection, DirectConnection)
    direct.close()
    adb_server.adb("connect", device.serial)
    assert isinstance(connect(device.serial)._connection, ServerConnection)


def test_a_server_that_dies_is_an_error_and_no_other_is_started(
    device: Device, adb_server: AdbServer
) -> None:
    adb_server.adb("connect", device.serial)
    transport = connect(device.serial)
    adb_server.kill()
    with pytest.raises(DeviceLostError, match="adb start-server"):
        transport.shell("true")
    adb_server.start()
    adb_server.adb("connect", device.serial)
    assert transport.shell("echo back").stdout == "back\n"


@pytest.mark.parametrize("with_server", [False, True])
def test_an_unknown_serial_is_named(with_server: bool, request: pytest.FixtureRequest) -> None:
    if with_server:
        request.getfixturevalue("adb_server")
    remedy = "install libusb|enable USB debugging" if with_server else "adb start-server"
    with pytest.raises(DeviceNotFoundError, match=f"NOSUCHPHONE.*({remedy})"):
        connect("NOSUCHPHONE")


@pytest.mark.parametrize("with_server", [False, True])
def test_a_phone_that_the_server_held_is_left_to_it(
    with_server: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("ofa_hw_profilers.adb.connect.usb_link", asked.append)
    if with_server:
        request.getfixturevalue("adb_server")
    words = "server has no device" if with_server else "start it with: adb start-server"
    with pytest.raises(DeviceLostError, match=f"gave up after 0.6 s of waiting: .*{words}"):
        reconnect("NOSUCHPHONE", wait_s=0.6, was_served=True)
    assert asked == []


def test_a_phone_whose_usb_is_busy_is_waited_for(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [usb_busy("PHONE"), usb_busy("PHONE")]

    def link(_: str) -> Link:
        if busy:
            raise busy.pop()
        return TcpLink("127.0.0.1", device.port)

    monkeypatch.setattr("ofa_hw_profilers.adb.connect.usb_link", link)
    transport = reconnect("PHONE", wait_s=10)
    assert transport.shell("echo back").stdout == "back\n"
    transport.close()


def test_a_port_where_nothing_listens_says_how_to_open_it() -> None:
    with pytest.raises(DeviceNotFoundError, match="adb tcpip 5555"):
        connect("127.0.0.1:9")


def test_a_port_that_speaks_something_else_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with other.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request, whatever you want\r\n\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceNotFoundError, match=r"what it sends is no adb"):
            connect(f"127.0.0.1:{other.getsockname()[1]}", timeout_s=3)
        thread.join()


def test_two_devices_need_a_choice(
    make_device: Callable[..., Device], adb_server: AdbServer
) -> None:
    first, second = make_device(), make_device()
    adb_server.adb("connect", first.serial)
    transport = connect("any")
    assert transport.serial == first.serial
    adb_server.adb("connect", second.serial)
    with pytest.raises(DeviceNotFoundError, match=r"2 devices: .*--serial"):
        connect("any")


def test_an_offline_device_says_what_to_do(device: Device, adb_server: AdbServer) -> None:
    adb_server.adb("connect", device.serial)
    device.cut()
    wait_for(
        lambda: "offline" in adb_server.adb("devices") or device.serial not in
        adb_server.adb("devices"), "the server does not notice"
    )  # fmt: skip
    with pytest.raises(DeviceNotFoundError, match=r"offline: plug it in again|adb tcpip|broke"):
        connect(device.serial)
