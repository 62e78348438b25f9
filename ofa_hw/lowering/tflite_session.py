"""A model in TFLite."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, TypeAlias

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

# The first is the host's; tflite-runtime, its predecessor, serves boards whose numpy is before 2.
_RUNTIMES: Final = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
_Details: TypeAlias = Mapping[str, Any]


class _Interpreter(Protocol):
    """What is used of the `Interpreter` of either runtime."""

    def allocate_tensors(self) -> None: ...
    def invoke(self) -> None: ...
    def get_input_details(self) -> list[_Details]: ...
    def get_output_details(self) -> list[_Details]: ...
    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int]) -> None: ...
    def set_tensor(self, tensor_index: int, value: Tensor) -> None: ...
    def get_tensor(self, tensor_index: int) -> Tensor: ...
    def _get_ops_details(self) -> list[_Details]: ...


class TfliteSession:
    """A model in TFLite.

    Attributes:
        inputs: Its inputs, as they are in the file.
        runtime: `ai-edge-litert` or `tflite-runtime`.
        runtime_version: Its version.
        partitions: How many parts of the graph XNNPACK runs: 1 if it took it whole, and 0 without
            it.
        undelegated: The operators that TFLite's own kernels run, in order.
    """

    def __init__(self, model: bytes | Path, *, threads: int = 1, xnnpack: bool = True) -> None:
        """Opens a model.

        Args:
            model: The bytes of a .tflite file, or its path.
            threads: Threads that an operator may use.
            xnnpack: Whether XNNPACK runs what it can; else TFLite's own kernels run everything.

        Raises:
            BackendUnavailableError: If no TFLite runtime is installed.
            ProfilerError: If it cannot load the model.
        """
        self._name = model_name(model)
        package, self._interpreter = _make_interpreter(model, self._name, threads, xnnpack)
        self.runtime = _RUNTIMES[package]
        self.runtime_version = str(importlib.import_module(package).__version__)
        details = self._interpreter.get_input_details()
        self.inputs = tuple(map(_tensor_info, details))
        self._indices: list[int] = [detail["index"] for detail in details]
        self._outputs: list[int] = [d["index"] for d in self._interpreter.get_output_details()]
        self.set_inputs(random_inputs(self.inputs, rng=np.random.default_rng(0)))
        plan = _execution_plan(self._interpreter, self._outputs)
        self.partitions = plan.count("DELEGATE")
        self.undelegated = tuple(name for name in plan if name != "DELEGATE")

    @property
    def input_shape(self) -> Shape:
        """Shape of the first input as `run` takes it, dynamic dimensions at 1."""
        shape = self.inputs[0].smallest_shape
        return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape

    def set_inputs(self, arrays: Sequence[Tensor]) -> None:
        """Sets the inputs of the next `invoke`, in the order and layout of `inputs`."""
        arrays = list(arrays)
        require_accepted(self.inputs, arrays, self._name)
        with _errors(f"take the inputs of {self._name}"):
            if any(None in info.shape for info in self.inputs):
                for index, array in zip(self._indices, arrays, strict=True):
                    self._interpreter.resize_tensor_input(index, array.shape)
                self._interpreter.allocate_tensors()
            for index, array in zip(self._indices, arrays, strict=True):
                self._interpreter.set_tensor(index, array)

    def invoke(self) -> None:
        """Runs the model once on the inputs that are set."""
        try:
            self._interpreter.invoke()
        except Exception:  # rather than a `with` around it, which would be timed
            with _errors(f"run {self._name}"):
                raise

    def outputs(self) -> list[Tensor]:
        """Copies of what the last `invoke` gave."""
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def run(self, x: Tensor) -> Array:
        """The first output for the only input `x`.

        Tensors of four dimensions are (N, C, H, W) here and (N, H, W, C) in the file.
        """
        self.set_inputs([x.transpose(0, 2, 3, 1) if x.ndim == 4 else x])
        self.invoke()
        y = np.asarray(self.outputs()[0], np.float32)
        return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if y.ndim == 4 else y


def _make_interpreter(
    model: bytes | Path, name: str, threads: int, xnnpack: bool
) -> tuple[str, _Interpreter]:
    """The first package that can make an interpreter, and the interpreter.

    Importing tells nothing: tflite-runtime imports under numpy 2 and fails after.
    """
    broken: list[str] = []
    for package, distribution in _RUNTIMES.items():
        try:
            module = importlib.import_module(f"{package}.interpreter")
            with _errors(f"load {name}"):
                return package, _interpreter_of(module, model, threads, xnnpack)
        except ProfilerError:  # it works, and refuses the model
            raise
        except ModuleNotFoundError:
            continue
        except Exception as error:
            broken.append(f"{distribution} does not work here ({error})")
    raise BackendUnavailableError(
        f"{'; '.join(broken) or 'no TFLite runtime is installed'}; pip install ai-edge-litert"
    )


def _interpreter_of(
    module: ModuleType, model: bytes | Path, threads: int, xnnpack: bool
) -> _Interpreter:
    resolver = module.OpResolverType
    interpreter: _Interpreter = module.Interpreter(
        model_path=str(model) if isinstance(model, Path) else None,
        model_content=None if isinstance(model, Path) else model,
        num_threads=threads,
        experimental_op_resolver_type=(
            resolver.AUTO if xnnpack else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    interpreter.allocate_tensors()
    return interpreter


def _tensor_info(detail: Mapping[str, Any]) -> TensorInfo:
    shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
    return TensorInfo(detail["name"], shape, np.dtype(detail["dtype"]))


def _execution_plan(interpreter: _Interpreter, outputs: Sequence[int]) -> list[str]:
    """Names of the operators that run; `DELEGATE` stands for a part that a delegate took.

    The interpreter lists delegated operators, too, so that what runs has to be traced back from
    the outputs: a tensor that a delegate writes is not written by the operator it replaced.
    """
    operators = interpreter._get_ops_details()
    operators.sort(key=lambda operator: operator["op_name"] == "DELEGATE")
    writer = {int(tensor): op for op in operators for tensor in op["outputs"]}
    running: dict[int, str] = {}
    pending = [int(tensor) for tensor in outputs]
    while pending:
        operator = writer.get(pending.pop())
        if operator is not None and operator["index"] not in running:
            running[operator["index"]] = operator["op_name"]
            pending += [int(tensor) for tensor in operator["inputs"]]
    return [running[index] for index in sorted(running)]


@contextmanager
def _errors(action: str) -> Iterator[None]:
    """Turns what TFLite raises into errors of this project."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ProfilerError(f"TFLite cannot {action}: {error}") from error
