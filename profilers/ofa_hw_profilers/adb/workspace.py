"""The folder of a run on the device, under /data/local/tmp: made, filled and removed."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Mapping

from ofa_hw.errors import DeviceFullError, DeviceOutputError, ProfilerError
from ofa_hw_profilers.adb.runner import StoredNetwork
from ofa_hw_profilers.adb.transport import Transport

FOLDER = "/data/local/tmp/ofa-hw"

STEADY = "fixed-performance"  # a file that says that the mode was switched on
SET_STEADY = "cmd power set-fixed-performance-mode-enabled"

# Whatever runs from the folder, or on a file in it, was left by a run whose connection broke. The
# shell that runs this has the folder in its own command line, hence $$. Not every toybox has tr.
_CLEAN = f"""
for p in /proc/[0-9]*; do
  [ "${{p#/proc/}}" = $$ ] && continue
  case "$(readlink $p/exe 2>/dev/null) $(xargs -0 2>/dev/null <$p/cmdline)" in
    {FOLDER}/*|*" {FOLDER}/"*|*"={FOLDER}/"*) kill -9 ${{p#/proc/}} 2>/dev/null;;
  esac
done
[ -e {FOLDER}/{STEADY} ] && {SET_STEADY} false
rm -rf {FOLDER}
"""


class SteadyRefusedError(ProfilerError):
    """The device has no fixed-performance mode, or its services do not run yet."""


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

    def hold_clocks_steady(self) -> None:
        """Switches Android's fixed-performance mode on, until the folder is removed.

        Android does not tell whether it was on before; afterwards it is off.

        Raises:
            SteadyRefusedError: If the device does not do it.
        """
        self._run(f"touch {FOLDER}/{STEADY}")
        result = self._transport.shell(f"{SET_STEADY} true", 30)
        if result.exit_code:
            words = (result.stderr.strip() or result.stdout.strip()).splitlines()
            raise SteadyRefusedError(
                f"device {self._transport.serial!r} does not enter fixed-performance mode "
                f"({'; '.join(words) or f'exit code {result.exit_code}'}): leave out "
                "--set fixed_performance=on"
            )

    def put(self, name: str, data: bytes, *, mode: int = 0o644) -> str:
        """Writes a file unless it lies there already; returns its path on the device."""
        path = f"{FOLDER}/{name}"
        if not self._transport.holds(data, path):
            self._transport.push(data, path, mode=mode)
        return path

    def put_batch(
        self, name: str, networks: Mapping[int, bytes], *, separately: bool
    ) -> dict[int, StoredNetwork]:
        """Puts networks on the device by one push; returns where each lies.

        Args:
            name: Of the batch.
            networks: By number.
            separately: Whether each shall be a file of its own.
        """
        path, archive = f"{FOLDER}/{name}", _Archive()
        starts = {number: archive.add(f"{number}.tflite", networks[number]) for number in networks}
        self._transport.push(archive.close(), f"{path}.tar")
        if separately:
            self._run(f"mkdir {path} && tar xf {path}.tar -C {path}")
            self._run(f"rm {path}.tar")
            files = {number: (f"{path}/{number}.tflite", 0) for number in networks}
        else:
            files = {number: (f"{path}.tar", starts[number]) for number in networks}
        return {number: StoredNetwork(*files[number], len(networks[number])) for number in networks}

    def discard(self, *names: str) -> None:
        """Removes files or folders."""
        self._run(f"rm -rf {' '.join(f'{FOLDER}/{shlex.quote(name)}' for name in names)}")

    def _run(self, command: str) -> None:
        result = self._transport.shell(command, 120)
        if result.exit_code:
            words = result.stderr.strip()
            kind = DeviceFullError if "No space left" in words else DeviceOutputError
            raise kind(f"device {self._transport.serial!r}: {words or command}")


class _Archive:
    """A tar archive; put together here because `tarfile` copies in small pieces."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, name: str, data: bytes) -> int:
        """Adds a file; returns where in the archive its bytes start, a multiple of 512."""
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        header = entry.tobuf(tarfile.USTAR_FORMAT)
        self._parts += [header, data, bytes(-len(data) % tarfile.BLOCKSIZE)]
        start = self._size + len(header)
        self._size += sum(map(len, self._parts[-3:]))
        return start

    def close(self) -> bytes:
        """The archive's bytes."""
        return b"".join([*self._parts, bytes(2 * tarfile.BLOCKSIZE)])
