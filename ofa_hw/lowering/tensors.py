"""What a session says of its inputs, and inputs to run any file with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofa_hw.errors import ProfilerError

Tensor = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a model, as its file has it.

    Attributes:
        name: In the file.
        shape: Dynamic dimensions are None.
        dtype: Of its elements.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    @property
    def smallest_shape(self) -> tuple[int, ...]:
        """Its shape with dynamic dimensions at 1."""
        return tuple(1 if size is None else size for size in self.shape)

    def shape_of(self, batch: int) -> tuple[int, ...]:
        """Its shape with so many images at once; other dynamic dimensions are 1."""
        first, rest = self.shape[:1], self.smallest_shape[1:]
        return (*(batch if size is None else size for size in first), *rest)

    def accepts(self, array: Tensor) -> bool:
        """Whether `array` has its dtype and, dynamic dimensions aside, its shape."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(
                wanted in (None, size) for wanted, size in zip(self.shape, array.shape, strict=True)
            )
        )


def require_accepted(infos: tuple[TensorInfo, ...], arrays: list[Tensor], model: str) -> None:
    """Raises `ProfilerError` unless there is one fitting array for every input."""
    if len(arrays) != len(infos):
        raise ProfilerError(f"{model} has {len(infos)} inputs, got {len(arrays)}")
    for info, array in zip(infos, arrays, strict=True):
        if not info.accepts(array):
            wanted = ", ".join("any" if size is None else str(size) for size in info.shape)
            raise ProfilerError(
                f"input {info.name!r} of {model} takes {info.dtype} ({wanted}), "
                f"got {array.dtype} {array.shape}"
            )


def random_inputs(
    infos: Iterable[TensorInfo], *, rng: np.random.Generator, batch: int = 1
) -> list[Tensor]:
    """One array for each input, a dynamic batch at `batch` and other dynamic dimensions at 1.

    Floats are normal. Bytes span their range, as images do; wider integers are 0 or 1, which are
    valid indices of any table that has two rows.
    """
    return [_random(info, info.shape_of(batch), rng) for info in infos]


def _random(info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    dtype = info.dtype
    match dtype.kind:
        case "f":
            return rng.standard_normal(shape).astype(dtype)
        case "i" | "u" if dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        case "i" | "u" | "b":
            return rng.integers(0, 2, shape).astype(dtype)
    raise ProfilerError(f"input {info.name!r} is of {dtype}, of which random ones are not made")


def model_name(model: bytes | Path) -> str:
    """What a message calls a model; raises `ProfilerError` if its file is missing."""
    if not isinstance(model, Path):
        return "the model"
    if not model.is_file():
        raise ProfilerError(f"there is no file {model}")
    return str(model)
