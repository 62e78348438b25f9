"""TreesPredictor: a sum of regression trees, as of a random forest or of gradient boosting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.fitted import Array, Common, FittedPredictor, Values

_ARRAYS = ("feature", "threshold", "left", "right", "value", "roots", "base")


@dataclass(frozen=True, slots=True, eq=False)
class TreesPredictor(FittedPredictor):
    """The base plus the value of one leaf of each tree; the nodes of all trees are numbered on.

    Attributes:
        feature: Of each node: the feature that decides.
        threshold: Of each node: a feature of so much or less leads to the left.
        left: Of each node: the next one; a leaf leads to itself.
        right: Of each node: the same.
        value: Of each node: what a leaf adds.
        roots: The first node of each tree.
        base: (1,), what all leaves are added to.
    """

    kind: ClassVar[str] = "trees"
    feature: npt.NDArray[np.int32]
    threshold: Array
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    value: Array
    roots: npt.NDArray[np.int32]
    base: Values

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        lengths = {len(a) for a in (self.threshold, self.left, self.right, self.value)}
        leads = (self.left, self.right, self.roots)
        whole = (
            lengths == {nodes}
            and self.base.shape == (1,)
            and all(((a >= 0) & (a < nodes)).all() for a in leads)
            and bool(((self.feature >= 0) & (self.feature < self.layout.width)).all())
        )
        if not whole:
            raise SpecError(f"{nodes} nodes are no trees over {self.layout.width} features")

    def estimate(self, features: Array) -> Values:
        """See `FittedPredictor`."""
        rows = np.arange(len(features))[:, None]
        node = np.broadcast_to(self.roots, (len(features), len(self.roots)))  # (batch, trees)
        for _ in range(len(self.feature)):
            lower = features[rows, self.feature[node]] <= self.threshold[node]
            after = np.where(lower, self.left[node], self.right[node])
            if (after == node).all():  # every tree has come to a leaf
                break
            node = after
        return np.asarray(self.base[0] + self.value[node].sum(1, dtype=np.float64))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """See `FittedPredictor`."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], common: Common) -> Self:
        """See `FittedPredictor`."""
        return cls(
            feature=arrays["feature"].astype(np.int32),
            threshold=arrays["threshold"].astype(np.float32),
            left=arrays["left"].astype(np.int32),
            right=arrays["right"].astype(np.int32),
            value=arrays["value"].astype(np.float32),
            roots=arrays["roots"].astype(np.int32),
            base=arrays["base"].astype(np.float64),
            **common,
        )
