"""Labels for an accuracy predictor: the measured top-1 of many sub-networks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from ofa_hw.errors import CheckpointError, SpecError
from ofa_hw.lines import LineFile, read_json_lines, whole_lines
from ofa_hw.predictor.fit import MIN_LABELS
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space
from ofa_hw.supernet import Supernet
from ofa_hw.training.data import ImageData
from ofa_hw.training.evaluate import CALIBRATION_IMAGES
from ofa_hw.training.identity import differences, weights_digest
from ofa_hw.training.labeller import Labeller, Measured, label_here, label_in_processes

_logger = logging.getLogger(__name__)
_FORMAT: Final = 1
_WHAT: Final = "a file of labels"


@dataclass(frozen=True, slots=True)
class Label:
    """A sub-network and its accuracy.

    Attributes:
        spec: The sub-network.
        top1: Fraction of the validation images that it classifies rightly.
    """

    spec: SubnetSpec
    top1: float


def collect_labels(
    net: Supernet,
    data: ImageData,
    count: int,
    *,
    seed: int = 0,
    images: int = CALIBRATION_IMAGES,
    journal: Path | None = None,
    processes: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Label]:
    """Evaluates sub-networks drawn at random, each resolution equally often.

    A sub-network depends on the seed and its number alone, so more can be added later. They are
    measured one resolution after another, so that images are decoded once for each.

    Args:
        net: The trained supernet.
        data: Its images; batch norms are calibrated on `train`, accuracy is of `validation`.
        count: How many sub-networks.
        seed: Of their choice.
        images: That batch norms are calibrated on.
        journal: File of what is measured, line by line; what it holds already is not measured
            again.
        processes: That measure, on this machine.
        scheduler: Address of a `dask.distributed` scheduler whose workers measure instead.
        progress: Called with sub-networks done and sub-networks in all.

    Raises:
        SpecError: If the journal holds labels of something else (the difference is named), or no
            scheduler answers.
        CheckpointError: If the journal cannot be read or written, or what measures dies.
    """
    header = _header(net, data, seed, images)
    done: dict[int, Label] = {}
    with nullcontext() if journal is None else LineFile(journal, CheckpointError) as file:
        if file is not None:
            file.keep(sum(map(len, whole_lines(file.path.read_bytes()))))
            if file.end:
                done = _read(file.path, header)
            else:
                file.append(json.dumps(header) + "\n")
        todo = {
            index: drawn_spec(net.space, index, seed=seed)
            for index in sorted(range(count), key=lambda i: (i % len(net.space.resolutions), i))
            if index not in done
        }
        places, specs = list(todo), list(todo.values())
        for measured in _measured(Labeller(net, data, images), specs, processes, scheduler):
            index, spec = places[measured.index], specs[measured.index]
            done[index] = Label(spec, measured.top1)
            if measured.broken:  # elsewhere, perhaps; they are counted here
                getattr(data, "broken", {}).update(measured.broken)
            if file is not None:
                line = {"line": "label", "index": index, "spec": json.loads(spec.to_json())}
                file.append(json.dumps({**line, "top1": measured.top1}) + "\n")
            if progress:
                progress(len(done), count)
    return [done[index] for index in range(count)]


def _measured(
    labeller: Labeller, specs: list[SubnetSpec], processes: int, scheduler: str | None
) -> Iterator[Measured]:
    if scheduler is not None and specs:
        from ofa_hw.training.cluster import label_on_cluster

        return label_on_cluster(labeller, specs, scheduler)
    if processes == 1 or len(specs) < 2:
        return label_here(labeller, specs)
    return label_in_processes(labeller, specs, processes)


def read_labels(path: str | Path) -> tuple[SearchSpace, list[Label], dict[str, Any]]:
    """The space, the labels and the header of a file that `collect_labels` wrote.

    Raises:
        CheckpointError: If it cannot be read or is something else.
        SpecError: If its space is not known.
    """
    lines = read_json_lines(path, _WHAT, "line", failure=CheckpointError)
    if not lines or lines[0].get("format") != _FORMAT or "space" not in lines[0]:
        raise CheckpointError(f"{path} is not {_WHAT}; ofa-hw label writes one")
    space = get_space(str(lines[0]["space"]))
    # In the order in which they were drawn: a cluster's are written as they come.
    labels = [label for _, label in sorted(_parsed(path, lines), key=itemgetter(0))]
    for label in labels:
        space.require(label.spec)
    return space, labels, lines[0]


def drawn_spec(space: SearchSpace, index: int, *, seed: int) -> SubnetSpec:
    """The sub-network drawn as number `index`, whatever was drawn before it."""
    resolution = space.resolutions[index % len(space.resolutions)]
    return space.sample(rng=np.random.default_rng((seed, index)), resolution=resolution)


def require_distinct(space: SearchSpace, count: int, *, seed: int) -> None:
    """Looks whether a predictor can be fitted to so many sub-networks, before they are measured.

    Raises:
        SpecError: If too few of them differ.
    """
    distinct = set[SubnetSpec]()
    for index in range(count):
        distinct.add(drawn_spec(space, index, seed=seed))
        if len(distinct) == MIN_LABELS:
            return
    raise SpecError(
        f"{count} labels of {len(distinct)} distinct sub-networks are too few to fit a predictor "
        f"to; take {MIN_LABELS} distinct ones or more, or 0 labels for no predictor"
    )


def _header(net: Supernet, data: ImageData, seed: int, images: int) -> dict[str, Any]:
    header = {
        "line": "header",
        "format": _FORMAT,
        "space": net.space.name,
        "weights": weights_digest(net),
        "seed": seed,
        "calibration_images": images,
        "validation_images": data.size("validation"),
        "data": data.describe(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(header))
    return plain


def _read(path: Path, header: dict[str, Any]) -> dict[int, Label]:
    """Labels by number, if they are of the same supernet and images."""
    lines = read_json_lines(path, _WHAT, "line", failure=CheckpointError)
    if wrong := differences(lines[0], header):
        raise SpecError(
            f"{path} holds other labels: {'; '.join(wrong)[:300]}; name another file, or remove it"
        )
    return dict(_parsed(path, lines))


def _parsed(path: str | Path, lines: list[dict[str, Any]]) -> Iterator[tuple[int, Label]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            spec = SubnetSpec.from_json(json.dumps(line["spec"]))
            yield int(line["index"]), Label(spec, float(line["top1"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}, line {number}: no label ({error}); remove the line to measure it again"
            ) from error
