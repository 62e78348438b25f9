"""A run on a device that survives its cable: what was on the device is put there again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, TypeVar

from ofa_hw.errors import (
    DeviceFullError,
    DeviceNotFoundError,
    DeviceOutputError,
    DeviceTimeoutError,
    DeviceUnauthorizedError,
)
from ofa_hw_profilers.adb.connect import reconnect
from ofa_hw_profilers.adb.runner import Runner, RunnerDiedError, Visit, VisitRequest
from ofa_hw_profilers.adb.state import Snapshot, take_snapshot
from ofa_hw_profilers.adb.transport import Transport
from ofa_hw_profilers.adb.workspace import SteadyRefusedError, Workspace

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)

_BROKEN = (DeviceNotFoundError, DeviceTimeoutError, RunnerDiedError)
_MOST_FAILURES = 5  # in a row, without one visit between them


class DeviceSession:
    """A device, a folder on it and a runner in that; all brought back after a break.

    Args:
        transport: A connection to the device, which the session closes.
        runner: What runs networks there.
        wait_s: How long to wait for a device that went away.
        fixed_performance: Whether to ask Android for a steady clock while the session lasts.
        sleep: Waits some seconds.
        lock: What keeps others off the device; closed with the session.

    Attributes:
        breaks: How often the device, or the program on it, had to be brought back.
    """

    def __init__(
        self,
        transport: Transport,
        runner: Runner,
        *,
        wait_s: float = 300.0,
        fixed_performance: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        lock: IO[str] | None = None,
    ) -> None:
        self._transport = transport
        self._lock = lock
        self._runner = runner
        self._wait_s = wait_s
        self._fixed_performance = fixed_performance
        self._sleep = sleep
        self._networks: dict[int, bytes] = {}
        self._batches = 0
        self._open = False
        self.serial = transport.serial
        self.breaks = 0

    def start(self) -> None:
        """Clears the device of what earlier runs left, and starts the runner."""
        self._attempt(self._restore)

    @property
    def loaded(self) -> Collection[int]:
        """Numbers of the networks that are loaded."""
        return self._networks.keys()

    def load(self, networks: Mapping[int, bytes]) -> dict[int, str]:
        """Puts networks on the device in one archive and loads them; returns remarks, by number.

        Raises:
            NetworkRefusedError: If the runner cannot run one.
            RunnerDiedError: If one ends the runner again and again.
            DeviceFullError: If they do not fit.
        """
        remarks = self._attempt(lambda: self._load(networks))
        self._networks.update(networks)
        return remarks

    def drop(self, networks: Sequence[int]) -> None:
        """Forgets networks."""
        for number in networks:
            self._networks.pop(number, None)
        with suppress(*_BROKEN):  # what is gone needs not be forgotten
            self._runner.drop(networks)

    def visit(self, requests: Sequence[VisitRequest]) -> Iterator[Visit]:
        """Makes visits in order; those after a break go on where the break was.

        Raises:
            DeviceNotFoundError: If the device stays away.
            RunnerDiedError: If the same visit ends the runner again and again.
        """
        done, failures, at_once = 0, 0, len(requests)
        while done < len(requests):
            try:
                for visit in self._runner.visit(requests[done : done + at_once]):
                    done, failures = done + 1, 0
                    yield visit
            except _BROKEN as error:
                failures += 1
                if isinstance(error, (RunnerDiedError, DeviceTimeoutError)):
                    at_once = 1  # one of these may be the cause, after answers that got lost
                self._recover(error, failures)

    def snapshot(self) -> Snapshot:
        """How the device is doing."""
        return self._attempt(lambda: take_snapshot(self._transport))

    def close(self) -> None:
        """Leaves nothing on the device; waits for it a little if it is away just now."""
        try:
            if self._open:
                self._leave()
        finally:
            self._open = False
            if self._lock:
                self._lock.close()
            with suppress(*_BROKEN):
                self._transport.close()

    def _leave(self) -> None:
        try:
            self._clear()
        except _BROKEN:
            with suppress(*_BROKEN):
                self._transport.close()
            try:
                self._transport = self._reconnect(min(self._wait_s, 30), time.sleep)
                self._clear()
            except _BROKEN as error:
                _logger.warning(
                    "device %s is away; what lies in %s on it goes at the next start (%s)",
                    self.serial,
                    Workspace.folder,
                    error,
                )

    def _attempt(self, action: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            try:
                return action()
            except _BROKEN as error:
                failures += 1
                self._recover(error, failures, restore=action != self._restore)

    def _recover(self, error: Exception, failures: int, *, restore: bool = True) -> None:
        """Brings the device back after an error, or raises it when that leads nowhere."""
        if failures > _MOST_FAILURES or isinstance(error, DeviceUnauthorizedError):
            raise error
        _logger.warning("%s; trying to go on", error)
        self.breaks += 1
        with suppress(*_BROKEN):
            self._runner.stop()
            self._transport.close()
        self._transport = self._reconnect(self._wait_s, self._sleep)
        if restore:
            with suppress(*_BROKEN):  # then the next attempt fails at once, and it counts
                self._restore()

    def _reconnect(self, wait_s: float, sleep: Callable[[float], None]) -> Transport:
        was_served = self._transport.is_served
        return reconnect(self.serial, wait_s=wait_s, was_served=was_served, sleep=sleep)

    def _restore(self) -> None:
        """Brings an empty device into the session's state."""
        is_again, self._open = self._open, True
        workspace = Workspace(self._transport)
        workspace.create()
        if self._fixed_performance:
            self._hold_clocks_steady(workspace, self._wait_s if is_again else 0.0)
        self._runner.start(self._transport, workspace)
        if self._networks:
            self._load(self._networks)

    def _hold_clocks_steady(self, workspace: Workspace, wait_s: float) -> None:
        """Also on a device that has just booted, whose services are not there yet."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                workspace.hold_clocks_steady()
                return
            except SteadyRefusedError:
                if time.monotonic() >= deadline:
                    raise
            self._sleep(1.0)

    def _load(self, networks: Mapping[int, bytes]) -> dict[int, str]:
        workspace = Workspace(self._transport)
        self._batches += 1
        name = f"batch{self._batches}"
        separately = self._runner.reads_files
        try:
            stored = workspace.put_batch(name, networks, separately=separately)
            remarks = self._runner.load(stored)
        except (DeviceFullError, DeviceOutputError):
            with suppress(*_BROKEN):
                workspace.discard(name, f"{name}.tar")
            raise
        if not separately:
            workspace.discard(f"{name}.tar")
        return remarks

    def _clear(self) -> None:
        self._runner.stop()
        Workspace(self._transport).remove()
