"""What a device is: model, processor, clusters of cores, Android; asked in one command."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ofa_hw.errors import ProfilerError
from ofa_hw_profilers.adb.transport import Transport

UNKNOWN = "unknown"
_PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "soc_maker": "ro.soc.manufacturer",
    "soc": "ro.soc.model",
    "platform": "ro.board.platform",
    "android": "ro.build.version.release",
    "sdk": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
    "build": "ro.build.fingerprint",
}
# A Linux board that runs adbd has no getprop; what it lacks stays unknown.
_QUESTION = (
    "".join(f'echo "{name}=$(getprop {key} 2>/dev/null)"; ' for name, key in _PROPERTIES.items())
    + "".join(
        f'echo "serial=$({how} 2>/dev/null)"; '
        for how in (
            "cat /proc/device-tree/serial-number",
            "getprop ro.boot.serialno",
            "getprop ro.serialno",  # the last one that says something counts
        )
    )
    + 'echo "kernel=$(uname -r)"; echo "machine=$(uname -m)"; '
    "for l in /system/bin/linker*; do [ -e $l ] && echo libc=android; done; "
    'echo "memory=$(grep MemTotal: /proc/meminfo)"; '
    'echo "board=$(cat /proc/device-tree/model 2>/dev/null)"; '
    'for c in /sys/devices/system/cpu/cpu[0-9]*; do echo "cpu ${c##*/cpu}'
    " $(cat $c/cpufreq/cpuinfo_max_freq 2>/dev/null || echo 0)"
    ' $(cat $c/cpufreq/related_cpus 2>/dev/null || echo ${c##*/cpu})"; done'
)
_ABIS = {
    "x86_64": "x86_64",
    "aarch64": "arm64-v8a",
    "armv7l": "armeabi-v7a",
    "armv8l": "armeabi-v7a",
}


@dataclass(frozen=True, slots=True, order=True)
class Cluster:
    """Cores that share a clock.

    Attributes:
        max_khz: The highest frequency it can have; 0 if unknown.
        cpus: Their numbers.
    """

    max_khz: int
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a device says of itself; `unknown` where it says nothing.

    Attributes:
        details: All of it by name, for a table's header.
        clusters: Its cores, slowest cluster first.
        unit: Tells it from others of its model: a digest of its serial number, which is nobody
            else's business.
    """

    details: dict[str, str]
    clusters: tuple[Cluster, ...]
    unit: str = UNKNOWN

    @property
    def name(self) -> str:
        """Maker and model, e.g. `Google Pixel 8`."""
        maker, model = self.details["manufacturer"], self.details["model"]
        if model == UNKNOWN:
            board = self.details["board"]
            return board if board != UNKNOWN else f"{self.details['machine']} device"
        return model if maker == UNKNOWN or model.startswith(maker) else f"{maker} {model}"

    @property
    def soc(self) -> str:
        """Maker and model of its processor."""
        maker, model = self.details["soc_maker"], self.details["soc"]
        if model == UNKNOWN:
            return self.details["platform"]
        return model if maker == UNKNOWN else f"{maker} {model}"

    @property
    def abi(self) -> str:
        """Android's name of its instruction set, e.g. `arm64-v8a`."""
        said, machine = self.details["abi"], self.details["machine"]
        return said if said != UNKNOWN else _ABIS.get(machine, machine)

    @property
    def cores(self) -> int:
        """Number of its cores."""
        return sum(len(cluster.cpus) for cluster in self.clusters)

    def pick_cores(self, wanted: str) -> tuple[int, ...]:
        """The cores that `big`, `little`, `any` or a list such as `4-6,7` stands for.

        Big are all clusters but the slowest; of two clusters, the faster.

        Raises:
            ProfilerError: If the device has no such cores.
        """
        every = sorted(cpu for cluster in self.clusters for cpu in cluster.cpus)
        speeds = sorted({cluster.max_khz for cluster in self.clusters})
        if wanted == "any":
            return ()
        if wanted in ("big", "little"):
            if len(speeds) < 2:
                raise ProfilerError(
                    f"{self.name} has no big and little cores ({self.cores} of {speeds or 'no'} "
                    "kHz); leave the setting cores at 'any', or list cores"
                )
            slowest = wanted == "little"
            return tuple(
                cpu
                for cpu in every
                for cluster in self.clusters
                if cpu in cluster.cpus and (cluster.max_khz == speeds[0]) == slowest
            )
        cpus = parse_cpu_list(wanted)
        if not cpus or set(cpus) - set(every):
            raise ProfilerError(
                f"cores cannot be {wanted!r} on {self.name}, which has {every}; "
                "choose big, little, any or a list such as 4-7"
            )
        return cpus


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The numbers in a list such as `0-3,6`; none of what is no such list."""
    cpus: list[int] = []
    for part in re.split(r"[,\s]+", text.strip()):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not found:
            return ()
        cpus += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(sorted(set(cpus)))


def cpu_mask(cpus: Sequence[int]) -> str:
    """Cores as the hexadecimal mask that `taskset` takes."""
    return f"{sum(1 << cpu for cpu in cpus):x}"


def read_facts(transport: Transport) -> DeviceFacts:
    """Asks a device what it is."""
    return parse_facts(transport.shell(_QUESTION, 30).stdout)


def parse_facts(text: str) -> DeviceFacts:
    """Reads the answer to the one question."""
    asked = (*_PROPERTIES, "kernel", "machine", "memory", "board", "serial")
    details = {name: UNKNOWN for name in asked}
    details["libc"] = "linux"
    clusters: dict[tuple[int, ...], int] = {}
    for line in text.splitlines():
        if found := re.fullmatch(r"cpu (\d+) (\d+) (.+)", line):
            cpus = parse_cpu_list(found[3]) or (int(found[1]),)
            clusters[cpus] = max(clusters.get(cpus, 0), int(found[2]))
        else:
            name, _, value = line.partition("=")
            if name in details and value.strip("\0 "):
                details[name] = value.strip("\0 ")
    if found := re.search(r"(\d+) kB", details.pop("memory")):
        details["memory_mib"] = str(int(found[1]) // 1024)
    ordered = sorted(Cluster(max_khz, cpus) for cpus, max_khz in clusters.items())
    details["clusters"] = " ".join(
        f"{len(c.cpus)}x{c.max_khz // 1000 or UNKNOWN}MHz" for c in ordered
    )
    serial = details.pop("serial")
    return DeviceFacts(
        details,
        tuple(ordered),
        UNKNOWN if serial == UNKNOWN else short_sha256(serial.encode()),
    )


def short_sha256(data: bytes) -> str:
    """Enough of a digest to tell things from each other."""
    return hashlib.sha256(data).hexdigest()[:12]
