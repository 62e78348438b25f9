"""Lists the devices that can be profiled, and says of the others what to do about them."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_hw.errors import BackendUnavailableError, DeviceUnauthorizedError, OfaHwError
from ofa_hw.profiling import ListedDevice
from ofa_hw_profilers.adb.connect import connect, served_devices
from ofa_hw_profilers.adb.facts import read_facts
from ofa_hw_profilers.adb.failures import state_remedy
from ofa_hw_profilers.adb.links import usb_serials


def list_devices(
    addresses: Sequence[str] = (), *, auth_timeout_s: float = 10.0
) -> list[ListedDevice]:
    """Lists the adb server's devices, phones on USB that it does not hold, and addresses.

    Args:
        addresses: `host:port` of further devices.
        auth_timeout_s: How long the user of each may take to accept this machine's key.
    """
    served = served_devices()
    listed = [
        ListedDevice(d.serial, "server", d.state, state_remedy(d.state), name=d.model)
        if d.state != "device"
        else _describe(d.serial, "server", auth_timeout_s)
        for d in served
    ]
    known = {device.serial for device in listed}
    listed += [_describe(s, "usb", auth_timeout_s) for s in usb_serials() if s not in known]
    listed += [_describe(a, "tcp", auth_timeout_s) for a in addresses if a not in known]
    return listed


def _describe(serial: str, reached: str, auth_timeout_s: float) -> ListedDevice:
    try:
        transport = connect(serial, auth_timeout_s=auth_timeout_s)
    except DeviceUnauthorizedError as error:
        return ListedDevice(serial, reached, "unauthorized", str(error))
    except BackendUnavailableError:
        raise
    except OfaHwError as error:
        return ListedDevice(serial, reached, "unreachable", str(error))
    try:
        facts = read_facts(transport)
    except OfaHwError as error:
        return ListedDevice(serial, reached, "unreachable", str(error))
    finally:
        transport.close()
    slowest = facts.clusters[0].max_khz if facts.clusters else 0
    return ListedDevice(
        serial,
        reached,
        "device",
        name=facts.name,
        soc=facts.soc,
        android=facts.details["android"],
        abi=facts.abi,
        cores=facts.cores,
        big_cores=sum(len(c.cpus) for c in facts.clusters if c.max_khz > slowest),
    )
