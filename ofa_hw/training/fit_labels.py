"""Fits a predictor to labels, and says by its learning curve whether more of them would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor import FittedPredictor
from ofa_hw.predictor.fit import Labelled
from ofa_hw.predictor.models import ModelOptions
from ofa_hw.spaces import SearchSpace
from ofa_hw.training.labels import Label

# A point of the curve is the mean of two disjoint parts of the labels: one part may be lucky.
_PARTS: Final = (4, 2)
_HELD_OUT: Final = 0.2
# Less than this part of the error is gained by twice the labels: the curve is flat.
_WORTHWHILE: Final = 0.05


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What a number of labels gives.

    Attributes:
        labels: Sub-networks that a predictor was fitted on.
        rmse: On the same unseen sub-networks for every point.
    """

    labels: int
    rmse: float


@dataclass(frozen=True, slots=True)
class FittedLabels:
    """A predictor and what its labels are worth.

    Attributes:
        predictor: Fitted on four fifths of the labels; its `report` is of the others.
        curve: The error by number of labels.
        noise: Standard error of a label as an estimate of the accuracy on new images, by the number
            of images that it was measured on. Labels of the same images share a part of it, so a
            predictor's RMSE may be smaller. None where that number is not known.
        more_helps: Whether the last doubling of labels lowered the error by 5 % or more, and the
            error is not yet smaller than the noise.
    """

    predictor: FittedPredictor
    curve: tuple[CurvePoint, ...]
    noise: float | None
    more_helps: bool

    @property
    def advice(self) -> str:
        """One sentence on whether to label more."""
        half, full = self.curve[-2], self.curve[-1]
        gained = 1 - full.rmse / half.rmse if half.rmse else 0.0
        seen = (
            f"from {half.labels} to {full.labels} labels the error went from {half.rmse:.2%} to "
            f"{full.rmse:.2%} ({-gained:+.0%})"
        )
        if self.more_helps:
            return f"more labels would help: {seen}"
        if self.noise is not None and full.rmse <= self.noise:
            return (
                f"more labels would count for little: the error, {full.rmse:.2%}, is below a "
                f"label's own standard error, {self.noise:.2%}; measure them on more images"
            )
        return f"more labels would help little: {seen}"


def fit_labels(
    space: SearchSpace,
    labels: Sequence[Label],
    *,
    seed: int = 0,
    model: str = "mlp",
    hidden: Sequence[int] = (400, 400, 400),
    validation_images: int | None = None,
) -> FittedLabels:
    """Fits the predictor, and others on fewer labels for the learning curve.

    Args:
        space: Whose sub-networks were measured.
        labels: What was measured.
        seed: Of the split and of the weights.
        model: See `fit_predictor`.
        hidden: Widths of an MLP's hidden layers.
        validation_images: That each label was measured on.

    Raises:
        SpecError: If there are fewer than 50 distinct sub-networks, or no such model.
    """
    options = ModelOptions(model, seed, hidden)
    distinct = {label.spec: label for label in labels}
    if len(distinct) < 50:
        raise SpecError(
            f"{len(distinct)} distinct sub-networks are too few to fit and to test on; "
            "label 50 or more (ofa-hw label --count 200)"
        )
    top1 = np.array([label.top1 for label in distinct.values()])
    known = Labelled.split(space, list(distinct), top1, held_out=_HELD_OUT, seed=seed)
    predictor, converged = known.fit(~known.test, options)
    predictor = replace(predictor, report=known.report(predictor, converged, seed))
    # Of each resolution in turn, so that every part has as many of each.
    train = np.flatnonzero(~known.test)
    rng = np.random.default_rng((seed, 1))
    train = train[np.lexsort((rng.random(len(train)), known.rows[train, 0]))]
    curve = []
    for parts in _PARTS:
        errors = []
        for first in range(min(parts, 2)):
            some = np.zeros_like(known.test)
            some[train[first::parts]] = True
            errors.append(known.errors(known.fit(some, options)[0]))
        curve.append(CurvePoint(len(train[::parts]), _rms(np.concatenate(errors))))
    curve.append(CurvePoint(len(train), _rms(known.errors(predictor))))
    noise = None
    if validation_images:
        noise = float(np.sqrt(np.mean(top1 * (1 - top1)) / validation_images))
    gained = 1 - curve[-1].rmse / curve[-2].rmse if curve[-2].rmse else 0.0
    at_noise = noise is not None and curve[-1].rmse <= noise
    return FittedLabels(predictor, tuple(curve), noise, gained >= _WORTHWHILE and not at_noise)


def _rms(errors: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(errors**2)))
