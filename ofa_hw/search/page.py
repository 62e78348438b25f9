"""write_page: a front as one HTML page, in which points can be picked and read."""

from __future__ import annotations

import importlib.resources
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ofa_hw.search.costs import CostModel
from ofa_hw.search.types import Candidate
from ofa_hw.spaces import SearchSpace


def write_page(
    path: str | os.PathLike[str],
    points: Sequence[Candidate],
    *,
    space: SearchSpace,
    lut: CostModel,
    title: str,
    command: Callable[[Candidate], str],
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes a front as a page that needs nothing beside itself.

    It plots top-1 against latency. A picked point shows its sub-network, the command that searches
    at its latency and the latency of each of its operators; `page.html#p3` opens with point 3.

    Args:
        path: Where to; an existing file is replaced, and a folder made that is not there.
        points: The networks, by latency ascending.
        space: Which they are of.
        lut: The first table of the search.
        title: Heading of the page.
        command: Gives the command line that leads to a point.
        facts: What else to say of the search, by name.
    """
    operators: dict[tuple[str, float], int] = {}  # listed once, since points share most
    described = [_describe(point, space, lut, command(point), operators) for point in points]
    data = {
        "title": title,
        "facts": dict(facts or {}),
        "overhead_ms": 0.0 if isinstance(lut, Mapping) else lut.overhead_ms,
        "operators": list(operators),
        "points": described,
    }
    # A "</script>" inside the data would end it.
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    template = (importlib.resources.files("ofa_hw.search") / "page.html").read_text("utf-8")
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside.write_text(template.replace("{{DATA}}", text), "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _describe(
    point: Candidate,
    space: SearchSpace,
    lut: CostModel,
    command: str,
    operators: dict[tuple[str, float], int],
) -> dict[str, Any]:
    resolution = point.spec.resolution
    blocks = []
    for op in space.ops(point.spec):
        ms = lut[op] if isinstance(lut, Mapping) else lut.op_latency_ms(op, resolution)
        blocks.append(operators.setdefault((str(op), round(ms, 6)), len(operators)))
    return {
        "top1": point.top1,
        "latency_ms": point.latency_ms,
        "costs": {
            **point.costs,
            "macs": space.macs(point.spec),
            "params": space.params(point.spec),
        },
        "spec": json.loads(point.spec.to_json()),
        "command": command,
        "blocks": blocks,
    }
