"""ExportOptions: how a network is to be written, and what its file must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ofa_hw.errors import ExportError
from ofa_hw.export.normalise import Normalisation
from ofa_hw.lowering.form import DTYPES, Form

# Largest relative error that passes. Eight bits are judged by the classes that they tell, too: the
# limit here only says that something is wrong altogether.
TOLERANCES: Final = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a network is written.

    Attributes:
        dtype: Of weights and activations: `fp32`, `fp16` or `int8`.
        dynamic_batch: The file takes any number of images at once.
        normalisation: Images come as bytes, and the file begins with this; without, they come as
            float32 and normalised.
        input_name: Of the input.
        output_name: Of the output.
        min_agreement: In `int8`, the least fraction of the check's images on which the file and
            torch must tell the same class.
        allow_fallback: Whether a .tflite file may hold operators that XNNPACK leaves to slower
            kernels.
    """

    dtype: str = "fp32"
    dynamic_batch: bool = False
    normalisation: Normalisation | None = None
    input_name: str = "input"
    output_name: str = "output"
    min_agreement: float = 0.9
    allow_fallback: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ExportError(f"no data type {self.dtype!r}; choose from {', '.join(DTYPES)}")
        if not 0 <= self.min_agreement <= 1:
            raise ExportError(f"an agreement lies between 0 and 1, got {self.min_agreement}")
        _ = self.form

    @property
    def form(self) -> Form:
        """How the file takes images and gives scores."""
        return Form(
            uint8_input=self.normalisation is not None,
            dynamic_batch=self.dynamic_batch,
            input_name=self.input_name,
            output_name=self.output_name,
        )
