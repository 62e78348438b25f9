"""A whole training run into one folder: supernet, its evaluation, its accuracy predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ofa_hw.errors import OutputExistsError
from ofa_hw.predictor import FitReport, fit_predictor
from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet import Supernet, load_supernet, save_checkpoint
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import calibrated, top1
from ofa_hw.training.labels import Label, collect_labels
from ofa_hw.training.loop import TrainingStep, total_steps, train
from ofa_hw.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A sub-network of a trained supernet.

    Attributes:
        name: What it is.
        spec: The sub-network.
        macs: Of one image.
        top1: Fraction of the validation images that it classifies rightly.
    """

    name: str
    spec: SubnetSpec
    macs: int
    top1: float


@dataclass(frozen=True, slots=True)
class TrainedSupernet:
    """What a run left in its folder.

    Attributes:
        weights: The supernet's checkpoint.
        predictor: The accuracy predictor's file; None if no labels were asked for.
        evaluated: The smallest and the largest sub-network at the lowest and highest resolution.
        report: How well the predictor does on sub-networks that it has not seen.
    """

    weights: Path
    predictor: Path | None
    evaluated: tuple[Evaluated, ...]
    report: FitReport | None

    def summary(self) -> dict[str, Any]:
        """The same, for JSON."""
        return {
            "weights": str(self.weights),
            "predictor": None if self.predictor is None else str(self.predictor),
            "evaluated": [asdict(network) for network in self.evaluated],
            "report": None if self.report is None else asdict(self.report),
        }


def train_supernet(
    space: str | SearchSpace,
    data: ImageData,
    recipe: Recipe,
    folder: str | Path,
    *,
    labels: int = 150,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedSupernet:
    """Trains a supernet, evaluates it and fits its predictor; files appear when they are whole.

    Args:
        space: A search space or its name.
        data: Images to train on.
        recipe: Phases and hyper-parameters.
        folder: Where `supernet.pth` and `predictor.npz` go.
        labels: Sub-networks to evaluate for the predictor; 0 for none.
        seed: Of weights, training and labels.
        force: Whether to replace the files if they are there.
        progress: Called with steps done and steps in all; a labelled sub-network is a step.

    Raises:
        OutputExistsError: If a file is there and `force` is false.
        SpecError: If the space is unknown, or the images are not of its classes and channels.
        CheckpointError: If the loss becomes infinite or not a number, or a file cannot be written.
    """
    folder = Path(folder)
    weights, predictor = folder / "supernet.pth", folder / "predictor.npz"
    for path in (weights, predictor):
        if path.exists() and not force:
            raise OutputExistsError(path)
    net = load_supernet(space, seed=seed)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    total = total_steps(recipe, data) + labels

    def trained(step: TrainingStep) -> None:
        if progress:
            progress(step.step, total)

    def labelled(done: int, _: int) -> None:
        if progress:
            progress(total - labels + done, total)

    train(net, data, recipe, seed=seed, progress=trained)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(net, weights)
    report = None
    if labels:
        pairs = collect_labels(net, data, labels, seed=seed, progress=labelled)
        report = _fit(net.space, pairs, predictor, seed)
    return TrainedSupernet(
        weights, predictor if labels else None, tuple(_evaluate(net, data)), report
    )


def _fit(space: SearchSpace, labels: list[Label], path: Path, seed: int) -> FitReport | None:
    specs, accuracies = [label.spec for label in labels], [label.top1 for label in labels]
    fitted = fit_predictor(space, specs, accuracies, seed=seed)
    fitted.save(path)
    return fitted.report


def _evaluate(net: Supernet, data: ImageData) -> list[Evaluated]:
    space = net.space
    networks = []
    for resolution in dict.fromkeys((space.resolutions[0], space.resolutions[-1])):
        for name, spec in (
            ("smallest", space.smallest(resolution)),
            ("largest", space.largest(resolution)),
        ):
            accuracy = top1(calibrated(net, spec, data), data, "validation", resolution)
            networks.append(
                Evaluated(f"{name} at {resolution} px", spec, space.macs(spec), accuracy)
            )
    return networks
