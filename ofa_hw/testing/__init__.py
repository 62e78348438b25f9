"""What a backend of one's own is tested with."""

from ofa_hw.testing.clocks import FakeClock, FakeMachine
from ofa_hw.testing.conformance import PROFILER_CHECKS, MakeProfiler

__all__ = ["PROFILER_CHECKS", "FakeClock", "FakeMachine", "MakeProfiler"]
