"""What a backend of one's own is tested with."""

from ofa_hw.testing.clocks import FakeClock, FakeMachine
from ofa_hw.testing.conformance import PROFILER_CHECKS, Check, MakeProfiler

__all__ = ["PROFILER_CHECKS", "Check", "FakeClock", "FakeMachine", "MakeProfiler"]
