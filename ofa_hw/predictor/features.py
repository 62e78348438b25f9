"""FeatureLayout: which input of a predictor each choice of a space sets.

Every layout is a one-hot code; a block that the depths skip sets nothing. Rows are canonical
integer rows of the space, (n, genes); features are (n, width).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import SpecError
from ofa_hw.spaces import Gene, InvertedResidualSpace, ResNet50Space, Rows, SearchSpace

GENERIC: Final = "generic"
PUBLISHED_MOBILENETV3: Final = "published_mobilenetv3"
PUBLISHED_RESNET50: Final = "published_resnet50"

_KERNEL_SIZES = (3, 5, 7)
_MOBILENETV3_EXPAND_RATIOS = (3, 4, 6)
_RESNET50_EXPAND_RATIOS = (0.2, 0.25, 0.35)
_RESNET50_RESOLUTIONS = (128, 144, 160, 176, 192, 224, 240, 256)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureLayout:
    """Which feature each choice of each gene sets to one.

    Attributes:
        name: Under which files know it.
        space: The space whose rows it encodes.
        width: Number of features.
        columns: (genes, most choices), the feature of each choice; `width` where there is none.
    """

    name: str
    space: SearchSpace
    width: int
    columns: Rows

    def __call__(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Features of canonical rows, (n, width)."""
        chosen = self.columns[np.arange(rows.shape[1]), rows]
        chosen = np.where(self.space.active(rows), chosen, self.width)
        features = np.zeros((len(rows), self.width + 1), np.float32)
        np.put_along_axis(features, chosen, 1, axis=1)
        return features[:, : self.width]


def feature_layout(name: str, space: SearchSpace) -> FeatureLayout:
    """The layout of this name for a space.

    Raises:
        SpecError: If there is no such layout, or the space does not fit it.
    """
    if name not in _LAYOUTS:
        raise SpecError(f"no feature layout {name!r}; there are {', '.join(_LAYOUTS)}")
    return _LAYOUTS[name](space)


def _generic(space: SearchSpace) -> FeatureLayout:
    starts = np.cumsum([0, *(len(gene.choices) for gene in space.genes)])
    first = {gene: int(start) for gene, start in zip(space.genes, starts[:-1], strict=True)}
    return _build(
        GENERIC,
        space,
        int(starts[-1]),
        lambda gene, value: first[gene] + gene.choices.index(value),
    )


def _published_mobilenetv3(space: SearchSpace) -> FeatureLayout:
    """Kernel sizes (20 x 3), expand ratios (20 x 3), resolutions (8, each 16 wide from 112)."""
    fits = isinstance(space, InvertedResidualSpace) and (
        [max(unit.depths) for unit in space.net.units] == [4] * 5
        and set(space.kernel_sizes) <= set(_KERNEL_SIZES)
        and set(space.expand_ratios) <= set(_MOBILENETV3_EXPAND_RATIOS)
        and 112 <= space.resolutions[0] <= space.resolutions[-1] < 240
    )
    if not fits:
        raise SpecError(
            f"{space.name} is no space of the published MobileNetV3 predictor, which knows 5 units "
            "of up to 4 blocks, kernel sizes 3, 5, 7, expand ratios 3, 4, 6 and resolutions of "
            "112 to 239; fit a predictor of its own with fit_predictor"
        )

    def column(gene: Gene, value: float) -> int | None:
        match gene.field:
            case "kernel_sizes":
                return 3 * gene.index + _KERNEL_SIZES.index(int(value))
            case "expand_ratios":
                return 60 + 3 * gene.index + _MOBILENETV3_EXPAND_RATIOS.index(int(value))
            case "resolution":
                return 120 + (int(value) - 112) // 16
        return None

    return _build(PUBLISHED_MOBILENETV3, space, 128, column)


def _published_resnet50(space: SearchSpace) -> FeatureLayout:
    """Resolutions (8), stem depth (2), widths (6 x 3), expand ratios (18 x 3)."""
    fits = isinstance(space, ResNet50Space) and (
        max(space.depths) == 2
        and len(space.widths) == 3
        and set(space.expand_ratios) <= set(_RESNET50_EXPAND_RATIOS)
        and space.resolutions[0] >= _RESNET50_RESOLUTIONS[0]
    )
    if not fits:
        raise SpecError(
            f"{space.name} is no space of the published ResNet50 predictor, which knows 18 blocks, "
            "expand ratios 0.2, 0.25, 0.35, 3 widths and resolutions from 128; fit a predictor of "
            "its own with fit_predictor"
        )

    def column(gene: Gene, value: float) -> int | None:
        match gene.field:
            case "resolution":
                # One that the authors did not train is taken for the next smaller that they did.
                return sum(known <= value for known in _RESNET50_RESOLUTIONS) - 1
            case "depths" if gene.index == 0:
                return 8 + int(value > 0)
            case "width_indices":
                return 10 + 3 * gene.index + int(value)
            case "expand_ratios":
                return 28 + 3 * gene.index + _RESNET50_EXPAND_RATIOS.index(value)
        return None

    return _build(PUBLISHED_RESNET50, space, 82, column)


def _build(
    name: str,
    space: SearchSpace,
    width: int,
    column: Callable[[Gene, float], int | None],
) -> FeatureLayout:
    most = max(len(gene.choices) for gene in space.genes)
    columns = np.full((len(space.genes), most), width, np.int64)
    for row, gene in zip(columns, space.genes, strict=True):
        for index, value in enumerate(gene.choices):
            found = column(gene, value)
            row[index] = width if found is None else found
    return FeatureLayout(name, space, width, columns)


_LAYOUTS: dict[str, Callable[[SearchSpace], FeatureLayout]] = {
    GENERIC: _generic,
    PUBLISHED_MOBILENETV3: _published_mobilenetv3,
    PUBLISHED_RESNET50: _published_resnet50,
}
