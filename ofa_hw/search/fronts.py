"""Fronts of points that no other beats, and the volume that they dominate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ofa_hw.search.factors import Floats


def nondominated(points: Floats) -> npt.NDArray[np.intp]:
    """Indices of the points (n, objectives), all minimised, that none beats.

    They are ordered by the first objective; of equal points one is kept.
    """
    if points.shape[1] == 2:
        order = np.lexsort((points[:, 1], points[:, 0]))
        least = np.minimum.accumulate(points[order, 1])
        lower = np.ones(len(order), np.bool_)
        lower[1:] = least[1:] < least[:-1]
        return order[lower]
    spread = np.ptp(points, axis=0) if len(points) else np.ones(points.shape[1])
    scaled = points / np.where(spread > 0, spread, 1)
    left = np.argsort(scaled.sum(axis=1), kind="stable")
    kept = []
    while len(left):
        # The smallest sum is beaten by none, and takes out all that it beats.
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[(points[left] < points[best]).any(axis=1)]
    found = np.array(kept, np.intp)
    return found[np.argsort(points[found, 0], kind="stable")]


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume between `reference` and the points (n, objectives), all minimised.

    By slicing: between two successive values of the last objective, the volume is that of the
    points so far in the others (https://doi.org/10.1109/TEVC.2003.810758 explains the measure).
    """
    points = points[(points < reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    ends = np.append(points[1:, -1], reference[-1])
    volume = 0.0
    slab = points[:0, :-1]
    area = 0.0
    for point, end in zip(points, ends, strict=True):
        if not (slab <= point[:-1]).all(axis=1).any():
            slab = np.vstack([slab[(slab < point[:-1]).any(axis=1)], point[:-1]])
            area = hypervolume(slab, reference[:-1])
        volume += area * float(end - point[-1])
    return volume
