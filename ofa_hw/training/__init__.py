"""Training: progressive shrinking with distillation."""

from ofa_hw.training.data import DigitsData, ImageData, get_data
from ofa_hw.training.evaluate import calibrated, top1
from ofa_hw.training.loop import TrainingStep, train
from ofa_hw.training.recipe import Recipe, ShrinkingPhase, get_recipe, recipe_names

__all__ = [
    "DigitsData",
    "ImageData",
    "Recipe",
    "ShrinkingPhase",
    "TrainingStep",
    "calibrated",
    "get_data",
    "get_recipe",
    "recipe_names",
    "top1",
    "train",
]
