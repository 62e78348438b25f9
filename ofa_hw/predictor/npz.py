"""Reads the files that fitted predictors are saved in."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Final

import numpy as np

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.predictor.features import feature_layout
from ofa_hw.predictor.fitted import FORMAT, Common, FitReport, FittedPredictor, choices_of
from ofa_hw.predictor.gaussian import GaussianPredictor
from ofa_hw.predictor.mlp import MlpPredictor
from ofa_hw.predictor.trees import TreesPredictor
from ofa_hw.spaces import SearchSpace, get_space

_KINDS: Final[dict[str, type[FittedPredictor]]] = {
    kind.kind: kind for kind in (MlpPredictor, TreesPredictor, GaussianPredictor)
}


def load_npz(path: Path, space: SearchSpace | None) -> FittedPredictor:
    """Reads what `FittedPredictor.save` wrote.

    Raises:
        CheckpointError: If the file is damaged or is something else.
        SpecError: If it belongs to another space than `space`.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        version, name, choices = header["format"], header["space"], header["choices"]
        layout, source = header["layout"], header["source"]
        resolutions = tuple(int(value) for value in header["resolutions"])
        report = FitReport(**header["report"]) if header["report"] else None
        model = header.get("model", MlpPredictor.kind)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise _damaged(path, error) from error
    if version != FORMAT or model not in _KINDS:
        raise CheckpointError(
            f"{path} is a predictor of format {version!r} and model {model!r}, and this version "
            f"reads format {FORMAT} with {', '.join(_KINDS)}; save it again with the version that "
            "wrote it, or upgrade"
        )
    if space is not None and space.name != name:
        raise SpecError(
            f"{path} predicts sub-networks of {name}, not of {space.name}; "
            f"give the predictor of {space.name}, or search {name}"
        )
    space = space or get_space(name)
    if choices != choices_of(space):
        raise SpecError(
            f"{path} was fitted on a space {name!r} with other choices than the one at hand; "
            "fit it again with fit_predictor"
        )
    try:
        common: Common = {
            "layout": feature_layout(layout, space),
            "source": source,
            "resolutions": resolutions,
            "report": report,
        }
        return _KINDS[model].from_arrays(arrays, common)
    except (KeyError, ValueError, TypeError) as error:  # a SpecError is a ValueError
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is no predictor that ofa_hw wrote, or it is damaged ({error}); "
        "fit it again with fit_predictor"
    )
