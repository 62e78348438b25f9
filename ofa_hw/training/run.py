"""A whole training run in one folder, which goes on where it was stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from ofa_hw.errors import CheckpointError, OutputExistsError
from ofa_hw.export import write_text
from ofa_hw.predictor import FitReport, fit_predictor
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space
from ofa_hw.supernet import Supernet, load_supernet, save_checkpoint
from ofa_hw.training.checkpoints import Checkpoints
from ofa_hw.training.data import ImageData, require_images
from ofa_hw.training.evaluate import Evaluated, evaluate_supernet, measured_last
from ofa_hw.training.execution import Execution, Workers
from ofa_hw.training.identity import require_same, run_identity, write_identity
from ofa_hw.training.labels import Label, collect_labels, require_distinct
from ofa_hw.training.loop import TrainingState, TrainingStep, frozen_copy
from ofa_hw.training.recipe import Recipe
from ofa_hw.training.resumable import Pace, Watch, train_resumable
from ofa_hw.training.schedule import total_steps

_logger = logging.getLogger(__name__)
_IDENTITY, _RESULT, _WEIGHTS = "run.json", "result.json", "supernet.pth"
_PREDICTOR, _BEST, _LOG = "predictor.npz", "best.pth", "log.jsonl"
_LABELS = "labels.jsonl"
FILES: Final = (_IDENTITY, _RESULT, _WEIGHTS, _PREDICTOR, _BEST, _LOG, _LABELS)


@dataclass(frozen=True, slots=True)
class TrainedSupernet:
    """What a run left in its folder.

    Attributes:
        weights: The supernet's checkpoint.
        predictor: The accuracy predictor's file; None if no labels were asked for.
        evaluated: The smallest and the largest sub-network at the lowest and highest resolution,
            and two random ones.
        report: How well the predictor does on sub-networks that it has not seen.
        labels: Sub-networks that were labelled for it.
        fresh: Whether anything had to be done, and not all was there already.
    """

    weights: Path
    predictor: Path | None
    evaluated: tuple[Evaluated, ...]
    report: FitReport | None
    labels: int = 0
    fresh: bool = True

    def summary(self) -> dict[str, Any]:
        """The same, for JSON."""
        return {
            "weights": str(self.weights),
            "predictor": None if self.predictor is None else str(self.predictor),
            "evaluated": [asdict(network) for network in self.evaluated],
            "report": None if self.report is None else asdict(self.report),
            "labels": self.labels,
        }

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What a finished run wrote; None if it is not finished.

        Raises:
            CheckpointError: If the file is damaged.
        """
        path = folder / _RESULT
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text())
            return cls(
                folder / _WEIGHTS,
                folder / _PREDICTOR if data["predictor"] else None,
                tuple(
                    Evaluated(**{**n, "spec": SubnetSpec.from_json(json.dumps(n["spec"]))})
                    for n in data["evaluated"]
                ),
                FitReport(**data["report"]) if data["report"] else None,
                data["labels"],
                fresh=False,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error!r}); remove it and run the same command again"
            ) from error


def train_supernet(
    space: str | SearchSpace,
    data: ImageData,
    recipe: Recipe,
    folder: str | Path,
    *,
    start: str | Path | None = None,
    labels: int = 150,
    seed: int = 0,
    force: bool = False,
    execution: Execution | None = None,
    workers: Workers | None = None,
    pace: Pace | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> TrainedSupernet:
    """Trains a supernet, evaluates it and fits its predictor.

    Whatever stops the process, the same call goes on with the same numbers (on a CPU, with the same
    number of threads). A finished run is not trained again.

    Args:
        space: A search space or its name.
        data: Images to train on.
        recipe: Phases and hyper-parameters; scaled to the number of workers if it says so.
        folder: Where everything goes: `supernet.pth`, `predictor.npz`, `log.jsonl`, the best
            weights in between as `best.pth`, and `checkpoints`.
        start: Weights to begin with, as of a network of one's own; random ones by default.
        labels: Sub-networks to evaluate for the predictor, 10 or more; 0 for none.
        seed: Of weights, training and labels.
        force: Whether to train from the beginning whatever is there.
        execution: How steps are computed.
        workers: The processes that train together; the first one writes and returns the results.
        pace: When to write checkpoints and to evaluate.
        progress: Called with steps done and steps in all; a labelled sub-network is a step.
        watch: Called after each evaluation on the way, with steps done and what was evaluated.

    Raises:
        OutputExistsError: If files of something else than a run are there and `force` is false.
        SpecError: If the space is unknown, the images are not of its classes and channels, there
            are too few labels for a predictor, or the folder holds another run.
        CheckpointError: If the loss becomes infinite or not a number, or a file cannot be read or
            written.
    """
    folder = Path(folder)
    space = get_space(space) if isinstance(space, str) else space
    require_images(space, data)
    if labels:
        require_distinct(space, labels, seed=seed)
    execution, workers = execution or Execution(), workers or Workers()
    recipe = recipe.scaled(workers.size)
    steps = total_steps(recipe, data)
    start = None if start is None else Path(start)
    identity = run_identity(
        *(space, data, recipe), seed=seed, execution=execution, workers=workers, start=start
    )
    _prepare(folder, identity, force=force, workers=workers)
    finished = TrainedSupernet.read(folder)
    if finished is not None and finished.labels == labels:
        _logger.info("%s holds a finished run", folder)
        return finished

    def trained(step: TrainingStep) -> None:
        if progress:
            progress(step.step, steps + labels)

    def labelled(done: int, _: int) -> None:
        if progress:
            progress(steps + done, steps + labels)

    net = _trained(
        *(space, data, recipe, folder, start, seed, execution, workers, pace, trained, watch)
    )
    if not workers.writes:
        return TrainedSupernet(folder / _WEIGHTS, None, (), None)
    report = None
    if labels:
        pairs = collect_labels(
            net, data, labels, seed=seed, journal=folder / _LABELS, progress=labelled
        )
        report = _fit(space, pairs, folder / _PREDICTOR, seed)
    evaluated = evaluate_supernet(net, data, measured_last(space))
    predictor = folder / _PREDICTOR if labels else None
    result = TrainedSupernet(folder / _WEIGHTS, predictor, evaluated, report, labels)
    write_text(folder / _RESULT, json.dumps(result.summary(), indent=2) + "\n")
    return result


def _prepare(folder: Path, identity: dict[str, Any], *, force: bool, workers: Workers) -> None:
    """Makes the folder that of this run, or refuses."""
    workers.wait()  # nobody looks before everybody is here
    if workers.writes and force:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        Checkpoints(folder / "checkpoints").remove()
    workers.wait()
    path = folder / _IDENTITY
    if path.exists():
        require_same(path, identity)
    else:
        for name in FILES:
            if (folder / name).exists():
                raise OutputExistsError(folder / name)
    workers.wait()
    if workers.writes and not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot write to {folder}: {error.strerror}") from error
        write_identity(path, identity)
    workers.wait()


def _trained(
    space: SearchSpace,
    data: ImageData,
    recipe: Recipe,
    folder: Path,
    start: Path | None,
    seed: int,
    execution: Execution,
    workers: Workers,
    pace: Pace | None,
    progress: Callable[[TrainingStep], None],
    watch: Watch | None,
) -> Supernet:
    """The trained supernet: from its file, or by training."""
    weights = folder / _WEIGHTS
    if weights.exists():
        net = load_supernet(space, weights).eval()
        execution.place(net)
        return net
    net = load_supernet(space, start, seed=seed, identity_matrices=True)
    execution.place(net)
    skips_full = start is not None and not recipe.phases[0].is_full
    train_resumable(
        *(net, data, recipe, folder),
        first=TrainingState(teacher=frozen_copy(net) if skips_full else None),
        seed=seed,
        execution=execution,
        workers=workers,
        pace=pace,
        progress=progress,
        watch=watch,
    )
    if workers.writes:
        save_checkpoint(net, weights)
    return net


def _fit(space: SearchSpace, labels: list[Label], path: Path, seed: int) -> FitReport | None:
    specs, accuracies = [label.spec for label in labels], [label.top1 for label in labels]
    fitted = fit_predictor(space, specs, accuracies, seed=seed)
    fitted.save(path)
    return fitted.report
