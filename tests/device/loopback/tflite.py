"""Fetches TFLite's C library, as the npm package tfjs-tflite-node carries it."""

from __future__ import annotations

import base64
import hashlib
import tarfile
import tempfile
from pathlib import Path

from loopback.packages import DeviceSetupError, cache_folder, cached, run

PACKAGE = "tfjs-tflite-node@0.0.2"
SHA512 = "Zed9biOz9lkWsekvPwdEmxXnsjXJnZO8iOV0s2Y20QU15cwiPedzFEBYiGbK7smYpkJpQNNY9SukoKmUi9bk9w=="
VERSION = "2.9.0"


def tflite_library(arch: str = "amd64") -> Path:
    """libtensorflowlite_c.so for Linux on `amd64` or `arm64`."""
    folder = cached(cache_folder() / PACKAGE.replace("@", "-"), _download)
    return folder / f"package/cc_deps/linux_{arch}/libtensorflowlite_c.so"


def _download(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        run(["npm", "pack", "--silent", "--pack-destination", scratch, PACKAGE])
        archive = next(Path(scratch).glob("*.tgz"), None)
        if archive is None:
            raise DeviceSetupError(f"npm gave no {PACKAGE}")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise DeviceSetupError(f"{PACKAGE} has the sha512 {digest}, not {SHA512}")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
