"""How a device is doing: heat, frequencies, battery, screen; and whether it is throttled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ofa_hw_profilers.adb.transport import Transport

UNKNOWN = "unknown"
_QUESTION = (
    "dumpsys thermalservice 2>/dev/null | grep -E 'Thermal Status|mName=skin'; "
    "dumpsys battery 2>/dev/null | grep -E 'level|temperature|powered: true'; "
    "dumpsys power 2>/dev/null | grep -E 'Display Power: state|mWakefulness=' | head -n 2; "
    "for p in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do "
    'echo "freq ${p%/cpufreq} $(cat $p/scaling_max_freq 2>/dev/null) '
    '$(cat $p/scaling_cur_freq 2>/dev/null) $(cat $p/scaling_governor 2>/dev/null)"; done; '
    'for z in /sys/class/thermal/thermal_zone*; do echo "zone $(cat $z/type 2>/dev/null) '
    '$(cat $z/temp 2>/dev/null)"; done; echo "load $(cat /proc/loadavg)"'
)
_THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A device at one moment. What it does not tell is None or missing, never 0.

    Attributes:
        thermal_status: Android's, 0 (none) to 6 (shutdown).
        max_khz: Highest frequency that each core may have now, by core.
        current_khz: Frequency of each core, by core.
        details: For a table's header: battery, screen, governor, temperatures, load.
    """

    thermal_status: int | None = None
    max_khz: Mapping[int, int] = field(default_factory=dict)
    current_khz: Mapping[int, int] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def throttled_since(self, start: Snapshot) -> str:
        """Why the device is throttled, compared with a start; empty if it is not."""
        if self.thermal_status:
            name = _THERMAL_STATUS[min(self.thermal_status, len(_THERMAL_STATUS) - 1)]
            return f"thermal status {self.thermal_status} ({name})"
        for cpu, before in start.max_khz.items():
            now = self.max_khz.get(cpu, before)
            if now < before:
                return f"core {cpu} limited to {now // 1000} of {before // 1000} MHz"
        return ""

    def changed_since(self, start: Snapshot) -> str:
        """What else is no longer as it was at a start and may change a latency; else empty."""
        changes = []
        for name in ("screen", "power"):
            before, now = start.details.get(name, UNKNOWN), self.details.get(name, UNKNOWN)
            if UNKNOWN not in (before, now) and now != before:
                changes.append(f"{name} {now}, at the start {before}")
        return "; ".join(changes)


def take_snapshot(transport: Transport) -> Snapshot:
    """Asks a device how it is doing."""
    return parse_snapshot(transport.shell(_QUESTION, 30).stdout)


def parse_snapshot(text: str) -> Snapshot:
    """Reads the answer to the one question."""
    status = re.search(r"Thermal Status: (\d+)", text)
    max_khz, current_khz, governors = {}, {}, []
    for found in re.finditer(r"^freq \S*cpu(\d+) (\d*) (\d*) ?(\w*)$", text, re.M):
        cpu = int(found[1])
        if found[2]:
            max_khz[cpu] = int(found[2])
        if found[3]:
            current_khz[cpu] = int(found[3])
        governors += [found[4]] if found[4] else []
    zones = re.findall(r"^zone (\S+) (-?\d+)$", text, re.M)
    level = re.search(r"level: (\d+)", text)
    heat = re.search(r"temperature: (\d+)", text)
    powered = re.search(r"(\w+) powered: true", text)
    charge = "battery" if level else UNKNOWN
    screen = re.search(r"Display Power: state=(\w+)|mWakefulness=(\w+)", text)
    load = re.search(r"^load (\S+)", text, re.M)
    celsius = {name: int(value) / 1000 for name, value in zones if 1000 < int(value) < 150_000}
    details = {
        "thermal_status": status[1] if status else UNKNOWN,
        "battery_percent": level[1] if level else UNKNOWN,
        "battery_celsius": f"{int(heat[1]) / 10:.1f}" if heat else UNKNOWN,
        "power": powered[1] if powered else charge,
        "screen": (screen[1] or screen[2]) if screen else UNKNOWN,
        "governor": "/".join(sorted(set(governors))) or UNKNOWN,
        "hottest_zone": max(
            (f"{value:.1f} C {name}" for name, value in celsius.items()),
            key=lambda text: float(text.split()[0]),
            default=UNKNOWN,
        ),
        "load": load[1] if load else UNKNOWN,
    }
    return Snapshot(int(status[1]) if status else None, max_khz, current_khz, details)
