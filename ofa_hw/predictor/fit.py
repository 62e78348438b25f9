"""fit_predictor: fits an accuracy predictor on measured sub-networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.features import GENERIC, feature_layout
from ofa_hw.predictor.fitted import FitReport, FittedPredictor, Values
from ofa_hw.predictor.models import ModelOptions, fit_model
from ofa_hw.spaces import Rows, SearchSpace, SubnetSpec

MIN_LABELS: Final = 10


def fit_predictor(
    space: SearchSpace,
    specs: Sequence[SubnetSpec],
    top1: Sequence[float] | npt.NDArray[np.float64],
    *,
    seed: int,
    model: str = "mlp",
    hidden: Sequence[int] = (400, 400, 400),
    held_out: float = 0.2,
    weight_decay: float = 1e-4,
    max_epochs: int = 200,
) -> FittedPredictor:
    """Fits a predictor: a multi-layer perceptron as once-for-all's, or another model.

    https://arxiv.org/abs/1908.09791, section 3.4.

    Args:
        space: Whose sub-networks were measured.
        specs: The sub-networks; equal ones stay on one side of the split.
        top1: Their accuracies as fractions.
        seed: Of the split and of the weights.
        model: `mlp`, or `ridge`, `forest`, `boosting` or `gaussian` as scikit-learn fits them.
        hidden: Widths of an MLP's hidden layers.
        held_out: Share of the sub-networks of each resolution kept for the report, between 0
            and 1.
        weight_decay: L2 penalty of an MLP.
        max_epochs: Passes of an MLP over the data at most.

    Returns:
        The predictor; its `report` is of the sub-networks held out.

    Raises:
        SpecError: If there are too few sub-networks, an accuracy is no fraction, a sub-network is
            none of the space, or there is no such model.
    """
    options = ModelOptions(model, seed, hidden, weight_decay, max_epochs)
    known = Labelled.split(space, specs, top1, held_out=held_out, seed=seed)
    predictor, converged = known.fit(~known.test, options)
    return replace(predictor, report=known.report(predictor, converged, seed))


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Measured sub-networks, some of them held out.

    Attributes:
        space: Whose they are.
        rows: (n, genes), canonical.
        labels: (n,), their top-1.
        test: (n,), which are held out, of each resolution the same share.
    """

    space: SearchSpace
    rows: Rows
    labels: Values
    test: npt.NDArray[np.bool_]

    @classmethod
    def split(
        cls,
        space: SearchSpace,
        specs: Sequence[SubnetSpec],
        top1: Sequence[float] | npt.NDArray[np.float64],
        *,
        held_out: float,
        seed: int,
    ) -> Labelled:
        """Holds a share of the distinct sub-networks out; see `fit_predictor`."""
        labels = np.asarray(top1, np.float64)
        if len(specs) != len(labels):
            raise SpecError(f"{len(specs)} sub-networks and {len(labels)} accuracies do not pair")
        if bad := [value for value in labels.tolist() if not 0 <= value <= 1]:
            raise SpecError(f"accuracies are fractions between 0 and 1, got {bad[0]}")
        if not 0 < held_out < 1:
            raise SpecError(f"the share held out must lie between 0 and 1, got {held_out}")
        rows = space.encode(specs)
        distinct, group = np.unique(rows, axis=0, return_inverse=True)
        count = len(distinct)
        if count < MIN_LABELS:
            raise SpecError(
                f"{count} distinct sub-networks are too few to fit; measure {MIN_LABELS}"
            )
        order = np.lexsort((np.random.default_rng(seed).random(count), distinct[:, 0]))
        chosen = every(count, max(2, round(held_out * count)))
        return cls(space, rows, labels, np.isin(group.ravel(), order[chosen]))

    def fit(
        self, chosen: npt.NDArray[np.bool_], options: ModelOptions
    ) -> tuple[FittedPredictor, bool]:
        """Fits to the chosen ones (n,); also returns whether the fit stopped by itself."""
        rows, layout = self.rows[chosen], feature_layout(GENERIC, self.space)
        seen = tuple(self.space.resolutions[i] for i in np.unique(rows[:, 0]))
        source = f"fitted on {len(rows)} sub-networks of {self.space.name}"
        return fit_model(
            layout(rows),
            self.labels[chosen],
            options,
            {"layout": layout, "source": source, "resolutions": seen, "report": None},
        )

    def errors(self, predictor: FittedPredictor) -> Values:
        """Predicted less measured top-1 of those held out."""
        return predictor.predict_rows(self.rows[self.test]) - self.labels[self.test]

    def report(self, predictor: FittedPredictor, converged: bool, seed: int) -> FitReport:
        """What a predictor of the others does on those held out."""
        from scipy.stats import kendalltau, spearmanr

        error, labels = self.errors(predictor), self.labels[self.test]
        found = error + labels
        differ = np.ptp(labels) > 0 and np.ptp(found) > 0
        return FitReport(
            fitted=int(np.count_nonzero(~self.test)),
            held_out=len(labels),
            rmse=float(np.sqrt(np.mean(error**2))),
            mae=float(np.mean(np.abs(error))),
            spearman=float(spearmanr(found, labels).statistic) if differ else float("nan"),
            kendall=float(kendalltau(found, labels).statistic) if differ else float("nan"),
            converged=converged,
            seed=seed,
        )


def every(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """`wanted` of the numbers below `count`, evenly spread."""
    return np.asarray((np.arange(wanted) + 0.5) * count / wanted, np.int64)
