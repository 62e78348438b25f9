"""What the runs of `shrinking.py` amount to: paired differences with intervals, and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy import stats

ARMS: Final = ("shrinking", "random", "alone")


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean differences in points of top-1, each with its 95 % t-interval over the seeds."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for run in runs:
        key = run["seed"], "alone" if run["name"].startswith("alone") else run["name"]
        found.setdefault(key, {}).update(run["top1"])
    seeds = sorted({seed for seed, _ in found})
    told = {}
    for other in ("random", "alone"):
        pairs = [
            (found[seed, "shrinking"], found[seed, other])
            for seed in seeds
            if (seed, "shrinking") in found and (seed, other) in found
        ]
        if not pairs:
            continue
        shared = [name for name in pairs[0][0] if all(name in second for _, second in pairs)]
        each = {name: [100 * (a[name] - b[name]) for a, b in pairs] for name in shared}
        means = np.mean(list(each.values()), axis=0).tolist()
        told[f"shrinking minus {other}"] = {
            "mean": interval(means),
            **{name: interval(values) for name, values in each.items()},
        }
    return told


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean of paired differences and the half width of its 95 % t-interval."""
    count = len(values)
    half = None
    if count > 1:
        half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return {"points": float(np.mean(values)), "half_width": half, "each": list(values)}


def report(results: dict[str, Any]) -> str:
    """The results for a person to read."""
    accuracies: dict[str, dict[str, list[float]]] = {}
    for run in results["runs"]:
        arm = run["name"].split()[0]
        for name, value in run["top1"].items():
            accuracies.setdefault(name, {}).setdefault(arm, []).append(100 * value)
    lines = [f"{'top-1 in %, mean of seeds':26}" + "".join(f"{arm:>11}" for arm in ARMS)]
    for name, by_arm in accuracies.items():
        cells = (f"{np.mean(by_arm[arm]):11.2f}" if arm in by_arm else " " * 11 for arm in ARMS)
        lines.append(f"{name:26}" + "".join(cells))
    for what, found in results["summary"].items():
        mean = found["mean"]
        wide = "" if mean["half_width"] is None else f" +- {mean['half_width']:.2f}"
        lines.append(f"{what}: {mean['points']:+.2f}{wide} points, {len(mean['each'])} seeds")
    if fitted := results.get("predictor", {}).get("report"):
        lines.append(f"predictor, on sub-networks it has not seen: {json.dumps(fitted)}")
    return "\n".join(lines)
