"""Recipes: which phases a supernet is trained in, and how; each is a short TOML file.

Progressive shrinking opens the choices of a space one kind after another, the largest first, while
the full network teaches (Cai et al., "Once-for-All", https://arxiv.org/abs/1908.09791, sections 3.3
and appendix B).
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, TypeVar

from ofa_hw.errors import SpecError
from ofa_hw.spaces import Allowed, Choice, SearchSpace

ALL: Final = 99
_COUNTS: Final = ("kernel_sizes", "depths", "expand_ratios", "width_indices")
_EXPECTED: Final = {
    "str": "string",
    "int": "whole number, at least 1",
    "int | None": "whole number",
    "float": "number, not negative",
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ShrinkingPhase:
    """One phase: the choices that are open, and its schedule.

    Attributes:
        name: For progress and logs.
        epochs: Passes over the training images, warm-up not counted.
        learning_rate: At the start of the cosine, for `Recipe.batch_size` images.
        warmup_epochs: Epochs before them in which the rate rises linearly from zero.
        kernel_sizes: How many of the largest kernel sizes are open.
        depths: How many of the largest depths are open.
        expand_ratios: How many of the largest expansion ratios are open.
        width_indices: How many of the largest widths are open, where a space has them.
        subnets_per_step: Sub-networks whose gradients are averaged in a step.
        sort_phase: If given, channels are sorted by importance before the phase, inside the bands
            of the widths that this many earlier phases opened.
    """

    name: str
    epochs: float
    learning_rate: float
    warmup_epochs: float = 0
    kernel_sizes: int = 1
    depths: int = 1
    expand_ratios: int = 1
    width_indices: int = 1
    subnets_per_step: int = 1
    sort_phase: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether it trains nothing but the full network."""
        counts = (self.kernel_sizes, self.depths, self.expand_ratios, self.width_indices)
        return counts == (1, 1, 1, 1)

    def allowed(self, space: SearchSpace) -> Allowed:
        """The indices of the open choices of each gene; every resolution is open."""
        opened = {
            "depths": self.depths,
            "kernel_sizes": self.kernel_sizes,
            "expand_ratios": self.expand_ratios,
            "width_indices": self.width_indices,
        }
        counts = [opened.get(gene.field, ALL) for gene in space.genes]
        return tuple(
            tuple(range(max(0, len(gene.choices) - count), len(gene.choices)))
            for gene, count in zip(space.genes, counts, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a supernet is trained; the defaults are the paper's.

    Attributes:
        name: Of the recipe.
        phases: In order. The network at the end of the first one is the teacher of the others; of a
            run that starts from a trained network and skips that phase, it is that network.
        batch_size: Images a step.
        momentum: Nesterov's.
        weight_decay: On all parameters but biases and those of batch norms.
        label_smoothing: Of the hard labels.
        distillation: Weight of the cross entropy with the teacher's soft labels.
        workers: That take a step together, if `batch_size` and rates go with their number.
    """

    name: str
    phases: tuple[ShrinkingPhase, ...]
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    distillation: float = 1.0
    workers: int | None = None

    def scaled(self, workers: int) -> Recipe:
        """The recipe for another number of workers, each with as many images as before.

        Rates go with the images of a step (https://arxiv.org/abs/1706.02677, section 2.1).

        Raises:
            SpecError: If a step's images do not go evenly into its workers.
        """
        if self.workers is None or self.workers == workers:
            return self
        if self.workers < 1 or self.batch_size % self.workers:
            raise SpecError(
                f"a batch of {self.batch_size} images does not go evenly into the {self.workers} "
                f"workers of the recipe {self.name}"
            )
        share = workers / self.workers
        phases = tuple(replace(p, learning_rate=p.learning_rate * share) for p in self.phases)
        return replace(
            self,
            phases=phases,
            batch_size=self.batch_size // self.workers * workers,
            workers=workers,
        )


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with ofa_hw."""
    return tuple(sorted(f.name.removesuffix(".toml") for f in _folder().iterdir()))


def get_recipe(name: str | Path) -> Recipe:
    """A recipe by the name of one that comes with ofa_hw, or from a TOML file of one's own.

    Raises:
        SpecError: If there is no such recipe or file, or a line of it means nothing.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SpecError(f"no recipe file {path}; recipes by name are {_listed()}")
        return parse_recipe(path.read_text(), str(path))
    if name not in recipe_names():
        raise SpecError(f"no recipe {str(name)!r}; there are {_listed()}, or name a .toml file")
    return parse_recipe((_folder() / f"{name}.toml").read_text(), str(name))


def parse_recipe(text: str, source: str) -> Recipe:
    """Reads the TOML of a recipe; `source` names it in errors.

    Raises:
        SpecError: If it is no TOML, or a field is unknown, missing or of another type.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"recipe {source} is not TOML: {error}") from error
    phases = data.pop("phase", [])
    if not isinstance(phases, list) or not phases:
        raise SpecError(f"recipe {source} has no [[phase]]; the recipe `digits` shows how")
    parsed = tuple(
        _read(ShrinkingPhase, phase, f"phase {i} of {source}", {})
        for i, phase in enumerate(phases, 1)
    )
    return _read(Recipe, data, source, {"phases": parsed})


def _read(kind: type[_T], data: dict[str, Any], source: str, given: dict[str, Any]) -> _T:
    known = {f.name: f for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    if unknown := sorted(data.keys() - known.keys()):
        raise SpecError(f"{source} has no field {unknown[0]!r}; it has {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and n not in data]
    if needed:
        raise SpecError(f"{source} lacks {', '.join(needed)}")
    for key, value in data.items():
        if value == "all" and key in _COUNTS:
            data[key] = value = ALL
        wanted = str(known[key].type)
        if not _fits(value, wanted):
            raise SpecError(f"{key} of {source} must be a {_EXPECTED[wanted]}, got {value!r}")
    return kind(**data, **given)


def _fits(value: object, wanted: str) -> bool:
    match value:
        case bool():
            return False
        case str():
            return wanted == "str"
        case int():
            return wanted != "str" and value >= (1 if wanted == "int" else 0)
        case float():
            return wanted == "float" and value >= 0
    return False


def _folder() -> Traversable:
    return files("ofa_hw.training") / "recipes"


def _listed() -> str:
    return ", ".join(recipe_names())


def choices_of(space: SearchSpace, phase: ShrinkingPhase) -> dict[str, tuple[Choice, ...]]:
    """The open choices of each field, for a person to read."""
    opened: dict[str, set[Choice]] = {}
    for gene, indices in zip(space.genes, phase.allowed(space), strict=True):
        opened.setdefault(gene.field, set()).update(gene.choices[i] for i in indices)
    return {field: tuple(sorted(values)) for field, values in opened.items()}
