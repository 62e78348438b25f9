"""`ofa-hw verify` on a real adbd: the file is measured there, and not here."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from loopback.device import Device

from ofa_hw.export import Provenance
from ofa_hw.graph import network_graph
from ofa_hw.lowering.files import write_file
from ofa_hw.profiling import ProfilerOptions, open_profiler
from ofa_hw.spaces import get_space

pytestmark = pytest.mark.adbd
SPACE = get_space("tiny")
SPEC = SPACE.largest(32)


def test_a_promise_is_verified_on_the_device_that_it_was_made_for(
    device: Device,
    library: Path,
    ofa_runner: Path,
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    settings = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "0"}
    profiler = open_profiler("tflite", ProfilerOptions(device.serial, settings=settings))
    profiler.close()
    file = tmp_path / "net.tflite"
    promise = Provenance(spec=SPEC, device=profiler.device, predicted_latency_ms=50.0)
    write_file(network_graph(SPACE.ops(SPEC)), file, metadata=promise.to_metadata())
    pairs = [part for pair in settings.items() for part in ("--set", "=".join(pair))]
    there = ("verify", file, "--serial", device.serial, *pairs, "--seconds", 0.3, "--json")
    code, out, err = run(*there)
    assert code == 0, out + err
    answer = json.loads(out)
    assert answer["device"]["runtime"] == profiler.device.runtime
    assert answer["differences"] == []
    write_file(
        network_graph(SPACE.ops(SPEC)),
        file,
        metadata=replace(promise, predicted_latency_ms=1e-4).to_metadata(),
    )
    assert run(*there)[0] == 1
    code, out, err = run("verify", file)
    assert (code, out) == (1, "")
    assert "--serial" in err


def test_a_promise_made_for_this_machine_is_not_shown_to_be_kept_by_a_device(
    device: Device,
    library: Path,
    ofa_runner: Path,
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    here = open_profiler("tflite").device
    promise = Provenance(spec=SPEC, device=here, predicted_latency_ms=50.0)
    file = tmp_path / "net.tflite"
    write_file(network_graph(SPACE.ops(SPEC)), file, metadata=promise.to_metadata())
    settings = {"library": str(library), "runner_binary": str(ofa_runner), "cool_down_s": "0"}
    pairs = [part for pair in settings.items() for part in ("--set", "=".join(pair))]
    code, out, err = run("verify", file, "--serial", device.serial, *pairs, "--seconds", 0.3)
    assert (code, err) == (1, "")
    verdict = out.splitlines()[-1]
    assert verdict.startswith("not shown: measured otherwise than promised for (")
    assert f"name is {here.name!r} and " in verdict
