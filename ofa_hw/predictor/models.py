"""The models that a predictor may be: fitted by scikit-learn, then folded into arrays.

scikit-learn's own files are pickles, which execute what is in them and do not outlive a version.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.predictor.fitted import Array, Common, FittedPredictor, Values
from ofa_hw.predictor.gaussian import GaussianPredictor
from ofa_hw.predictor.mlp import MlpPredictor
from ofa_hw.predictor.trees import TreesPredictor

if TYPE_CHECKING:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.tree._tree import Tree

_MOST_FOR_GAUSSIAN: Final = 5000


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What is fitted, and how.

    Attributes:
        model: One of `MODELS`.
        seed: Of weights and of random choices.
        hidden: Widths of an MLP's hidden layers.
        weight_decay: L2 penalty of an MLP.
        max_epochs: Passes of an MLP over the data at most.
    """

    model: str
    seed: int
    hidden: Sequence[int] = (400, 400, 400)
    weight_decay: float = 1e-4
    max_epochs: int = 200

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise SpecError(f"no model {self.model!r}; there are {', '.join(MODELS)}")


def fit_model(
    features: Array, labels: Values, options: ModelOptions, common: Common
) -> tuple[FittedPredictor, bool]:
    """Fits a model; also returns whether it stopped by itself.

    Raises:
        SpecError: If there are more labels than the model can be fitted to.
    """
    from sklearn.exceptions import ConvergenceWarning

    make, fold = MODELS[options.model]
    model = make(options, len(labels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return fold(model, common), converged


def _make_mlp(options: ModelOptions, _: int) -> TransformedTargetRegressor:
    """The authors' predictor (https://arxiv.org/abs/1908.09791)."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    mlp = MLPRegressor(
        hidden_layer_sizes=tuple(options.hidden),
        alpha=options.weight_decay,
        max_iter=options.max_epochs,
        random_state=options.seed,
    )
    return TransformedTargetRegressor(mlp, transformer=StandardScaler())


def fold_mlp(model: TransformedTargetRegressor, common: Common) -> MlpPredictor:
    """The target's scaling is folded into the last layer."""
    scaler, mlp = model.transformer_, model.regressor_
    weights, biases = list(mlp.coefs_), list(mlp.intercepts_)
    weights[-1] = weights[-1] * scaler.scale_
    biases[-1] = biases[-1] * scaler.scale_ + scaler.mean_
    return MlpPredictor(
        tuple(np.ascontiguousarray(weight, np.float32) for weight in weights),
        tuple(np.ascontiguousarray(bias, np.float32) for bias in biases),
        **common,
    )


def _make_ridge(_: ModelOptions, __: int) -> RidgeCV:
    """Each choice counts for itself; the penalty is chosen by leaving one out."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(-3, 3, 13))


def fold_ridge(model: RidgeCV, common: Common) -> MlpPredictor:
    """A network of one layer."""
    weight = np.ascontiguousarray(model.coef_[:, None], np.float32)
    return MlpPredictor((weight,), (np.array([model.intercept_], np.float32),), **common)


def _make_forest(options: ModelOptions, _: int) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(
        n_estimators=100, min_samples_leaf=2, max_features=1 / 3, random_state=options.seed
    )


def fold_forest(model: RandomForestRegressor, common: Common) -> TreesPredictor:
    """The mean of the trees."""
    trees = [estimator.tree_ for estimator in model.estimators_]
    return _folded_trees(trees, 1 / len(trees), 0.0, common)


def _make_boosting(options: ModelOptions, _: int) -> GradientBoostingRegressor:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(
        n_estimators=500, learning_rate=0.1, max_depth=3, subsample=0.7, random_state=options.seed
    )


def fold_boosting(model: GradientBoostingRegressor, common: Common) -> TreesPredictor:
    """The mean of the labels plus the trees, each as much as the learning rate says."""
    trees = [estimator.tree_ for estimator in model.estimators_[:, 0]]
    return _folded_trees(trees, model.learning_rate, float(model.init_.constant_.item()), common)


def _make_gaussian(options: ModelOptions, labels: int) -> GaussianProcessRegressor:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    if labels > _MOST_FOR_GAUSSIAN:
        raise SpecError(
            f"a Gaussian process takes memory by the square of its labels, and {labels} are more "
            f"than {_MOST_FOR_GAUSSIAN}; take another model, or fewer labels"
        )
    kernel = ConstantKernel() * RBF(3.0) + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=options.seed)


def fold_gaussian(model: GaussianProcessRegressor, common: Common) -> GaussianPredictor:
    """The labels' scaling and the kernel's variance are folded into the weights."""
    squared = model.kernel_.k1
    deviation, mean = model._y_train_std, model._y_train_mean
    return GaussianPredictor(
        np.ascontiguousarray(model.X_train_, np.float32),
        np.asarray(model.alpha_ * squared.k1.constant_value * deviation, np.float64),
        np.array([squared.k2.length_scale], np.float64),
        np.array([mean], np.float64),
        **common,
    )


def _folded_trees(
    trees: Sequence[Tree], share: float, base: float, common: Common
) -> TreesPredictor:
    """Numbers the nodes of all trees on; a leaf leads to itself."""
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

    def lead(children: str) -> npt.NDArray[np.int32]:
        parts = []
        for tree, root in zip(trees, roots, strict=True):
            to, own = getattr(tree, children), np.arange(tree.node_count)
            parts.append(np.where(to < 0, own, to) + root)
        return np.concatenate(parts).astype(np.int32)

    return TreesPredictor(
        feature=np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int32),
        threshold=np.concatenate([t.threshold for t in trees]).astype(np.float32),
        left=lead("children_left"),
        right=lead("children_right"),
        value=np.concatenate([t.value[:, 0, 0] * share for t in trees]).astype(np.float32),
        roots=roots.astype(np.int32),
        base=np.array([base], np.float64),
        **common,
    )


MODELS: Final[dict[str, tuple[Callable[[ModelOptions, int], Any], Callable[..., Any]]]] = {
    "mlp": (_make_mlp, fold_mlp),
    "ridge": (_make_ridge, fold_ridge),
    "forest": (_make_forest, fold_forest),
    "boosting": (_make_boosting, fold_boosting),
    "gaussian": (_make_gaussian, fold_gaussian),
}
