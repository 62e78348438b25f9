"""The folder of a run on the device, under /data/local/tmp: made, filled and removed."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Mapping

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.failures import DeviceFullError
from ofa_hw_profilers.adb.transport import Transport

FOLDER = "/data/local/tmp/ofa-hw"

# Whatever runs from the folder was left by a run whose connection broke. The shell that runs this
# has the folder in its own command line, hence $$.
_CLEAN = f"""
for p in /proc/[0-9]*; do
  [ "${{p#/proc/}}" = $$ ] && continue
  case "$(readlink $p/exe 2>/dev/null) $(tr '\\0' ' ' <$p/cmdline 2>/dev/null)" in
    {FOLDER}/*|*" {FOLDER}/"*) kill -9 ${{p#/proc/}} 2>/dev/null;;
  esac
done
rm -rf {FOLDER}
"""


class Workspace:
    """The folder, for as long as the connection under it lasts.

    Attributes:
        folder: Its path on the device.
    """

    folder = FOLDER

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self) -> None:
        """Clears away what earlier runs left, and makes the folder."""
        self.remove()
        self._run(f"mkdir -p {FOLDER}")

    def remove(self) -> None:
        """Ends what runs from the folder, and removes it."""
        self._run(_CLEAN)

    def put(self, name: str, data: bytes, *, mode: int = 0o644) -> str:
        """Writes a file unless it lies there already; returns its path on the device."""
        path = f"{FOLDER}/{name}"
        if not self._transport.holds(data, path):
            self._transport.push(data, path, mode=mode)
        return path

    def put_batch(self, name: str, files: Mapping[str, bytes]) -> str:
        """Writes files as one archive into a folder of their own; returns its path."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, data in files.items():
                entry = tarfile.TarInfo(key)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        path = f"{FOLDER}/{name}"
        self._transport.push(archive.getvalue(), f"{path}.tar")
        self._run(f"rm -rf {path} && mkdir {path} && tar xf {path}.tar -C {path}")
        self._run(f"rm {path}.tar")
        return path

    def discard(self, name: str) -> None:
        """Removes one file or folder."""
        self._run(f"rm -rf {FOLDER}/{shlex.quote(name)}")

    def _run(self, command: str) -> None:
        result = self._transport.shell(command, 120)
        if result.exit_code:
            words = result.stderr.strip()
            kind = DeviceFullError if "No space left" in words else DeviceOutputError
            raise kind(f"device {self._transport.serial!r}: {words or command}")
