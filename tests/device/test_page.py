"""What the page about phones tells people to type, typed."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback.benchmark_model import benchmark_model
from loopback.device import Device
from loopback.packages import DeviceSetupError

from ofa_hw import load_table

pytestmark = [pytest.mark.adbd, pytest.mark.slow]

PAGE = "docs/profile-a-phone.md"
LARGE = "ofa_mbv3_d234_e346_k357_w1.2 --resolutions 160"
WITH_BENCHMARK_MODEL = "ofa-hw profile --benchmark-binary ./benchmark_model"
# A small space in place of a large one, and no waiting: this machine's own load looks like heat.
IN_MINUTES = {
    "--serial $SERIAL": "--serial $SERIAL --set cool_down_s=0",
    "pip install": "true",
    LARGE: "tiny --resolutions 24",
    "--latency-ms 25": "--latency-ms 1000",
    "--networks 20": "--networks 6 --resolutions 24",
}


@pytest.fixture
def environment(device: Device, library: Path, tmp_path: Path) -> dict[str, str]:
    """What the page takes for granted: an NDK, TFLite in an archive, a cache of one's own."""
    with zipfile.ZipFile(tmp_path / "tensorflow-lite.aar", "w") as archive:
        archive.write(library, "jni/x86_64/libtensorflowlite_jni.so")
    compilers = tmp_path / "ndk/toolchains/llvm/prebuilt/linux-x86_64/bin"
    compilers.mkdir(parents=True)
    compiler = shutil.which("cc")
    assert compiler is not None
    (compilers / "aarch64-linux-android21-clang").symlink_to(compiler)
    return {
        "SERIAL": device.serial,
        "NDK": str(tmp_path / "ndk"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


def test_a_phone_is_profiled_trusted_and_used_as_documented(
    run_page: Callable[..., str],
    environment: dict[str, str],
    make_device: Callable[..., Device],
    weights: Path,
    predictor_file: Path,
    tmp_path: Path,
) -> None:
    shutil.copy(weights, tmp_path / "supernet.pth")
    shutil.copy(predictor_file, tmp_path / "predictor.npz")
    out = run_page(
        PAGE,
        replaced={**IN_MINUTES, WITH_BENCHMARK_MODEL: "true"},
        environment={**environment, "OTHER": make_device().serial},
    )
    assert "net.tflite on tflite" in out
    assert load_table(tmp_path / "phone.jsonl").calibration is not None
    assert len(list((tmp_path / "tables").iterdir())) == 2


@pytest.mark.benchmark_model
def test_benchmark_model_serves_as_documented(
    run_page: Callable[..., str], environment: dict[str, str], device: Device, tmp_path: Path
) -> None:
    try:
        shutil.copytree(benchmark_model(), device.data / "bm")
    except DeviceSetupError as error:
        pytest.skip(f"benchmark_model cannot be built: {error}")
    script = tmp_path / "benchmark_model"
    script.write_text('#!/system/bin/sh\nexec /data/local/tmp/bm/benchmark_model "$@"\n')
    others = {
        f"ofa-hw {command}": "true "
        for command in ("devices", "device ", "lut", "specialize", "bench net")
    }
    # Debian builds it without delegates.
    ours = {
        "ofa-hw profile --backend": "true",
        WITH_BENCHMARK_MODEL: f"{WITH_BENCHMARK_MODEL} --set delegate=none",
    }
    environment["OTHER"] = "none"
    run_page(PAGE, replaced={**IN_MINUTES, **others, **ours}, environment=environment)
    table = load_table(tmp_path / "phone-benchmark-model.jsonl")
    assert table.device.settings["runner"] == "benchmark_model"
    assert len(table) > 0
