"""Short runs on the digits, in processes that can be killed, and folders of images."""

import multiprocessing
import runpy
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Eight steps. `tell` and `settings` are given by the process that starts it.
RUN = """
import os, resource, signal
import torch
from ofa_hw.training import (
    DigitsData, Pace, Recipe, ShrinkingPhase, get_data, join_workers, train_supernet,
)

torch.set_num_threads(1)
os.environ.update(settings.get("environment", {}))
workers = join_workers()
images = settings.get("images")
space, data = ("tiny@classes=2", get_data(images, channels=1)) if images else ("tiny", DigitsData())
recipe = Recipe(
    "short",
    (
        ShrinkingPhase("full", 0.3, 0.1, warmup_epochs=0.1),
        ShrinkingPhase(
            "all", 0.4, 0.05, depths=9, expand_ratios=9, kernel_sizes=9, subnets_per_step=2,
            sort_phase=0,
        ),
    ),
    batch_size=settings.get("batch_size", 100),
)

def progress(done, total):
    tell.send(done)
    if done == settings.get("disk_full_after"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

try:
    train_supernet(
        space, data, recipe, settings["folder"], labels=0, seed=3, workers=workers,
        pace=Pace(settings.get("interval_s", 0.0)), progress=progress,
    )
    tell.send("done")
except Exception as error:
    tell.send(f"{type(error).__name__}: {error}")
if workers.size > 1:
    torch.distributed.destroy_process_group()
"""


class Child:
    """A program in a process of its own, forked from one that has imported what takes long.

    Attributes:
        process: To be killed.
        told: What it has sent so far.
    """

    def __init__(self, program: Path, settings: dict[str, Any]) -> None:
        context = multiprocessing.get_context("forkserver")
        # torch imports the last one for its first optimizer.
        slow = ["ofa_hw.training.folder", "sklearn.datasets", "runpy", "torch._dynamo"]
        context.set_forkserver_preload(slow)
        self._connection, tell = context.Pipe(duplex=False)
        self.told: list[Any] = []
        given = {"tell": tell, "settings": settings}
        self.process = context.Process(target=runpy.run_path, args=(str(program), given))
        self.process.start()
        tell.close()

    def hear(self, wanted: object = None) -> list[Any]:
        """Waits until it tells something, or until it ends; gives all that it told."""
        connection: Connection = self._connection
        while True:
            assert connection.poll(300), self.told
            try:
                self.told.append(connection.recv())
            except EOFError:
                self.process.join(30)
                return self.told
            if wanted is not None and self.told[-1] == wanted:
                return self.told


@pytest.fixture(scope="session")
def start_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Child]:
    """Starts a program's text in a process of its own."""

    def start(text: str, **settings: object) -> Child:
        program = tmp_path_factory.mktemp("program") / "run.py"
        program.write_text(text)
        return Child(program, settings)

    return start


@pytest.fixture(scope="session")
def start_run(start_program: Callable[..., Child]) -> Callable[..., Child]:
    """Starts a run of eight steps in a process of its own; it tells each step."""
    return lambda folder, **settings: start_program(RUN, folder=str(folder), **settings)


@pytest.fixture(scope="session")
def meeting_place() -> Callable[[int], list[dict[str, str]]]:
    """Gives the environments in which so many new processes are workers of one run."""

    def environments(size: int) -> list[dict[str, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        return [{**where, "WORLD_SIZE": str(size), "RANK": str(rank)} for rank in range(size)]

    return environments


@pytest.fixture(scope="session")
def whole(start_run: Callable[..., Child], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert start_run(folder, interval_s=600.0).hear() == [*range(1, 9), "done"]
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 23 images of two classes, one of which is broken."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(11):
            pixels = rng.integers(100 * label, 100 * label + 100, (40, 40)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    (tmp_path / "images" / "dark" / "broken.png").write_bytes(b"no image at all")
    return tmp_path / "images"
