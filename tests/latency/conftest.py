"""A profiler on a fake machine, whose every figure is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ofa_hw.graph import Graph
from ofa_hw.profiling import DeviceInfo, InProcessProfiler, Runnable
from ofa_hw.testing import FakeMachine


def cost_ns(graph: Graph) -> float:
    """What a network takes on the fake machine: a call, its nodes and its work."""
    return 2_000 + 500 * len(graph.nodes) + graph.macs / 4


class FakeProfiler(InProcessProfiler):
    """Counts what it loads; runs nothing.

    What a network takes differs from load to load by `placement`, as where it comes to lie does.
    """

    def __init__(self, machine: FakeMachine, device: DeviceInfo, placement: float = 0.0) -> None:
        super().__init__(device, clock=machine.clock)
        self.machine = machine
        self.loaded = 0
        self._placement = placement
        self._rng = np.random.default_rng(0)

    def load(self, graph: Graph) -> Runnable:
        self.loaded += 1
        factor = np.exp(self._placement * self._rng.standard_normal())
        return self.machine.runnable(cost_ns(graph) * factor)


@dataclass
class FakeBackend:
    """Makes fake profilers of one device."""

    device: DeviceInfo = field(
        default_factory=lambda: DeviceInfo("fake cpu", "fake", "none", "1.0")
    )

    def open(self, *, noise: float = 0.005, seed: int = 0, placement: float = 0.0) -> FakeProfiler:
        return FakeProfiler(FakeMachine(seed=seed, noise=noise), self.device, placement)


@pytest.fixture(scope="session")
def fake_backend() -> Callable[..., FakeProfiler]:
    return FakeBackend().open
