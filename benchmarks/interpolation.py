"""How far interpolated resolutions are off: rows of a whole table are left out and interpolated.

python benchmarks/interpolation.py TABLE [--kept 128,160,192,224] [--networks 400]
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from ofa_hw.latency import load_table
from ofa_hw.latency.validation import error_figures
from ofa_hw.spaces import get_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="one that has every resolution of its space")
    parser.add_argument(
        "--kept", type=lambda text: [int(r) for r in text.split(",")], default=[128, 160, 192, 224]
    )
    parser.add_argument("--networks", type=int, default=400)
    arguments = parser.parse_args()
    table = replace(load_table(arguments.table), calibration=None)
    space, rng = get_space(table.header.space or ""), np.random.default_rng(0)
    table.require(space.table_ops())
    kept = set(space.table_ops(arguments.kept))
    rows = {op: row for op, row in table.rows.items() if op in kept}
    between = replace(table, rows=rows).interpolated(space.table_ops())
    # Both at the same level, which is that of the rows that are kept.
    level = (between.sentinel_ms or 1.0) / (table.sentinel_ms or 1.0)
    blocks = between.interpolated_ms
    measured = [level * table.rows_ms[op] for op in blocks]
    left_out = [r for r in space.resolutions if r not in arguments.kept]
    specs = [
        space.sample(rng=rng, resolution=int(rng.choice(left_out)))
        for _ in range(arguments.networks)
    ]
    sums = np.array([(between.latency_ms(o), table.latency_ms(o)) for o in map(space.ops, specs)])
    for name, estimated, truth in (
        ("blocks", list(blocks.values()), measured),
        ("networks", sums[:, 0], level * sums[:, 1]),
    ):
        figures = error_figures(estimated, truth)
        print(
            f"{figures.networks} {name}, interpolated against measured rows: "
            f"MAPE {figures.mape:.2%}, bias {figures.bias:+.2%}, "
            f"within 5 % {figures.within_5:.0%}, Spearman {figures.spearman:.4f}"
        )


if __name__ == "__main__":
    main()
