"""Does the same on several devices at once; one that fails stops no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol, TypeAlias, TypeVar

from ofa_hw.errors import OfaHwError

_ResultT = TypeVar("_ResultT", covariant=True)
Progress: TypeAlias = Callable[[int, int], None]


class Job(Protocol[_ResultT]):
    """What is to be done on one device."""

    def __call__(self, *, progress: Progress) -> _ResultT:
        """Does it; calls `progress` with steps done and steps in all."""
        ...


class _InterruptedError(Exception):
    """The user has interrupted all of it."""


def run_side_by_side(
    jobs: Mapping[str, Job[_ResultT]], progress: Callable[[str, int, int], None]
) -> dict[str, _ResultT | OfaHwError]:
    """Runs each job in a thread of its own to its end; gives its result or its error.

    An interrupt ends each job at its next step, so that it can leave its device as it was.

    Args:
        jobs: By name.
        progress: Called with a job's name, its steps done and its steps in all.
    """
    stop = threading.Event()

    def run(name: str, job: Job[_ResultT]) -> _ResultT | OfaHwError:
        def advance(done: int, total: int) -> None:
            if stop.is_set():
                raise _InterruptedError(name)
            progress(name, done, total)

        try:
            return job(progress=advance)
        except OfaHwError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        running = {name: pool.submit(run, name, job) for name, job in jobs.items()}
        try:
            wait(running.values())
        except KeyboardInterrupt:
            stop.set()
            raise
    return {name: future.result() for name, future in running.items()}
