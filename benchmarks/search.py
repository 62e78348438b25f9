"""Search with the published MobileNetV3 predictor and the Note10 tables, against known values.

    python benchmarks/search.py DATA [--seeds 20]

DATA holds `acc_predictor.pth` and `note10/`. The best known values come from far longer searches;
the reference is the authors' own search on the same task on a 2-core 2.5 GHz Xeon.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: every figure is of one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from pathlib import Path

import numpy as np

from ofa_hw.latency import LatencyTable, load_table
from ofa_hw.predictor import MlpPredictor, load_predictor
from ofa_hw.search import compile_costs, latency_cost, pareto, search

BEST_KNOWN = {15: 0.78663, 20: 0.80737, 25: 0.82124, 30: 0.83033, 40: 0.84230}
REFERENCE_S = 45.7
REFERENCE_TOP1 = (0.8181, 0.8144, 0.8192, 0.8178, 0.8199)
RESOLUTIONS = (160, 176, 192, 208, 224)


def parts(predictor: MlpPredictor, table: LatencyTable) -> None:
    space, rng = predictor.space, np.random.default_rng(0)
    allowed = space.allowed({"resolution": RESOLUTIONS})
    start = time.perf_counter()
    tables = compile_costs(space, [latency_cost(table)], allowed=allowed)
    print(f"compile the table           {1e3 * (time.perf_counter() - start):8.1f} ms")
    rows = space.canonical_rows(space.sample_rows(10_000, rng=rng, allowed=allowed))
    for name, call in (
        ("latency of 10,000 networks", lambda: tables.evaluate(rows)),
        ("top-1 of 10,000 networks", lambda: predictor.predict_rows(rows)),
    ):
        taken = []
        for _ in range(7):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        print(f"{name:27s} {1e3 * min(taken):8.1f} ms")
    specs = space.decode(rows[:200])
    start = time.perf_counter()
    one_by_one = [table.latency_ms(space.ops(spec)) for spec in specs]
    per_network = (time.perf_counter() - start) / len(specs)
    np.testing.assert_allclose(tables.evaluate(rows[:200])[:, 0], one_by_one)
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        tables.evaluate(rows)
        taken.append(time.perf_counter() - start)
    singly = per_network * len(rows)
    print(
        f"latency, one at a time      {1e3 * singly:8.1f} ms, {singly / min(taken):.0f} x as long"
    )


def budgets(predictor: MlpPredictor, table: LatencyTable, seeds: int) -> None:
    print(
        f"\n{'budget':>6} {'best known':>10} {'mean':>8} {'worst':>8} {'best':>8} {'mean gap':>9} "
        f"{'worst gap':>9} {'wall s':>7} {'cpu s':>6} {'asked/s':>8} {'distinct':>9}"
    )
    for budget, known in BEST_KNOWN.items():
        top1, wall, cpu, asked, distinct = [], [], [], 0, 0
        for seed in range(seeds):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = search(
                predictor.space,
                predictor=predictor,
                lut=table,
                latency_ms=budget,
                resolutions=RESOLUTIONS,
                seed=seed,
            )
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
            assert table.latency_ms(predictor.space.ops(result.best.spec)) <= budget * (1 + 1e-6)
            top1.append(result.best.top1)
            asked += result.evaluations
            distinct += result.distinct
        gap = known - np.array(top1)
        print(
            f"{budget:4d} ms {known:10.5f} {np.mean(top1):8.5f} {min(top1):8.5f} {max(top1):8.5f} "
            f"{gap.mean():+9.5f} {gap.max():+9.5f} {np.median(wall):7.2f} {np.median(cpu):6.2f} "
            f"{asked / sum(wall):8.0f} {distinct / asked:9.1%}"
        )
        if budget == 25:
            faster, gain = REFERENCE_S / np.median(wall), np.mean(top1) - np.mean(REFERENCE_TOP1)
            print(
                f"          the reference takes {faster:.0f} x as long; our mean top-1 is "
                f"{gain:+.5f} of its, our worst {min(top1) - max(REFERENCE_TOP1):+.5f} of its best"
            )
    print("gaps are to the best known value: below zero is better; asked: predictions asked for")


def growth(predictor: MlpPredictor, table: LatencyTable, seeds: int) -> None:
    print("\nhow the result at 25 ms grows with time")
    for rounds in (0, 2, 4, 8, 16, 32):
        top1, start = [], time.perf_counter()
        for seed in range(seeds):
            result = search(
                predictor.space,
                predictor=predictor,
                lut=table,
                latency_ms=25,
                resolutions=RESOLUTIONS,
                rounds=rounds,
                seed=seed,
            )
            top1.append(result.best.top1)
        seconds = (time.perf_counter() - start) / seeds
        print(
            f"{rounds:4d} rounds {seconds:6.2f} s  mean {np.mean(top1):.5f}  worst {min(top1):.5f}"
        )


def front(predictor: MlpPredictor, table: LatencyTable) -> None:
    start, cpu_start = time.perf_counter(), time.process_time()
    found = pareto(predictor.space, predictor=predictor, lut=table, resolutions=RESOLUTIONS)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    gaps = [f"{v - found.within('latency_ms', b).top1:+.5f}" for b, v in BEST_KNOWN.items()]
    print(
        f"\nfront of 50 budgets: {wall:.1f} s ({cpu:.1f} s of CPU), {len(found.points)} points, "
        f"hypervolume {found.hypervolume:.5f}\n  gaps at the budgets above: {' '.join(gaps)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with acc_predictor.pth and note10/")
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    predictor = load_predictor(arguments.data / "acc_predictor.pth")
    table = load_table(arguments.data / "note10")
    parts(predictor, table)
    budgets(predictor, table, arguments.seeds)
    growth(predictor, table, max(1, arguments.seeds // 4))
    front(predictor, table)


if __name__ == "__main__":
    main()
