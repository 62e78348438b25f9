"""Training: progressive shrinking with distillation."""

from ofa_hw.malloc import keep_freed_memory
from ofa_hw.training.data import DigitsData, ImageData, get_data, require_images
from ofa_hw.training.evaluate import (
    Evaluated,
    calibrated,
    calibration_batches,
    count_right,
    evaluate_supernet,
    top1,
)
from ofa_hw.training.execution import Execution, Workers, join_workers
from ofa_hw.training.finetune import FineTuned, finetune
from ofa_hw.training.labels import Label, collect_labels
from ofa_hw.training.log import read_log
from ofa_hw.training.loop import TrainingState, TrainingStep, train
from ofa_hw.training.recipe import Recipe, ShrinkingPhase, get_recipe, recipe_names
from ofa_hw.training.resumable import Pace
from ofa_hw.training.run import TrainedSupernet, train_supernet

__all__ = [
    "DigitsData",
    "Evaluated",
    "Execution",
    "FineTuned",
    "ImageData",
    "Label",
    "Pace",
    "Recipe",
    "ShrinkingPhase",
    "TrainedSupernet",
    "TrainingState",
    "TrainingStep",
    "Workers",
    "calibrated",
    "calibration_batches",
    "collect_labels",
    "count_right",
    "evaluate_supernet",
    "finetune",
    "get_data",
    "get_recipe",
    "join_workers",
    "keep_freed_memory",
    "read_log",
    "recipe_names",
    "require_images",
    "top1",
    "train",
    "train_supernet",
]
