"""An arm64 device, emulated: what it takes to run its programs and to build one for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from loopback.packages import cache_folder, fetch, one_at_a_time, unpack

_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

# The cross compiler lives in a root folder of its own; files go in and out by copy.
_WRAPPER = """#!/bin/bash
root={root}
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -o) output=$2; arguments+=(-o /tmp/output); shift ;;
    *.c) cp "$1" "$root/tmp/input.c"; arguments+=(/tmp/input.c) ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
chroot "$root" /usr/bin/aarch64-linux-gnu-gcc "${{arguments[@]}}" || exit
[ -z "$output" ] || mv "$root/tmp/output" "$output"
"""


def binfmt_registration() -> str:
    """The line that makes the kernel run arm64 programs by qemu-user."""
    qemu = _unpacked("qemu-user") / "usr/bin/qemu-aarch64"
    return f":ofa-hw-arm64:M::{_MAGIC}:{_MASK}:{qemu}:F"


def cross_compiler() -> Path:
    """A C compiler for arm64."""
    root = _unpacked("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")
    for name in ("bin", "lib", "lib64"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").mkdir(exist_ok=True)
    wrapper = root / "aarch64-linux-gnu-gcc"
    wrapper.write_text(_WRAPPER.format(root=root))
    wrapper.chmod(0o755)
    return wrapper


def _unpacked(*packages: str) -> Path:
    debs = fetch(packages, arch="amd64")
    digest = hashlib.sha256("\n".join(deb.name for deb in debs).encode()).hexdigest()[:12]
    root = cache_folder() / "roots" / f"{packages[0]}-{digest}"
    with one_at_a_time(root):
        if not (root / ".complete").exists():
            unpack(debs, root)
            (root / ".complete").touch()
    return root
