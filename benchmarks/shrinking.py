"""What progressive shrinking is worth, on images of letters: three ways to train, seed after seed.

- `shrinking`: a supernet trained phase by phase, as https://arxiv.org/abs/1908.09791.
- `random`: the same supernet, of which random sub-networks are trained from the first step on. It
  gets the same budget: as many multiply-adds in forward and backward passes, the teacher's and
  those of every sub-network of a step counted, as the phases of `shrinking` together.
- `alone`: single networks, each trained by itself with all its weights its own. Each gets as many
  passes over the training images as `shrinking` has in all its phases, which train every
  sub-network at once; at the resolution that it is measured at, where the supernets see three.

Accuracy is of test images in fonts that no training image shows. The networks compared are those
of the same depth D in every unit, expansion W and kernel K in every block, and random ones. The
predictor is fitted on random sub-networks of the first seed's shrunk supernet, measured on images
of their own in the training images' fonts, each resolution equally often, and judged on a fifth
that it has not seen.

    python benchmarks/shrinking.py runs/shrinking [--quick] [--jobs 2] [--fonts FOLDER ...]

Results are in `runs/shrinking/results.json`, written anew after every network or supernet; the same
command goes on where it was stopped, inside of a phase too. `--tune` trains a seed that the results
do not use, to choose a recipe by.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import glyphs
import torch
from shrinking_arms import (
    RESOLUTION,
    Shape,
    alone_recipe,
    compared,
    macs_per_image,
    passes,
    random_recipe,
    shape_name,
    shrinking_recipe,
)
from shrinking_labels import judged_predictor, label_data
from shrinking_summary import ARMS, report, summary

from ofa_hw.export import write_text
from ofa_hw.spaces import get_space
from ofa_hw.supernet import load_supernet
from ofa_hw.training import (
    Pace,
    calibrated,
    keep_freed_memory,
    top1,
    train_supernet,
)
from ofa_hw.training.decode import Augmentation
from ofa_hw.training.folder import FolderData

TUNING_SEED, FIRST_SEED = 1, 30
NOT_OF_RUNS: Final = ("seeds", "labels", "label_images")  # sizes that change no training
AUGMENTATION: Final = Augmentation(smallest_area=0.6, flip=False, saturation=0.2)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done.

    Attributes:
        seeds: How many times all of it.
        train: Training images a class; a sixth of them is held out as validation.
        test: Test images a class.
        epochs: Of the first phase; the others are in proportion.
        alone: Depth, expansion and kernel of the networks trained alone.
        drawn: Random sub-networks compared besides the uniform ones.
        labels: Sub-networks for the predictor.
        label_images: Images a class that they are measured on, of a drawing of their own. What
            is held out of the training images tells sub-networks too poorly apart.
    """

    seeds: int = 3
    train: int = 120
    test: int = 40
    epochs: float = 16.0
    alone: tuple[Shape, ...] = ((2, 2, 3), (3, 3, 5))
    drawn: int = 4
    labels: int = 400
    label_images: int = 100


QUICK: Final = Size(
    1, train=6, test=1, epochs=0.4, alone=((2, 2, 3),), drawn=1, labels=12, label_images=6
)


@dataclass(slots=True)
class Study:
    """The runs of a folder, and what came of them so far."""

    folder: Path
    data: FolderData
    size: Size
    results: dict[str, Any]

    def run(self, seeds: Sequence[int], arms: Sequence[str], jobs: int = 1) -> None:
        """Trains what is missing, so many at a time, each by one process with one thread."""
        runs = self.results["runs"]
        done = {(run["seed"], run["name"]) for run in runs}
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=prepare_torch) as workers:
            training = {
                workers.submit(trained, self.folder, self.data, self.size, seed, arm, shape)
                for seed, arm, shape in self._planned(seeds, arms)
                if (seed, run_name(arm, shape)) not in done
            }
            for finished in as_completed(training):
                runs.append(finished.result())
                runs.sort(key=lambda run: (run["seed"], ARMS.index(run["name"].split()[0])))
                self.write()
                told = finished.result()
                print(
                    f"seed {told['seed']}, {told['name']}: {json.dumps(told['top1'])}", flush=True
                )

    def label(self, seed: int, fonts: Sequence[Path], jobs: int = 1) -> None:
        """Fits and judges the predictor of the shrunk supernet."""
        if "predictor" not in self.results:
            self.results["predictor"] = judged_predictor(
                self.folder / str(seed) / "shrinking",
                label_data(self.folder / "label-images", fonts, self.size.label_images),
                self.size.labels,
                seed=seed,
                jobs=jobs,
            )
            self.write()

    def write(self) -> None:
        """Writes the results, with what they amount to so far."""
        self.results["summary"] = summary(self.results["runs"])
        text = json.dumps(self.results, indent=1) + "\n"
        write_text(self.folder / "results.json", text)

    def _planned(
        self, seeds: Sequence[int], arms: Sequence[str]
    ) -> Iterator[tuple[int, str, Shape | None]]:
        for seed in seeds:
            for arm in arms:
                for shape in self.size.alone if arm == "alone" else (None,):
                    yield seed, arm, shape


def run_name(arm: str, shape: Shape | None) -> str:
    return f"{arm} {shape_name(*shape)}" if shape else arm


def trained(
    folder: Path, data: FolderData, size: Size, seed: int, arm: str, shape: Shape | None
) -> dict[str, Any]:
    """Trains a supernet, or a network alone, and measures what is compared."""
    space, recipe = get_space("glyphs:space"), shrinking_recipe(size.epochs)
    specs, name = compared(space, size.alone, size.drawn), run_name(arm, shape)
    if arm == "random":
        one = macs_per_image(space, random_recipe(1))
        recipe = random_recipe(macs_per_image(space, recipe) / one)
    elif shape:
        depth, expand, kernel = shape
        space = glyphs.shaped(
            shape_name(*shape),
            depths=[depth],
            expand_ratios=[expand],
            kernel_sizes=[kernel],
            resolutions=[RESOLUTION],
        )
        recipe = alone_recipe(passes(recipe))
        specs = {shape_name(*shape): space.largest()}
    folder = folder / str(seed) / name.replace(" ", "-")
    start_s = time.monotonic()
    run = train_supernet(space, data, recipe, folder, labels=0, seed=seed, pace=Pace(30))
    train_s = time.monotonic() - start_s
    net = load_supernet(space, run.weights).eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    accuracies = {
        key: top1(calibrated(net, spec, data), data, "test", RESOLUTION)
        for key, spec in specs.items()
    }
    return {
        "seed": seed,
        "name": name,
        "top1": accuracies,
        "passes": passes(recipe),
        "macs_per_image": macs_per_image(space, recipe),
        "train_s": train_s,
    }


def prepare_torch() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def opened(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The results of a folder, or empty ones.

    Raises:
        SystemExit: If they are of other settings.
    """
    if not path.exists():
        return {"settings": settings, "runs": [], "summary": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    there = results["settings"]
    wrong = [key for key in settings if json.dumps(settings[key]) != json.dumps(there.get(key))]
    if wrong:
        raise SystemExit(
            f"{path} is of other settings: {', '.join(wrong)}; name another folder, or remove it"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="gets images, runs and results")
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--tune", action="store_true", help="train the tuning seed instead")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--jobs", type=int, default=1, help="how many train at a time")
    parser.add_argument("--fonts", nargs="+", default=glyphs.FOLDERS, help="folders of fonts")
    arguments = parser.parse_args()
    prepare_torch()
    size = QUICK if arguments.quick else Size()
    images, fonts = arguments.folder / "images", glyphs.find_fonts(arguments.fonts)
    glyphs.write_glyphs(images, fonts, train=size.train, test=size.test)
    data = FolderData(images, validation=1 / 6, augmentation=AUGMENTATION)
    settings = {
        "size": {k: v for k, v in asdict(size).items() if k not in NOT_OF_RUNS},
        "recipes": [asdict(shrinking_recipe(1)), asdict(random_recipe(1)), asdict(alone_recipe(1))],
        "augmentation": asdict(AUGMENTATION),
        "fonts": len(fonts),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    results = opened(arguments.folder / "results.json", settings)
    study = Study(
        arguments.folder, data, replace(size, seeds=arguments.seeds or size.seeds), results
    )
    seeds = [TUNING_SEED] if arguments.tune else [FIRST_SEED + i for i in range(study.size.seeds)]
    study.run(seeds, arguments.arms, arguments.jobs)
    if not arguments.tune and "shrinking" in arguments.arms:
        study.label(seeds[0], fonts, arguments.jobs)
    print(report(study.results))


if __name__ == "__main__":
    main()
