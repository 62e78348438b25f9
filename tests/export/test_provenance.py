"""What a file tells of its network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import ExportError
from ofa_hw.export import Provenance, export_graph, read_provenance
from ofa_hw.graph import network_graph
from ofa_hw.lowering.files import FORMATS
from ofa_hw.lowering.metadata import read_metadata
from ofa_hw.profiling import DeviceInfo
from ofa_hw.spaces import get_space

SPACE = get_space("tiny")
SPEC = SPACE.smallest()
DEVICE = DeviceInfo("a phone", "tflite", "tflite", "2.14.1", "int8", 4, 1, {"delegate": "xnnpack"})
FULL = Provenance(
    dtype="int8",
    spec=SPEC,
    table="phone.jsonl",
    device=DEVICE,
    predicted_latency_ms=1.25,
    predicted_interval_ms=(1.1875, 1.3125),
    measured_latency_ms=1.5,
    predicted_top1=0.98,
    top1=0.97,
    labels=tuple(f"nº {i}\n" for i in range(10)),
    versions={"ofa-hw": "0.1.0"},
)
latencies = st.none() | st.floats(1e-6, 1e6)
texts = st.text('aé\n"{: ', min_size=1, max_size=8)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_every_format_keeps_where_it_is_from(tmp_path: Path, suffix: str) -> None:
    torch = pytest.importorskip("torch")
    from ofa_hw.lowering.torch import to_torch

    graph = network_graph(SPACE.ops(SPEC))
    module = to_torch(graph)

    def reference(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(x)))

    path = tmp_path / f"net{suffix}"
    export_graph(graph, path, reference=reference, metadata=FULL.to_metadata())
    assert read_provenance(path) == replace(FULL, dtype="fp32")  # in which it was written
    assert read_provenance(path).space == "tiny"


@given(
    st.builds(
        Provenance,
        table=st.none() | texts,
        predicted_latency_ms=latencies,
        measured_latency_ms=latencies,
        labels=st.lists(texts).map(tuple),
        versions=st.dictionaries(texts, texts),
    )
)
def test_what_is_written_is_read_back(provenance: Provenance) -> None:
    assert Provenance.from_metadata(provenance.to_metadata()) == provenance


def test_entries_of_others_are_not_taken_for_ours() -> None:
    foreign = {"labels": "cat\ndog", "min_runtime_version": "1.5.0"}
    assert Provenance.from_metadata(foreign) == Provenance(versions={})


def test_versions_are_those_of_what_wrote_it() -> None:
    versions = Provenance.from_metadata(Provenance().to_metadata()).versions
    assert versions is not None
    assert versions["ofa-hw"]
    assert versions["onnx"] == pytest.importorskip("onnx").__version__


@pytest.mark.parametrize(
    "entries",
    [
        {"ofa_hw.spec": "{"},
        {"ofa_hw.device": '{"colour": "red"}'},
        {"ofa_hw.predicted_latency_ms": "soon"},
        {"ofa_hw.labels": "3"},
    ],
    ids=lambda entries: next(iter(entries)),
)
def test_a_damaged_entry_is_an_error_that_says_so(entries: dict[str, str]) -> None:
    with pytest.raises(ExportError, match="provenance cannot be read"):
        Provenance.from_metadata(entries)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\3\4 no archive")
    with pytest.raises(ExportError, match=r"net\.pt2.*damaged"):
        read_metadata(path)
