"""A real adb server of its own port and keys, so that tests touch no server of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from loopback.packages import DeviceSetupError


def adb_program() -> str:
    """adb as adbutils ships it, else this machine's."""
    import adbutils

    shipped = Path(adbutils.__file__).parent / "binaries" / "adb"
    found = str(shipped) if shipped.exists() else shutil.which("adb")
    if not found:
        raise DeviceSetupError("there is no adb here: neither adbutils' own nor one in PATH")
    return found


class AdbServer:
    """An adb server.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, home: Path) -> None:
        (home / ".android").mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._env = {
            **os.environ,
            "HOME": str(home),
            "ANDROID_USER_HOME": str(home / ".android"),
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_MDNS": "0",
        }
        self.start()

    def start(self) -> None:
        """Starts it."""
        self.adb("start-server")

    def kill(self) -> None:
        """Kills it."""
        self.adb("kill-server")

    def adb(self, *arguments: str) -> str:
        """Runs adb; returns what it says."""
        result = subprocess.run(
            [adb_program(), *arguments], env=self._env, capture_output=True, text=True, timeout=60
        )
        if result.returncode and arguments[0] == "start-server":
            raise DeviceSetupError(f"the adb server does not start: {result.stderr[-300:]}")
        return result.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
