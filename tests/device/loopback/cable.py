"""The cable between this machine and a device: relays a port into the device's network.

Run as a program, so that a test can cut it (SIGKILL), plug it in again (start another) and
make it slow (SIGSTOP) at any moment.

    python cable.py HOST_PORT DEVICE_PID DEVICE_PORT
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from contextlib import suppress

CLONE_NEWNET = 0x40000000


def main(host_port: int, device_pid: int, device_port: int) -> None:
    """Listens here, then enters the device's network and connects there."""
    listener = socket.create_server(("127.0.0.1", host_port))
    network = os.open(f"/proc/{device_pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", device_port))
        except OSError:
            near.close()  # no adbd: the cable is in, nobody answers
            continue
        for a, b in ((near, far), (far, near)):
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pump, args=(a, b), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 18):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
