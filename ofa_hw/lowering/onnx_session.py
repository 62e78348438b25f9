"""A model in ONNX Runtime."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol

import numpy as np

from ofa_hw.errors import BackendUnavailableError, ProfilerError
from ofa_hw.graph.ir import Array, Shape
from ofa_hw.lowering.tensors import (
    Tensor,
    TensorInfo,
    model_name,
    random_inputs,
    require_accepted,
)

CPU_PROVIDER: Final = "CPUExecutionProvider"
OPTIMISATIONS: Final[Mapping[str, str]] = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
GPU_PROVIDERS: Final = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
# What makes a provider's float32 keep all bits.
_PRECISE: Final[Mapping[str, Mapping[str, str]]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
_TYPES: Final[Mapping[str, str]] = {"float": "float32", "double": "float64"}


class _NodeArg(Protocol):
    name: str
    type: str
    shape: Sequence[int | str | None]


class OnnxSession:
    """A model in ONNX Runtime.

    Attributes:
        inputs: Its inputs.
        runtime: Name of the runtime.
        runtime_version: Its version.
    """

    runtime = "onnxruntime"

    def __init__(
        self,
        model: bytes | Path,
        *,
        threads: int = 1,
        provider: str = CPU_PROVIDER,
        optimisation: str = "all",
    ) -> None:
        """Opens a model.

        Args:
            model: The bytes of an .onnx file, or its path.
            threads: Threads that an operator may use.
            provider: The execution provider that runs every node.
            optimisation: Of the graph, one of `OPTIMISATIONS`.

        Raises:
            BackendUnavailableError: If ONNX Runtime or the provider is not there, or would leave
                nodes to the CPU.
            ProfilerError: If it cannot load the model.
        """
        self._name = model_name(model)
        ort = _import_onnxruntime()
        self.runtime_version: str = ort.__version__
        if provider not in ort.get_available_providers():
            raise BackendUnavailableError(
                f"ONNX Runtime {ort.__version__} has no {provider} here; it has "
                f"{', '.join(ort.get_available_providers())}"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is logged as an error is raised, too
        options.graph_optimization_level = _optimisation_level(ort, optimisation)
        if provider != CPU_PROVIDER:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        with _errors(f"load {self._name}"):
            source = str(model) if isinstance(model, Path) else model
            self._session = ort.InferenceSession(
                source,
                options,
                providers=[(provider, dict(_PRECISE.get(provider, {})))],
                enable_fallback=0,  # else it goes on with the CPU and says so on stdout
            )
        if (used := self._session.get_providers()[0]) != provider:
            raise BackendUnavailableError(
                f"ONNX Runtime fell back from {provider} to {used}; see that the driver and the "
                f"libraries that {provider} needs are installed"
            )
        self.inputs = tuple(map(_tensor_info, self._session.get_inputs()))
        self._binding = self._session.io_binding()
        self._memory = "cuda" if provider in GPU_PROVIDERS else "cpu"
        self._value = ort.OrtValue.ortvalue_from_numpy
        self._held: list[object] = []
        self.set_inputs(random_inputs(self.inputs, rng=np.random.default_rng(0)))

    @property
    def input_shape(self) -> Shape:
        """Shape of the first input, dynamic dimensions at 1."""
        return self.inputs[0].smallest_shape

    def set_inputs(self, arrays: Sequence[Tensor]) -> None:
        """Sets the inputs of the next `invoke`, in the order of `inputs`."""
        arrays = [np.ascontiguousarray(array) for array in arrays]
        require_accepted(self.inputs, arrays, self._name)
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        with _errors(f"take the inputs of {self._name}"):
            # In the provider's own memory, so that no copy is timed. The binding only points there.
            self._held = [self._value(array, self._memory) for array in arrays]
            for info, value in zip(self.inputs, self._held, strict=True):
                self._binding.bind_ortvalue_input(info.name, value)
            for output in self._session.get_outputs():
                self._binding.bind_output(output.name, self._memory)

    def invoke(self) -> None:
        """Runs the model once on the inputs that are set."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception:  # rather than a `with` around it, which would be timed
            with _errors(f"run {self._name}"):
                raise

    def outputs(self) -> list[Tensor]:
        """Copies of what the last `invoke` gave."""
        return list(self._binding.copy_outputs_to_cpu())

    def run(self, x: Tensor) -> Array:
        """The first output for the only input `x`, (N, C, H, W)."""
        self.set_inputs([x])
        self.invoke()
        return np.asarray(self.outputs()[0], np.float32)


def _import_onnxruntime() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendUnavailableError(
            f"ONNX Runtime cannot be imported ({error}); pip install onnxruntime"
        ) from error


def _optimisation_level(ort: ModuleType, optimisation: str) -> object:
    if optimisation not in OPTIMISATIONS:
        raise ProfilerError(
            f"no graph optimisation {optimisation!r}; choose from {', '.join(OPTIMISATIONS)}"
        )
    return getattr(ort.GraphOptimizationLevel, OPTIMISATIONS[optimisation])


def _tensor_info(node: _NodeArg) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    kind = re.sub(r"tensor\((\w+)\)", r"\1", node.type)
    try:
        return TensorInfo(node.name, shape, np.dtype(_TYPES.get(kind, kind)))
    except TypeError as error:
        raise ProfilerError(f"input {node.name!r} is a {node.type}, which numpy lacks") from error


@contextmanager
def _errors(action: str) -> Iterator[None]:
    """Turns what ONNX Runtime raises into errors of this project."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    raised: list[type[Exception]] = [RuntimeError, ValueError]  # and its own, of no common base
    raised += [e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)]
    try:
        yield
    except tuple(raised) as error:
        reason = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).split("\n")[0]
        if "fallback to CPU EP has been explicitly disabled" in reason:
            raise BackendUnavailableError(
                f"ONNX Runtime cannot {action}: the provider leaves nodes to the CPU, or libraries "
                f"that it needs are not there (ONNX Runtime logs them); use {CPU_PROVIDER}"
            ) from error
        raise ProfilerError(f"ONNX Runtime cannot {action}: {reason}") from error
