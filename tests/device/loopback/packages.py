"""Fetches packages of a Debian suite, whatever suite this machine runs, and unpacks them.

apt does the work, with lists, cache and status of its own, so that this machine's apt knows
nothing of it. The mirror and the keys are those of this machine. apt checks what it downloads
against the signed index; what lies in the cache is checked against the hashes taken then.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "sha256.json"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class DeviceSetupError(Exception):
    """The device cannot be set up here; says what is missing."""


def cache_folder() -> Path:
    """Where downloads are kept between runs, outside of the repository."""
    default = Path.home() / ".cache" / "ofa-hw-tests"
    folder = Path(os.environ.get("OFA_HW_TEST_CACHE", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Keeps other processes from making the same thing of the cache meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made once; its files are checked against the hashes taken then.

    Args:
        folder: Where it lies.
        make: Fills a folder beside it, which takes its place when it is whole.
    """
    manifest = folder / MANIFEST
    with one_at_a_time(folder):
        if not manifest.exists():
            scratch = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                make(scratch)
                files = [path for path in scratch.rglob("*") if path.is_file()]
                hashes = {str(path.relative_to(scratch)): sha256(path) for path in files}
                (scratch / MANIFEST).write_text(json.dumps(hashes, indent=1, sort_keys=True))
                scratch.chmod(0o755)
                shutil.rmtree(folder, ignore_errors=True)
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        hashes = json.loads(manifest.read_text())
        if damaged := [file for file in hashes if sha256(folder / file) != hashes[file]]:
            shutil.rmtree(folder)
            raise DeviceSetupError(f"{', '.join(damaged)} was damaged in {folder}; run again")
    return folder


def fetch(packages: Sequence[str], *, arch: str, suite: str = "trixie") -> list[Path]:
    """The .deb files of `packages` and of all they depend on, downloaded or from the cache."""
    name = hashlib.sha256(" ".join([suite, arch, *packages]).encode()).hexdigest()[:12]
    folder = cached(
        cache_folder() / "debs" / name, lambda scratch: _download(packages, arch, suite, scratch)
    )
    return sorted(folder.glob("*.deb"))


def unpack(debs: Sequence[Path], root: Path) -> None:
    """Unpacks packages into `root`; runs none of their scripts."""
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(root)])


def sha256(path: Path) -> str:
    """Hex digest of a file; of nothing where there is none."""
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output; `DeviceSetupError` with its words if it fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False
        )
    except FileNotFoundError as error:
        raise DeviceSetupError(f"{command[0]} is not installed") from error
    if result.returncode:
        raise DeviceSetupError(f"{' '.join(command)} failed: {result.stderr.strip()[-500:]}")
    return result.stdout


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses."""
    fields = "$(REPO_URI) $(RELEASE)"
    listed = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    for uri, _ in (line.split() for line in listed.splitlines()):
        if re.search(r"/debian/?$", uri):
            return uri
    raise DeviceSetupError("this machine's apt knows no Debian mirror to take the device from")


def fetch_source(package: str, pattern: str, *, suite: str) -> Path:
    """One file of a source package, downloaded or from the cache."""
    folder = cached(
        cache_folder() / "sources" / f"{package}-{suite}",
        lambda scratch: _download_source(package, pattern, suite, scratch),
    )
    return next(path for path in folder.iterdir() if re.fullmatch(pattern, path.name))


def _download_source(package: str, pattern: str, suite: str, folder: Path) -> None:
    with _apt("amd64", suite) as (_, env):
        shown = run(["apt-cache", "showsrc", package], env)
        path = re.search(r"^Directory: (\S+)$", shown, re.M)
        listed = shown.partition("Checksums-Sha256:")[2]
        file = re.search(rf"^ ([0-9a-f]{{64}}) \d+ ({pattern})$", listed, re.M)
        if not path or not file:
            raise DeviceSetupError(f"{suite} has no source of {package}")
        uri = f"{_mirror().rstrip('/')}/{path[1]}/{file[2]}"
        helper = "/usr/lib/apt/apt-helper"
        run([helper, "download-file", uri, str(folder / file[2]), f"SHA256:{file[1]}"], env)


def _download(packages: Sequence[str], arch: str, suite: str, folder: Path) -> None:
    with _apt(arch, suite) as (home, env):
        install = ["apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "install"]
        run([*install, *packages], env)
        for deb in (home / "archives").glob("*.deb"):
            deb.rename(folder / deb.name)


@contextmanager
def _apt(arch: str, suite: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with an apt of its own, and the environment in which apt uses it."""
    if not KEYRING.exists():
        raise DeviceSetupError(f"{KEYRING} is missing; install debian-archive-keyring")
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        home = Path(scratch)
        for part in ("lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            (home / part).mkdir(parents=True)
        (home / "status").touch()
        source = f"[signed-by={KEYRING}] {_mirror()} {suite} main"
        (home / "sources.list").write_text(f"deb {source}\ndeb-src {source}\n")
        settings = {
            "Dir::Etc": home / "etc",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::State::lists": home / "lists",
            "Dir::State::status": home / "status",
            "Dir::Cache": home,
            "APT::Architecture": arch,
            "APT::Sandbox::User": "root",
            # A mirror may lag; what it has is signed all the same.
            "Acquire::Check-Valid-Until": "false",
        }
        lines = [f'{key} "{value}";' for key, value in settings.items()]
        lines.append(f'#clear APT::Architectures; APT::Architectures {{ "{arch}"; }};')
        (home / "apt.conf").write_text("\n".join(lines))
        env = {"APT_CONFIG": str(home / "apt.conf")}
        run(["apt-get", "-q", "update"], env)
        yield home, env
