"""Launches a device's init with adbd's control socket open, as Android's init does.

python demand.py ROOT
"""

from __future__ import annotations

import os
import socket
import sys

DESCRIPTOR = 5  # low: the device's shell hides the high ones from what it starts


def main(root: str) -> None:
    """Enters the device's root, opens the socket there, becomes init."""
    os.chroot(root)
    os.chdir("/")
    if os.path.exists("/dev/socket/adbd"):
        os.unlink("/dev/socket/adbd")
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.bind("/dev/socket/adbd")
    os.dup2(control.fileno(), DESCRIPTOR, inheritable=True)
    os.execve("/init", ["/init"], {**os.environ, "LD_PRELOAD": "/answers/control.so"})


if __name__ == "__main__":
    main(sys.argv[1])
