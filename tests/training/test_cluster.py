"""Labels measured by workers of a scheduler, started as a person would start them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.spaces import get_space
from ofa_hw.supernet import Supernet, load_supernet, save_checkpoint
from ofa_hw.training import collect_labels
from ofa_hw.training.cluster import label_on_cluster
from ofa_hw.training.folder import FolderData
from ofa_hw.training.labeller import Labeller
from ofa_hw.training.labels import drawn_spec, read_labels

pytest.importorskip("distributed")
TINY = get_space("tiny@classes=2")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return load_supernet(TINY, seed=1).eval()


class Cluster:
    """A scheduler and its workers, each a process without a nanny that would start it again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        self.file = folder / "scheduler.json"
        self.start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", self.file)
        deadline_s = time.monotonic() + 200
        while not self.file.exists():
            assert time.monotonic() < deadline_s, (folder / "log").read_text()
            time.sleep(0.05)
        from json import loads

        self.address: str = loads(self.file.read_text())["address"]

    def start(self, *args: object) -> subprocess.Popen[bytes]:
        dask = Path(sys.executable).parent / "dask"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [str(dask), *map(str, args), "--host", "127.0.0.1"],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        local = ("--local-directory", self.folder, "--no-dashboard", "--nthreads", "1")
        return self.start("worker", self.address, "--no-nanny", *local)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    found = Cluster(tmp_path / "cluster")
    yield found
    for process in reversed(found.processes):
        process.kill()
        process.wait()


@pytest.mark.slow
def test_workers_that_die_lose_no_label_and_broken_images_are_counted_here(
    cluster: Cluster, net: Supernet, images: Path, tmp_path: Path, run: Callable[..., tuple]
) -> None:
    victim = cluster.start_worker()
    cluster.start_worker()
    weights, output = tmp_path / "supernet.pth", tmp_path / "labels.jsonl"
    save_checkpoint(net, weights)
    killed: list[int] = []

    def kill_a_worker(done: int, _: int) -> None:
        if done == 3:
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.wait())

    data = FolderData(images, channels=1, validation=0.3)
    labels = collect_labels(
        *(net, data, 12),
        images=20,
        journal=output,
        scheduler=cluster.address,
        progress=kill_a_worker,
    )
    assert killed == [-signal.SIGKILL]
    broken = set(data.broken)
    assert {path.name for path in broken} == {"broken.png"}
    here = FolderData(images, channels=1, validation=0.3)
    assert labels == collect_labels(net, here, 12, images=20)
    assert read_labels(output)[1] == labels
    assert set(here.broken) == broken
    # The command goes on with that file on the same cluster.
    code, out, err = run(
        *("label", "--space", "tiny", "--weights", weights, "--data", images, "--output", output),
        *("--count", 14, "--calibrate", 20, "--validation", 0.3, "--scheduler", cluster.address),
    )
    assert code == 0, err
    assert out.startswith("14 sub-networks")
    assert "1 broken images passed over" in err
    moved = tmp_path / "elsewhere"
    images.rename(moved)
    try:
        with pytest.raises(SpecError, match=r"a worker on .* lacks 23 of the images.*same paths"):
            collect_labels(net, here, 2, images=20, scheduler=cluster.address)
    finally:
        moved.rename(images)
    for process in cluster.processes[1:]:
        process.kill()
        process.wait()
    labeller, specs = Labeller(net, here, 20), [drawn_spec(TINY, 0, seed=0)]
    results = label_on_cluster(labeller, specs, cluster.address, no_workers_timeout_s=1)
    with pytest.raises(CheckpointError, match="no worker for 1 s"):
        next(results)


def test_a_scheduler_that_does_not_answer_is_named(
    run: Callable[..., tuple], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_hw.training.cluster._CONNECT_TIMEOUT_S", 0.5)
    output = tmp_path / "labels.jsonl"
    args = ("label", "--space", "tiny", "--weights", weights, "--data", "digits", "-o", output)
    code, out, err = run(*args, "--scheduler", "tcp://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert "no scheduler answers at 'tcp://127.0.0.1:1'" in err
    assert "dask scheduler" in err
    code, _, err = run(*args, "--scheduler", "tcp://127.0.0.1:1", "--workers", 2)
    assert code == 2
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = run(*args, "--scheduler", "tcp://127.0.0.1:1")
    assert code == 1
    assert "pip install 'ofa-hw[dask]'" in err
    assert os.listdir(tmp_path) == ["labels.jsonl"]  # its header: the command goes on with it
