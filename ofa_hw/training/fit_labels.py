"""Fits a predictor to labels, and says by its learning curve whether more of them would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ofa_hw.errors import SpecError
from ofa_hw.predictor import MlpPredictor, fit_predictor
from ofa_hw.spaces import SearchSpace
from ofa_hw.training.labels import Label

_SHARES: Final = (0.25, 0.5, 1.0)
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

    predictor: MlpPredictor
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
    hidden: Sequence[int] = (400, 400, 400),
    validation_images: int | None = None,
) -> FittedLabels:
    """Fits the predictor, and others on fewer labels for the learning curve.

    Args:
        space: Whose sub-networks were measured.
        labels: What was measured.
        seed: Of the split and of the weights.
        hidden: Widths of the hidden layers.
        validation_images: That each label was measured on.

    Raises:
        SpecError: If there are fewer than 50 distinct sub-networks.
    """
    distinct = {label.spec: label for label in labels}
    if len(distinct) < 50:
        raise SpecError(
            f"{len(distinct)} distinct sub-networks are too few to fit and to test on; "
            "label 50 or more (ofa-hw label --count 200)"
        )
    kept = list(distinct.values())
    specs, top1 = [label.spec for label in kept], np.array([label.top1 for label in kept])
    predictor = fit_predictor(space, specs, top1, seed=seed, hidden=hidden, held_out=_HELD_OUT)
    order = np.random.default_rng((seed, 1)).permutation(len(kept))
    test, train = np.split(order, [round(_HELD_OUT * len(kept))])
    curve = []
    for share in _SHARES:
        some = train[: round(share * len(train))]
        fitted = fit_predictor(
            space, [specs[i] for i in some], top1[some], seed=seed, hidden=hidden, held_out=0.01
        )
        error = fitted.predict([specs[i] for i in test]) - top1[test]
        curve.append(CurvePoint(len(some), float(np.sqrt(np.mean(error**2)))))
    noise = None
    if validation_images:
        noise = float(np.sqrt(np.mean(top1 * (1 - top1)) / validation_images))
    gained = 1 - curve[-1].rmse / curve[-2].rmse if curve[-2].rmse else 0.0
    at_noise = noise is not None and curve[-1].rmse <= noise
    return FittedLabels(predictor, tuple(curve), noise, gained >= _WORTHWHILE and not at_noise)
