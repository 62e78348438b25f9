"""Writes the .tflite file format: tensors, operators and their buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
}
Options: TypeAlias = Any  # one of the generated, untyped `schema.*OptionsT`
_ALIGNMENT = 16  # what the format's schema asks of a buffer


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What the integers of a tensor stand for: scale * (q - zero_point).

    Attributes:
        scales: One, or one for each index along `axis`.
        zero_point: The same for all.
        axis: Of several scales.
    """

    scales: npt.NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0

    def pack(self) -> Any:  # noqa: ANN401
        """As the schema has it."""
        return schema.QuantizationParametersT(
            scale=self.scales,
            zeroPoint=np.full(len(self.scales), self.zero_point, np.int64),
            quantizedDimension=self.axis,
        )


class TfliteModel:
    """A model of one subgraph under construction; tensors are known by their index."""

    def __init__(self) -> None:
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 stands for "no data"
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        *,
        dtype: npt.DTypeLike = np.float32,
        quantisation: Quantisation | None = None,
        dynamic_batch: bool = False,
    ) -> int:
        """Adds a tensor that an operator writes, or that is an input."""
        kind = _TYPES[np.dtype(dtype)]
        index = self._add_tensor(name, shape, kind, 0, quantisation)
        if dynamic_batch:
            self._tensors[index].shapeSignature = np.array([-1, *shape[1:]], np.int32)
        return index

    def constant(
        self, name: str, values: npt.NDArray[Any], quantisation: Quantisation | None = None
    ) -> int:
        """Adds a constant tensor."""
        self._buffers.append(_Buffer(values))
        kind = _TYPES[values.dtype]
        return self._add_tensor(name, values.shape, kind, len(self._buffers) - 1, quantisation)

    def operator(
        self,
        builtin: int,
        inputs: Sequence[int],
        output: int,
        options: Options = None,
        *,
        version: int = 1,
    ) -> int:
        """Adds an operator and returns `output`, the tensor that it writes.

        Args:
            builtin: A `schema.BuiltinOperator`.
            inputs: Tensors that it reads.
            output: Tensor that it writes.
            options: Its `schema.*OptionsT`, or None where it has none.
            version: Of the operator, which an older runtime refuses.
        """
        operator = schema.OperatorT(
            opcodeIndex=self._codes.setdefault((builtin, version), len(self._codes)),
            inputs=np.array(inputs, np.int32),
            outputs=np.array([output], np.int32),
        )
        if options is not None:
            union = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, union)
            operator.builtinOptions = options
        self._operators.append(operator)
        return output

    def serialise(
        self,
        *,
        input: int,
        output: int,
        names: tuple[str, str],
        metadata: Mapping[str, str],
    ) -> bytes:
        """The bytes of a .tflite file.

        Args:
            input: The tensor that images are put in.
            output: The tensor that scores are read from.
            names: Of the two in the signature `serving_default`.
            metadata: Entries of the model's `metadata`.
        """
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=names[0], tensorIndex=input)],
            outputs=[schema.TensorMapT(name=names[1], tensorIndex=output)],
            signatureKey="serving_default",
        )
        subgraph = schema.SubGraphT(
            tensors=self._tensors,
            inputs=np.array([input], np.int32),
            outputs=np.array([output], np.int32),
            operators=self._operators,
            name="main",
        )
        entries = []
        for name, value in metadata.items():
            self._buffers.append(_Buffer(np.frombuffer(value.encode(), np.uint8)))
            entries.append(schema.MetadataT(name=name, buffer=len(self._buffers) - 1))
        model = schema.ModelT(
            version=3,
            operatorCodes=[
                # Runtimes of before 2020 read the deprecated field alone, 127 meaning "the other".
                schema.OperatorCodeT(
                    deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version
                )
                for code, version in self._codes
            ],
            subgraphs=[subgraph],
            description="ofa_hw",
            buffers=self._buffers,
            metadata=entries,
            signatureDefs=[signature],
        )
        data_bytes = sum(b.values.nbytes for b in self._buffers if isinstance(b, _Buffer))
        builder = flatbuffers.Builder(data_bytes + 512 * (len(self._tensors) + 16))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(memoryview(builder.Bytes)[builder.head :])

    def _add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        kind: int,
        buffer: int,
        quantisation: Quantisation | None,
    ) -> int:
        tensor = schema.TensorT(
            shape=np.array(shape, np.int32),
            type=kind,
            buffer=buffer,
            name=name,
            quantization=quantisation.pack() if quantisation else None,
            hasRank=True,
        )
        self._tensors.append(tensor)
        return len(self._tensors) - 1


class _Buffer(schema.BufferT):  # type: ignore[misc]
    """A buffer written in one copy and aligned, which the generated class does not do."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        super().__init__()
        self.values = np.ascontiguousarray(values)

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        builder.StartVector(1, self.values.nbytes, _ALIGNMENT)
        builder.head -= self.values.nbytes
        end = builder.head + self.values.nbytes
        builder.Bytes[builder.head : end] = self.values.reshape(-1).view(np.uint8).data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))
