"""Makes of unpacked Debian packages a root folder that a program takes for an Android device."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from loopback.packages import cache_folder, fetch, one_at_a_time, run, unpack

PACKAGES = ("adbd", "mksh", "toybox")
LAYOUT = 1  # raise it when what `_furnish` does changes

# What only Android has. The answers lie in files, which tests change while the device runs.
PROGRAMS = {
    "getprop": """
        while IFS='=' read -r key value; do
          [ $# = 0 ] && echo "[$key]: [$value]"
          [ "$1" = "$key" ] && echo "$value"
        done </answers/properties""",
    "dumpsys": """
        cat "/answers/dumpsys.$1" 2>/dev/null || { echo "Can't find service: $1"; exit 20; }""",
    "cmd": """
        echo "$*" >>/answers/commands
        [ -e "/answers/cmd.$1.fails" ] && { cat "/answers/cmd.$1.fails" >&2; exit 255; }
        cat "/answers/cmd.$1" 2>/dev/null || true""",
    "svc": """
        echo "svc $*" >>/answers/commands""",
    "settings": """
        case $1 in
          put) echo "$4" >"/answers/settings.$2.$3" ;;
          get) cat "/answers/settings.$2.$3" 2>/dev/null || echo null ;;
        esac""",
}
FOLDERS = (
    *("answers", "data/local/tmp", "data/misc/adb", "dev/pts", "dev/socket", "dev/usb-ffs"),
    *("proc", "run", "sdcard", "sys", "system/bin", "tmp"),
)
INIT = """#!/system/bin/sh
while true; do /usr/sbin/adbd >>/answers/adbd.log 2>&1; sleep 0.3; done
"""


def root_folder(arch: str = "amd64") -> Path:
    """The device's root folder, from the cache or made now; nobody writes to it afterwards."""
    debs = fetch(PACKAGES, arch=arch)
    parts = [str(LAYOUT), INIT, *PROGRAMS.values(), *(deb.name for deb in debs)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    root = cache_folder() / "roots" / f"{arch}-{digest}"
    with one_at_a_time(root):
        if not root.exists():
            scratch = Path(tempfile.mkdtemp(dir=root.parent))
            try:
                unpack(debs, scratch)
                _furnish(scratch, arch)
                scratch.chmod(0o755)
                scratch.rename(root)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return root


def _furnish(root: Path, arch: str) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        if (root / "usr" / name).exists() and not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / "usr/bin/mksh", root / "system/bin/sh")
    (root / "usr/bin/sh").symlink_to("mksh")
    for applet in _toybox_applets(root, arch):
        if not (root / "usr/bin" / applet).exists():
            (root / "usr/bin" / applet).symlink_to("toybox")
    scripts = {f"system/bin/{name}": f"#!/system/bin/sh{body}\n" for name, body in PROGRAMS.items()}
    for name, text in {**scripts, "init": INIT}.items():
        (root / name).write_text(text)
        os.chmod(root / name, 0o755)


def _toybox_applets(root: Path, arch: str) -> list[str]:
    """Names of toybox's commands, asked of the one that this machine can run."""
    native = root if arch == "amd64" else root_folder("amd64")
    return run(["chroot", str(native), "/usr/bin/toybox"]).replace("[", "").split()
