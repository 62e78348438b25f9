"""Reads the latency tables that the authors of once-for-all published, one YAML file a resolution.

Keys look like `expanded_conv-input:56x56x32-output:28x28x48-expand:128-kernel:5-stride:2-idskip:0
-se:1-hs:0`. In the older form, that of ProxylessNAS, `expand` is a ratio and there is neither `se`
nor `hs`; every activation is relu6, and the classifier's entry includes the pool before it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ofa_hw.errors import SpecError, TableError, TableFormatError
from ofa_hw.latency.rows import Statistics
from ofa_hw.latency.table import Header, LatencyTable
from ofa_hw.ops import OpSpec, make_divisible, se_middle
from ofa_hw.profiling import DeviceInfo

_WITHIN_CLASSIFIER = "measured within the classifier's row"


def import_published(source: Path | str) -> LatencyTable:
    """Imports a published table.

    The files say how often and how long each block ran, on average, and nothing about the device
    or the runtime; both are `unknown` in the header.

    Args:
        source: A YAML file, or a folder of them, whose rows then stand in one table.

    Raises:
        TableError: If there is no such file, or PyYAML is missing.
        TableFormatError: If a file is no published table; the key at fault is given.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml"))
        if not files:
            raise TableError(f"{path} holds no YAML table; name the folder that does")
    else:
        files = [path]
    variants: dict[int, dict[OpSpec, Statistics]] = {}
    for file in files:
        resolution, rows = _read(file)
        if resolution in variants:
            raise TableFormatError(f"{file}: another file is of resolution {resolution} too")
        variants[resolution] = rows
    device = DeviceInfo(
        name="unknown",
        backend="unknown",
        runtime="unknown",
        runtime_version="unknown",
        dtype="unknown",
        threads=None,
        batch=None,
        details={"source": path.name},
    )
    # A block that networks of two resolutions share was measured for each; alone, the last counts.
    merged = {op: row for rows in variants.values() for op, row in rows.items()}
    return LatencyTable(path.name, Header(device), merged, variants=variants)


def _read(path: Path) -> tuple[int, dict[OpSpec, Statistics]]:
    """The resolution of the networks that a file is for, and its rows."""
    try:
        import yaml
    except ImportError as error:
        raise TableError(f"reading {path} takes PyYAML: pip install pyyaml") from error
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TableFormatError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict) or not data:
        raise TableFormatError(f"{path} is no published table: it holds no blocks")
    old = not any("-hs:" in str(key) for key in data)
    rows: dict[OpSpec, Statistics] = {}
    for key, entry in data.items():
        try:
            row = _statistics(entry)
            *within, op = _ops(str(key), old)
        except (ValueError, TypeError, KeyError, SpecError) as error:
            raise TableFormatError(f"{path}: {key}: {error}") from error
        rows[op] = row
        rows.update(dict.fromkeys(within, Statistics(0.0, 0, notes=(_WITHIN_CLASSIFIER,))))
    stems = [op.resolution for op in rows if op.kind == "conv" and op.in_channels == 3]
    if len(stems) != 1:
        raise TableFormatError(f"{path} has {len(stems)} entries of a first convolution, not one")
    return stems[0], rows


def _statistics(entry: Any) -> Statistics:  # noqa: ANN401 - whatever the file holds
    mean_ms, count = float(entry["mean"]), int(entry["count"])
    if not mean_ms > 0:
        raise ValueError(f"mean must be a positive number of milliseconds, got {mean_ms}")
    return Statistics(mean_ms, count, notes=("mean, not median",))


def _ops(key: str, old: bool) -> list[OpSpec]:
    """The operators that an entry was measured on, the one that its latency stands for last."""
    kind, _, rest = key.partition("-")
    fields = dict(re.findall(r"(\w+):([\dx]+)", rest))
    size, channels = _shape(fields["input"])
    out_size, out_channels = _shape(fields["output"])
    activation = "relu6" if old else "h_swish"
    match kind:
        case "Conv":
            return [
                OpSpec(
                    "conv",
                    size,
                    channels,
                    out_channels,
                    kernel_size=3,
                    stride=-(-size // out_size),
                    activation=activation,
                )
            ]
        case "Conv_1" | "Conv_2":
            norm = kind == "Conv_1"
            return [OpSpec("conv", size, channels, out_channels, activation=activation, norm=norm)]
        case "AvgPool2D":
            return [OpSpec("global_pool", size, channels, out_channels)]
        case "Logits":
            pool = [OpSpec("global_pool", size, channels, channels)] if size > 1 else []
            return [*pool, OpSpec("linear", 1, channels, out_channels)]
        case "expanded_conv":
            expand = int(fields["expand"])
            middle = make_divisible(channels * expand) if old else expand
            if not old:
                activation = "h_swish" if fields["hs"] == "1" else "relu"
            return [
                OpSpec(
                    "mbconv",
                    size,
                    channels,
                    out_channels,
                    mid_channels=middle,
                    kernel_size=int(fields["kernel"]),
                    stride=int(fields["stride"]),
                    activation=activation,
                    se_channels=se_middle(middle) if fields.get("se") == "1" else 0,
                    shortcut="identity" if fields["idskip"] == "1" else "none",
                )
            ]
    raise ValueError(f"unknown kind of block {kind!r}")


def _shape(text: str) -> tuple[int, int]:
    """(height, channels) of `112x112x24`, or (1, features) of `1000`."""
    sizes = [int(part) for part in text.split("x")]
    if len(sizes) not in (1, 3) or sizes[0] != sizes[-2 if len(sizes) == 3 else 0]:
        raise ValueError(f"a shape looks like 112x112x24 or 1000, not {text!r}")
    return (sizes[0], sizes[2]) if len(sizes) == 3 else (1, sizes[0])
