"""Reads what Google's benchmark_model prints, in all three forms that it had so far.

Every value is in microseconds. The first `count=` line is of the warm-up. Newer versions add
percentiles, write averages as 1.24027e+06, and mark a single value as `curr=N(all same)`. A flag
that it does not know, and a delegate that takes over nothing, are only mentioned in passing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ofa_hw.errors import DeviceOutputError

_NUMBER = r"[0-9.]+(?:e[+-]?[0-9]+)?"
_COUNT = re.compile(
    rf"^(?:INFO: )?count=(?P<count>\d+)(?: first=(?P<first>{_NUMBER}))?"
    rf" curr=(?P<curr>{_NUMBER})(?:\s*\(all same\))?"
    rf"(?: min=(?P<min>{_NUMBER}) max=(?P<max>{_NUMBER}) avg=(?P<avg>{_NUMBER})"
    rf" std=(?P<std>{_NUMBER}))?"
    rf"(?: p5=(?P<p5>{_NUMBER}) median=(?P<median>{_NUMBER}) p95=(?P<p95>{_NUMBER}))?\s*$",
    re.M,
)
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: (?P<init>{_NUMBER}), First inference: (?P<first>{_NUMBER}), "
    rf"Warmup \(avg\): (?P<warm>{_NUMBER}), Inference \(avg\): (?P<avg>{_NUMBER})"
)
_REPLACED = re.compile(
    r"Replacing (?P<taken>\d+) out of (?P<nodes>\d+) node\(s\) with delegate \((?P<name>\w+)\) node"
)
_APPLIED = re.compile(r"the model graph will be (completely|partially) executed")
_NOT_APPLIED = re.compile(r"Though (\w+) delegate is explicitly applied, the model graph will not")
_UNCONSUMED = re.compile(r"^.*Unconsumed cmdline flags: *(.+)$", re.M)
_COMPLAINT = re.compile(r"^(?:ERROR|FATAL|F|E)\b.*$|^.*(?:not supported|Failed to).*$", re.M)


@dataclass(frozen=True, slots=True)
class BenchmarkStats:
    """One `count=` line.

    Attributes:
        count: Inferences.
        average_us: Of one inference.
        median_us: Of one inference; None where the version does not print it.
        min_us: Fastest.
        max_us: Slowest.
    """

    count: int
    average_us: float
    median_us: float | None
    min_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class BenchmarkOutput:
    """What one call of benchmark_model said.

    Attributes:
        warm_up: Of the first `count=` line; None if there is but one.
        inference: Of the last `count=` line.
        init_us: Time to load the network; None where it is not printed.
        delegated: Nodes that the delegate took over, and nodes in all; None where not printed.
        is_whole: Whether the delegate took over all of them; None where nothing says so.
    """

    warm_up: BenchmarkStats | None
    inference: BenchmarkStats
    init_us: float | None
    delegated: tuple[int, int] | None
    is_whole: bool | None


def parse_benchmark(text: str, *, exit_code: int = 0, runs: int | None = None) -> BenchmarkOutput:
    """Reads the output of one call.

    Args:
        text: Its stdout and stderr.
        exit_code: Of the call.
        runs: Inferences asked for; checked if given.

    Raises:
        DeviceOutputError: If the call failed, ignored a flag, made another number of inferences,
            or says nothing that can be read; with its own words.
    """
    if found := _UNCONSUMED.search(text):
        raise DeviceOutputError(
            f"this benchmark_model does not know the flags {found[1].strip()}: it would measure "
            "something else than was asked for; use another version or build"
        )
    if exit_code:
        raise DeviceOutputError(f"benchmark_model ended with exit code {exit_code}: {_words(text)}")
    if found := _NOT_APPLIED.search(text):
        raise DeviceOutputError(
            f"the delegate {found[1]} took over nothing and benchmark_model measured without it; "
            "choose another delegate"
        )
    lines = [_stats(found) for found in _COUNT.finditer(text)]
    if not lines:
        raise DeviceOutputError(f"benchmark_model printed no measurement: {_words(text)}")
    timings, applied = _TIMINGS.search(text), _APPLIED.search(text)
    delegated = _delegated(text)
    is_whole = delegated[0] == delegated[1] if delegated else None
    if runs is not None and lines[-1].count != runs:
        raise DeviceOutputError(
            f"benchmark_model made {lines[-1].count} inferences in place of {runs}"
        )
    return BenchmarkOutput(
        warm_up=lines[0] if len(lines) > 1 else None,
        inference=lines[-1],
        init_us=float(timings["init"]) if timings else None,
        delegated=delegated,
        is_whole=applied[1] == "completely" if applied else is_whole,
    )


def _stats(found: re.Match[str]) -> BenchmarkStats:
    current = float(found["curr"])  # `all same` stands for first, min, max and average
    average = float(found["avg"] or current)
    stats = BenchmarkStats(
        count=int(found["count"]),
        average_us=average,
        median_us=float(found["median"]) if found["median"] else None,
        min_us=float(found["min"] or current),
        max_us=float(found["max"] or current),
    )
    # An average is printed with 6 digits.
    if stats.count < 1 or not stats.min_us * 0.9999 <= average <= stats.max_us * 1.0001:
        raise DeviceOutputError(f"benchmark_model contradicts itself: {found[0].strip()}")
    return stats


def _delegated(text: str) -> tuple[int, int] | None:
    """Nodes that the first delegate took over, in all its lines, and nodes in all."""
    lines = list(_REPLACED.finditer(text))
    if not lines:
        return None
    taken = sum(int(line["taken"]) for line in lines if line["name"] == lines[0]["name"])
    return taken, int(lines[0]["nodes"])


def _words(text: str) -> str:
    """The lines of an output that tell what went wrong."""
    complaints = _COMPLAINT.findall(text)
    return "; ".join(complaints[:3]) or text.strip()[-300:] or "it said nothing"
