"""Predictors: architecture features to accuracy."""

from ofa_hw.predictor.features import FeatureLayout, feature_layout
from ofa_hw.predictor.fit import fit_predictor
from ofa_hw.predictor.fitted import FitReport, FittedPredictor
from ofa_hw.predictor.load import load_predictor
from ofa_hw.predictor.mlp import MlpPredictor
from ofa_hw.predictor.types import AccuracyPredictor, ResolutionAware

__all__ = [
    "AccuracyPredictor",
    "FeatureLayout",
    "FitReport",
    "FittedPredictor",
    "MlpPredictor",
    "ResolutionAware",
    "feature_layout",
    "fit_predictor",
    "load_predictor",
]
