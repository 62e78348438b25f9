"""Training: progressive shrinking with distillation."""

from ofa_hw.training.data import DigitsData, ImageData, get_data
from ofa_hw.training.evaluate import calibrated, calibration_batches, top1
from ofa_hw.training.labels import Label, collect_labels
from ofa_hw.training.loop import TrainingStep, train
from ofa_hw.training.recipe import Recipe, ShrinkingPhase, get_recipe, recipe_names
from ofa_hw.training.run import TrainedSupernet, train_supernet

__all__ = [
    "DigitsData",
    "ImageData",
    "Label",
    "Recipe",
    "ShrinkingPhase",
    "TrainedSupernet",
    "TrainingStep",
    "calibrated",
    "calibration_batches",
    "collect_labels",
    "get_data",
    "get_recipe",
    "recipe_names",
    "top1",
    "train",
    "train_supernet",
]
