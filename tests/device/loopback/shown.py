"""What a device shows of itself: /sys, properties, and what Android's services answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROPERTIES = {
    "ro.product.manufacturer": "ofa_hw",
    "ro.product.model": "Loopback 1",
    "ro.soc.manufacturer": "Debian",
    "ro.soc.model": "trixie",
    "ro.build.version.release": "13",
    "ro.build.version.sdk": "33",
    "ro.product.cpu.abi": "x86_64",
    "ro.build.fingerprint": "ofa_hw/loopback/1:13/test",
}
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  status: 2
  level: 87
  scale: 100
  temperature: 284
"""


def thermal_service(status: int) -> str:
    """What `dumpsys thermalservice` says at a status."""
    return f"""IsStatusOverride: false
ThermalEventListeners:
Thermal Status: {status}
Cached temperatures:
 Temperature{{mValue=31.5, mType=3, mName=skin, mStatus={status}}}
HAL Ready: true
"""


class Shown:
    """The files behind that, which a test may change while the device runs.

    Attributes:
        state: Folder with them: `sys` and `answers`.
    """

    def __init__(
        self, state: Path, properties: Mapping[str, str], clusters: tuple[tuple[int, int], ...]
    ) -> None:
        self.state = state
        for name in ("sys", "answers"):
            (state / name).mkdir()
        self.answer(
            "properties", "".join(f"{k}={v}\n" for k, v in {**PROPERTIES, **properties}.items())
        )
        self.answer("dumpsys.battery", BATTERY)
        self.answer("dumpsys.thermalservice", thermal_service(0))
        self.answer("dumpsys.power", "Display Power: state=OFF\n")
        self._write_cpus(clusters)

    def _write_cpus(self, clusters: tuple[tuple[int, int], ...]) -> None:
        cpu = 0
        for size, max_khz in clusters:
            related = " ".join(str(cpu + i) for i in range(size))
            for _ in range(size):
                files = {
                    "cpuinfo_max_freq": max_khz,
                    "scaling_max_freq": max_khz,
                    "scaling_cur_freq": max_khz,
                    "scaling_governor": "schedutil",
                    "related_cpus": related,
                }
                for name, value in files.items():
                    self.sysfs(f"devices/system/cpu/cpu{cpu}/cpufreq/{name}", f"{value}\n")
                cpu += 1
        for name in ("possible", "present", "online"):
            self.sysfs(f"devices/system/cpu/{name}", f"0-{cpu - 1}\n")
        self.sysfs("class/thermal/thermal_zone0/type", "cpu-thermal\n")
        self.sysfs("class/thermal/thermal_zone0/temp", "41000\n")

    def sysfs(self, name: str, text: str) -> None:
        """Writes a file of the device's /sys."""
        path = self.state / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def answer(self, name: str, text: str) -> None:
        """Writes what a program of the device answers from now on, whole or not at all."""
        path = self.state / "answers" / name
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    def take_back(self, name: str) -> None:
        """Removes an answer."""
        (self.state / "answers" / name).unlink()

    def commands(self) -> list[str]:
        """What was asked of `cmd` and `svc` so far."""
        path = self.state / "answers/commands"
        return path.read_text().splitlines() if path.exists() else []
