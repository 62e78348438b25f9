"""Trains with checkpoints, a log and evaluations on the way; goes on from the last checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ofa_hw.supernet import Supernet, save_checkpoint
from ofa_hw.training.checkpoints import Checkpoints
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import Evaluated, evaluate_supernet, watched
from ofa_hw.training.execution import Execution, Workers
from ofa_hw.training.log import LogFile
from ofa_hw.training.loop import TrainingState, TrainingStep, train
from ofa_hw.training.recipe import Recipe
from ofa_hw.training.schedule import epoch_steps, phase_steps

_logger = logging.getLogger(__name__)
# Takes the steps done and the sub-networks that a run evaluates on its way.
Watch: TypeAlias = Callable[[int, tuple[Evaluated, ...]], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """When a run writes checkpoints and evaluates; it does both at the end of every phase.

    Attributes:
        checkpoint_interval_s: Seconds between checkpoints; 0 writes one after every step.
        evaluation_epochs: Epochs between evaluations inside a phase; None for none.
    """

    checkpoint_interval_s: float = 60.0
    evaluation_epochs: int | None = None


def train_resumable(
    net: Supernet,
    data: ImageData,
    recipe: Recipe,
    folder: Path,
    *,
    first: TrainingState | None = None,
    seed: int = 0,
    execution: Execution | None = None,
    workers: Workers | None = None,
    pace: Pace | None = None,
    progress: Callable[[TrainingStep], None] | None = None,
    watch: Watch | None = None,
) -> None:
    """Trains `net` in place; what is in `folder` decides where it begins.

    Args:
        net: A supernet with its first weights, placed where it will be trained.
        data: Images to train on.
        recipe: Phases and hyper-parameters.
        folder: Gets `checkpoints/`, `log.jsonl` and `best.pth`.
        first: Where a run begins that has no checkpoint yet.
        seed: Of every random choice.
        execution: How steps are computed.
        workers: The processes that take the steps together; the first one writes.
        pace: When to write checkpoints and to evaluate.
        progress: Called after each step.
        watch: Called after each evaluation.

    Raises:
        CheckpointError: If the loss becomes infinite or not a number, or a file cannot be read or
            written.
    """
    workers = workers or Workers()
    checkpoints = Checkpoints(folder / "checkpoints")
    restored = checkpoints.restore(net, recipe)
    state, notes = (first or TrainingState(), {}) if restored is None else restored
    if restored is not None:
        _logger.info("going on in phase %d after step %d", state.phase + 1, state.step)
    workers.wait()
    if not workers.writes:
        train(
            *(net, data, recipe),
            seed=seed,
            start=state,
            execution=execution,
            workers=workers,
            progress=progress,
        )
        return
    with LogFile(folder / "log.jsonl", keep=notes.get("log_lines", 0)) as log:
        checkpoints.tidy()  # the log has one writer, and so have they
        recorder = _Recorder(net, data, recipe, folder, checkpoints, log, pace or Pace())
        recorder.best, recorder.watch = notes.get("best", -1.0), watch

        def stepped(step: TrainingStep) -> None:
            recorder.record(step)
            if progress:
                progress(step)

        train(
            *(net, data, recipe),
            seed=seed,
            start=state,
            execution=execution,
            workers=workers,
            progress=stepped,
            keep=recorder.keep,
        )


class _Recorder:
    """Writes the log, the checkpoints and the best weights of a run.

    Attributes:
        best: The highest mean accuracy of the watched sub-networks so far.
        watch: Called after each evaluation.
    """

    def __init__(
        self,
        net: Supernet,
        data: ImageData,
        recipe: Recipe,
        folder: Path,
        checkpoints: Checkpoints,
        log: LogFile,
        pace: Pace,
    ) -> None:
        self.best = -1.0
        self.watch: Watch | None = None
        self._net, self._data, self._recipe = net, data, recipe
        self._folder, self._checkpoints, self._log, self._pace = folder, checkpoints, log, pace
        self._per_epoch = epoch_steps(recipe, data)
        self._saved_s = self._stepped_s = time.monotonic()

    def record(self, step: TrainingStep) -> None:
        """Logs a step."""
        now_s = time.monotonic()
        self._log.add(
            {
                "line": "step",
                "step": step.step,
                "phase": step.phase,
                "loss": step.loss,
                "learning_rate": step.learning_rate,
                "duration_s": round(now_s - self._stepped_s, 6),
            },
        )
        self._stepped_s = now_s

    def keep(self, state: TrainingState) -> None:
        """Evaluates and writes a checkpoint where it is time to."""
        phase_over = state.step == 0
        due = not phase_over and self._is_due(state)
        if phase_over or due:
            self._evaluate(state)
        if phase_over or due or self._is_time():
            self._log.sync()
            notes = {"best": self.best, "log_lines": self._log.lines}
            self._checkpoints.save(self._net, state, notes)
            self._saved_s = time.monotonic()
        self._stepped_s = max(self._stepped_s, self._saved_s)

    def _is_due(self, state: TrainingState) -> bool:
        every = self._pace.evaluation_epochs
        if every is None or state.step % (every * self._per_epoch):
            return False
        # After the last step of a phase, its end is evaluated.
        return state.step < phase_steps(self._recipe.phases[state.phase], self._per_epoch)

    def _is_time(self) -> bool:
        return time.monotonic() - self._saved_s >= self._pace.checkpoint_interval_s

    def _evaluate(self, state: TrainingState) -> None:
        self._net.eval()
        found = evaluate_supernet(self._net, self._data, watched(self._net.space))
        self._net.train()
        mean = sum(network.top1 for network in found) / len(found)
        done = self._done(state)
        top1 = {network.name: network.top1 for network in found}
        self._log.add({"line": "evaluation", "step": done, "mean_top1": mean, "top1": top1})
        _logger.info("after step %d: mean top-1 %.4f of %s", done, mean, top1)
        if self.watch:
            self.watch(done, found)
        if mean > self.best:
            self.best = mean
            save_checkpoint(self._net, self._folder / "best.pth")

    def _done(self, state: TrainingState) -> int:
        phases = self._recipe.phases[: state.phase]
        return sum(phase_steps(phase, self._per_epoch) for phase in phases) + state.step
