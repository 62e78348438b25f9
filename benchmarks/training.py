"""Images/s of the whole training loop, against the bare elastic step, phase by phase.

The loop is `train`, with reading and varying images, sampling sub-networks and a line in the log
for each step. The bare step is forward, loss, backward and SGD of the same sub-networks at the same
resolutions on images that are in memory already, the teacher's forward included. Blocks of both
take turns, so that what the machine does besides meets both, and the medians are compared.

    python benchmarks/training.py [--data digits glyphs photos photos224] [--rounds 5] [--steps 40]

`digits` are scikit-learn's, for the space `tiny`; `glyphs` a folder of JPEGs of 64 px (see
`glyphs.py`); `photos` one of JPEGs of 500 x 375 px, for MobileNetV3 at 128 to 224 px, and
`photos224` the same at 224 px alone. Phases, and the sub-networks a step, are those of `--recipe`.
On one core images are decoded between the steps, with a second one beside them: `taskset -c 0,1`.
On a machine that is busy otherwise, `--cpu-time` counts processor seconds of all threads. On a GPU:

    python benchmarks/training.py --data photos224 --recipe paper --device cuda --batch-size 128
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_cases import CASES, Case

from ofa_hw.supernet import load_supernet
from ofa_hw.training import (
    Execution,
    ImageData,
    Recipe,
    ShrinkingPhase,
    TrainingState,
    TrainingStep,
    get_recipe,
    keep_freed_memory,
    train,
)
from ofa_hw.training.execution import PRECISIONS
from ofa_hw.training.log import LogFile
from ofa_hw.training.loop import frozen_copy
from ofa_hw.training.schedule import epoch_steps
from ofa_hw.training.step import make_optimizer, sample_specs, train_step


def alone(phase: ShrinkingPhase, case: Case, data: ImageData, steps: int) -> Recipe:
    """A recipe of so many steps of a phase."""
    per_epoch = data.size("train") // case.batch_size
    # The channels are sorted once at the start of a phase, not every so many steps.
    short = replace(
        phase, epochs=steps / per_epoch, warmup_epochs=0, learning_rate=0.01, sort_phase=None
    )
    return Recipe(phase.name, (short,), case.batch_size)


class Bench:
    """Two supernets of a case, one trained by the loop and one by bare steps."""

    def __init__(
        self,
        case: Case,
        data: ImageData,
        log: LogFile,
        clock: Callable[[], float],
        execution: Execution,
    ) -> None:
        self._case, self._data, self._log, self._clock = case, data, log, clock
        self._execution = execution
        self._looped, self._stepped = load_supernet(case.space), load_supernet(case.space)
        for net in (self._looped, self._stepped):
            self._execution.place(net)
        self._teacher = frozen_copy(self._stepped)
        generator = torch.Generator().manual_seed(0)
        shape = (case.batch_size, case.space.in_channels)
        self._images = {
            r: self._execution.images(torch.randn(*shape, r, r, generator=generator))
            for r in case.space.resolutions
        }
        labels = torch.randint(case.space.num_classes, (case.batch_size,), generator=generator)
        self._labels = labels.to(execution.device)
        self._scaler = execution.scaler()

    def loop_s(self, recipe: Recipe, *, taught: bool, seed: int) -> float:
        """Seconds of a recipe's steps with everything around them."""
        start_s = self._clock()
        train(
            *(self._looped, self._data, recipe),
            seed=seed,
            execution=self._execution,
            start=TrainingState(teacher=self._teacher if taught else None),
            progress=self._record,
        )
        return self._clock() - start_s

    def bare_s(self, recipe: Recipe, steps: int, *, taught: bool, seed: int) -> float:
        """Seconds of the same sub-networks' steps on images that are there."""
        net, (phase,) = self._stepped, recipe.phases
        net.train()
        optimizer, allowed = make_optimizer(net, recipe), phase.allowed(self._case.space)
        per_epoch = epoch_steps(recipe, self._data)
        resolutions: list[int] = []
        while len(resolutions) < steps:
            rng = np.random.default_rng((seed, 0, 0, len(resolutions) // per_epoch))
            rng.permutation(self._data.size("train"))
            resolutions += rng.choice(self._case.space.resolutions, per_epoch).tolist()
        start_s = self._clock()
        for step, resolution in enumerate(resolutions[:steps]):
            specs = sample_specs(net, allowed, phase, resolution, seed=(seed, 0, 1, step))
            train_step(
                *(net, self._teacher if taught else None, optimizer, recipe, specs),
                *(self._images[resolution], self._labels),
                execution=self._execution,
                scaler=self._scaler,
            )
        return self._clock() - start_s

    def _record(self, step: TrainingStep) -> None:
        self._log.add({"line": "step", **asdict(step)})


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is measured.

    Attributes:
        rounds: Of blocks of every phase, after one that is not counted.
        steps: Of a block.
        phases: Whose steps are taken.
        execution: How.
        clock: Seconds so far.
    """

    rounds: int
    steps: int
    phases: tuple[ShrinkingPhase, ...]
    execution: Execution
    clock: Callable[[], float]


def benchmark(name: str, case: Case, plan: Plan, folder: Path) -> dict[str, Any]:
    """Images/s of the loop and of the bare step in each phase, and their ratio."""
    data, phases, steps = case.make(folder / name), plan.phases, plan.steps
    loops: dict[str, list[float]] = {phase.name: [] for phase in phases}
    bares: dict[str, list[float]] = {phase.name: [] for phase in phases}
    with LogFile(folder / f"{name}.jsonl", keep=0) as log:
        bench = Bench(case, data, log, plan.clock, plan.execution)
        for index in range(plan.rounds + 1):
            for phase in phases:
                recipe, taught = alone(phase, case, data, steps), not phase.is_full
                looped_s = bench.loop_s(recipe, taught=taught, seed=index)
                bare_s = bench.bare_s(recipe, steps, taught=taught, seed=index)
                if index:  # in the first one kernels are made and images decoded
                    loops[phase.name].append(looped_s)
                    bares[phase.name].append(bare_s)
    images = case.batch_size * steps
    per_phase = {
        name: {
            "loop_images_per_s": images / statistics.median(loops[name]),
            "bare_images_per_s": images / statistics.median(bares[name]),
            "ratio": statistics.median(
                b / a for a, b in zip(loops[name], bares[name], strict=True)
            ),
        }
        for name in loops
    }
    each = zip(zip(*loops.values(), strict=True), zip(*bares.values(), strict=True), strict=True)
    ratios = [sum(bare) / sum(looped) for looped, bare in each]
    return {
        "data": name,
        "batch_size": case.batch_size,
        "device": device_name(plan.execution.device),
        "precision": plan.execution.precision,
        "cores": len(os.sched_getaffinity(0)),
        "phases": per_phase,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def clock_of(device: str, *, cpu_time: bool) -> Callable[[], float]:
    """Seconds, read when the device has done all that it was told to."""
    clock = time.process_time if cpu_time else time.perf_counter
    if not device.startswith("cuda"):
        return clock

    def synchronised() -> float:
        torch.cuda.synchronize(device)
        return clock()

    return synchronised


def chosen_phases(recipe: str, names: list[str] | None) -> tuple[ShrinkingPhase, ...]:
    """The phases of a recipe, or some of them by name.

    Raises:
        SystemExit: If it has no phase of a name.
    """
    phases = {phase.name: phase for phase in get_recipe(recipe).phases}
    if unknown := set(names or ()) - phases.keys():
        raise SystemExit(f"{recipe} has no phase {sorted(unknown)[0]!r}; it has {list(phases)}")
    return tuple(phases[name] for name in names or phases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=CASES, default=["digits", "glyphs", "photos"])
    parser.add_argument("--recipe", default="digits", help="a name, or a .toml file")
    parser.add_argument("--phases", nargs="+", help="of the recipe; all by default")
    parser.add_argument("--batch-size", type=int, help="images a step; by default the data's own")
    parser.add_argument("--device", default="cpu", help="where torch computes, as cpu or cuda")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of a block")
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds")
    parser.add_argument("--system-allocator", action="store_true", help="leave glibc as it is")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(
        arguments.rounds,
        arguments.steps,
        chosen_phases(arguments.recipe, arguments.phases),
        Execution(device=arguments.device, precision=arguments.precision),
        clock_of(arguments.device, cpu_time=arguments.cpu_time),
    )
    kept = not arguments.system_allocator and keep_freed_memory()
    for name in arguments.data:
        case = replace(CASES[name], batch_size=arguments.batch_size or CASES[name].batch_size)
        with tempfile.TemporaryDirectory() as folder:
            found = benchmark(name, case, plan, Path(folder))
        if arguments.json:
            print(json.dumps({**found, "torch": torch.__version__, "kept_memory": kept}))
            continue
        print(
            f"{name}, batches of {case.batch_size} on {found['device']} in {found['precision']}, "
            f"1 thread of torch on {found['cores']} core(s), "
            f"freed memory {'kept' if kept else 'given back'}: the loop does "
            f"{found['ratio']:.3f} of the bare step ({min(found['ratios']):.3f} to "
            f"{max(found['ratios']):.3f})"
        )
        for phase, each in found["phases"].items():
            print(
                f"  {phase:10} {each['loop_images_per_s']:7.0f} images/s, bare "
                f"{each['bare_images_per_s']:7.0f}, ratio {each['ratio']:.3f}"
            )


if __name__ == "__main__":
    main()
