"""load_predictor: reads a predictor of this project or one that the authors published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.predictor.features import PUBLISHED_MOBILENETV3, PUBLISHED_RESNET50, feature_layout
from ofa_hw.predictor.fitted import Array, FittedPredictor
from ofa_hw.predictor.mlp import MlpPredictor
from ofa_hw.predictor.npz import load_npz
from ofa_hw.spaces import SearchSpace, get_space

_PUBLISHED = {
    # inputs: layout, space, smallest resolution it was fitted on. MobileNetV3's has inputs for 112,
    # 128 and 144 too, but with weights as they were drawn: it rates 128 above 160.
    128: (PUBLISHED_MOBILENETV3, "ofa_mbv3_d234_e346_k357_w1.2", 160),
    82: (PUBLISHED_RESNET50, "ofa_resnet50", 128),
}


def load_predictor(
    path: str | os.PathLike[str], space: SearchSpace | None = None
) -> FittedPredictor:
    """Reads an accuracy predictor.

    Args:
        path: A `.npz` that a predictor's `save` wrote, or the authors' `acc_predictor.pth` or
            `ofa_resnet50_acc_predictor.pth`, which need torch to be read.
        space: The space that it shall predict for. By default the one it was fitted on; the
            published MobileNetV3 predictor serves every width, and 1.2 is its default.

    Raises:
        CheckpointError: If the file is missing, damaged or no predictor.
        SpecError: If it does not fit `space`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no predictor {path}; fit one with fit_predictor")
    if path.suffix == ".npz":
        return load_npz(path, space)
    if path.suffix in (".pth", ".pt"):
        return _load_published(path, space)
    raise CheckpointError(
        f"{path} is no predictor: its name must end in .npz, or .pth for a published one"
    )


def _load_published(path: Path, space: SearchSpace | None) -> MlpPredictor:
    state = _read_state(path)
    weights = {key: value for key, value in state.items() if value.ndim == 2}
    inputs = next(iter(weights.values())).shape[1] if weights else 0
    if inputs not in _PUBLISHED:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in list(state.items())[:4])
        raise CheckpointError(
            f"{path} is none of the published predictors, which take 128 or 82 features "
            f"(it holds {shapes or 'no tensors'}); fit one with fit_predictor"
        )
    prefixes = [key.removesuffix("weight") for key in weights]
    biases = [state.get(prefix + "bias", state.get("base_acc")) for prefix in prefixes]
    known = {"base_acc", *weights, *(prefix + "bias" for prefix in prefixes)}
    if (surplus := state.keys() - known) or any(bias is None for bias in biases):
        named = f"surplus {', '.join(sorted(surplus))}" if surplus else "missing biases"
        raise CheckpointError(f"{path} does not hold the layers of a predictor: {named}")
    layout, name, smallest = _PUBLISHED[inputs]
    features = feature_layout(layout, space or get_space(name))
    try:
        return MlpPredictor(
            tuple(np.ascontiguousarray(weight.T) for weight in weights.values()),
            tuple(bias for bias in biases if bias is not None),
            layout=features,
            source=path.name,
            resolutions=tuple(r for r in features.space.resolutions if r >= smallest),
        )
    except SpecError as error:
        raise CheckpointError(f"{path} does not hold the layers of a predictor: {error}") from error


def _read_state(path: Path) -> Mapping[str, Array]:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path} is a torch file and torch is not installed: pip install 'ofa-hw[torch]', or "
            "convert it where torch is: load_predictor(...).save('predictor.npz')"
        ) from error
    try:
        data = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises whatever its unpickler meets
        raise CheckpointError(f"{path} is damaged or holds more than weights: {error}") from error
    if isinstance(data, dict) and isinstance(data.get("state_dict"), dict):
        data = data["state_dict"]
    if not isinstance(data, dict) or not all(torch.is_tensor(v) for v in data.values()):
        raise CheckpointError(f"{path} holds no weights but {type(data).__name__}")
    return {key: value.float().numpy() for key, value in data.items()}
