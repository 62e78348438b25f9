"""What makes two runs the same: a run goes on only where all of it agrees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from torch import nn

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.export import write_text
from ofa_hw.spaces import SearchSpace
from ofa_hw.training.data import ImageData
from ofa_hw.training.execution import Execution, Workers
from ofa_hw.training.recipe import Recipe

_FORMAT: Final = 1
# Files of earlier versions do not say it.
_MAY_BE_UNSAID: Final = "data.files' names and sizes"


def run_identity(
    space: SearchSpace,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    execution: Execution,
    workers: Workers,
    start: Path | None = None,
) -> dict[str, Any]:
    """Everything that the numbers of a run depend on, as plain JSON."""
    identity = {
        "format": _FORMAT,
        "space": space.name,
        "choices": {gene.name: list(gene.choices) for gene in space.genes},
        "classes": space.num_classes,
        "data": data.describe(),
        "recipe": asdict(recipe),
        "seed": seed,
        "execution": asdict(execution),
        "workers": workers.size,
    }
    if workers.size > 1:
        identity["sync_batch_norm"] = workers.sync_batch_norm
    if start is not None:
        try:
            identity["start"] = hashlib.sha256(start.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise CheckpointError(f"cannot read {start}: {error.strerror}") from error
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def weights_digest(net: nn.Module) -> str:
    """Tells weights from other ones."""
    digest = hashlib.sha256()
    for key, value in net.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Writes the file that says which run a folder holds."""
    write_text(path, json.dumps(identity, indent=2) + "\n")


def require_same(
    path: Path, identity: Mapping[str, Any], *, remedy: str = "pass --force to replace it"
) -> None:
    """Compares a folder's run with the one at hand.

    Args:
        path: Of the file that says which run the folder holds.
        identity: Of the one at hand.
        remedy: What to do if they differ, besides naming another folder.

    Raises:
        SpecError: If they differ; each difference is named.
        CheckpointError: If the file cannot be read.
    """
    try:
        there = json.loads(path.read_text())
        wrong = differences(there, identity)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not say which run this folder holds ({error}); name another folder, or "
            f"{remedy}"
        ) from error
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise SpecError(
            f"{path.parent} holds another run: {'; '.join(wrong[:4])}{more}; name another "
            f"folder, or {remedy}"
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What a file says otherwise than it would be written now, a sentence each."""
    found, wanted = dict(_leaves(there)), dict(_leaves(here))
    if _MAY_BE_UNSAID not in found:
        wanted.pop(_MAY_BE_UNSAID, None)
    return [
        f"{key} is {found.get(key)!r} there and {wanted.get(key)!r} here"
        for key in [*wanted, *(key for key in found if key not in wanted)]
        if found.get(key) != wanted.get(key)
    ]


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        match value:
            case dict():
                yield from _leaves(value, f"{prefix}{key}.")
            case [dict(), *_]:
                for index, item in enumerate(value, 1):
                    yield from _leaves(item, f"{prefix}{key} {index}.")
            case _:
                yield f"{prefix}{key}", value
