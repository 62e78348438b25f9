"""A device whose adbd demands keys, and the part of Android that asks its user about them.

Debian's adbd is built to demand none: in a copy of it the one byte that says so is changed. Its
libcutils is built without init's control sockets, so that one function is preloaded. All else is
adbd's own; the framework's end of the control socket is played here.
"""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

from loopback.demand import DESCRIPTOR
from loopback.device import Device, wait_for
from loopback.packages import DeviceSetupError, cache_folder, one_at_a_time, run
from loopback.rootfs import root_folder

_CONTROL = f"""
int android_get_control_socket(const char *name) {{ return name ? {DESCRIPTOR} : -1; }}
"""
_TEXT_OFFSET = 0x1000  # of addresses in this program's code over places in its file


def demanding_adbd() -> Path:
    """A copy of the device's adbd that demands authorisation."""
    original = root_folder() / "usr/sbin/adbd"
    path = cache_folder() / f"adbd-demanding-{original.stat().st_size}"
    with one_at_a_time(path):
        if not path.exists():
            code = bytearray(original.read_bytes())
            code[_place(bytes(code))] = 1
            part = path.with_suffix(".part")
            part.write_bytes(code)
            part.chmod(0o755)
            part.rename(path)
    return path


def _place(code: bytes) -> int:
    """Where `auth_required = false` is stored: right before a string is looked up."""
    string = code.find(b"ADB_EXTERNAL_STORAGE\0")
    places = [
        found.start() + 2
        for found in re.finditer(rb"\xc6\x00\x00\x48\x8d\x3d(....)\xe8", code, re.S)
        if found.start() + _TEXT_OFFSET + 10 + int.from_bytes(found[1], "little", signed=True)
        == string
    ]
    if len(places) != 1:
        raise DeviceSetupError(f"adbd is of another build: {len(places)} places to change")
    return places[0]


class AuthDevice(Device):
    """A device that asks its user whether a machine may debug it.

    Args:
        answers: What the user answers to the first, second, ... prompt: `OK`, `NO`, or nothing.
        authorised: Public keys that were accepted earlier.
    """

    def __init__(self, *answers: str, authorised: str = "") -> None:
        self._answers = list(answers)
        self.prompts: list[str] = []
        self._authorised = authorised
        self._framework = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(launcher=Path(__file__).with_name("demand.py"), adbd=demanding_adbd())

    def _prepare(self) -> None:
        self.answer("adb_keys", self._authorised)
        self.answer("control.c", _CONTROL)
        source, library = (self.state / f"answers/control.{end}" for end in ("c", "so"))
        run(["cc", "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(source)])

    def _started(self) -> None:
        wait_for(self._connected, "adbd does not listen on its control socket")
        threading.Thread(target=self._answer_prompts, daemon=True).start()

    def _connected(self) -> bool:
        path = f"/proc/{self.boot_pid}/root{self.state}/mnt/root/dev/socket/adbd"
        return self._framework.connect_ex(path) == 0

    def _answer_prompts(self) -> None:
        try:
            while message := self._framework.recv(8192):
                if message[:2] == b"PK":
                    self.prompts.append(message[2:].decode(errors="replace"))
                    if self._answers and (answer := self._answers.pop(0)):
                        self._framework.send(answer.encode())
        except OSError:
            pass

    def close(self) -> None:
        """Takes the device away."""
        super().close()
        self._framework.close()
