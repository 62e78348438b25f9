"""The published networks, against the reference implementation's outputs."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ofa_hw.graph import Graph
from ofa_hw.lowering.onnx import to_onnx
from ofa_hw.lowering.sessions import OnnxSession, TfliteSession
from ofa_hw.lowering.tflite import to_tflite
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space
from ofa_hw.supernet import Supernet, load_supernet

NAMES = (
    "ofa_mbv3_d234_e346_k357_w1.0",
    "ofa_mbv3_d234_e346_k357_w1.2",
    "ofa_proxyless_d234_e346_k357_w1.3",
    "ofa_resnet50",
)
State = dict[str, torch.Tensor]
Case = dict[str, Any]


def spec_of(space: SearchSpace, case: Case) -> SubnetSpec:
    return space.spec(
        resolution=case["resolution"],
        depths=case["d"],
        expand_ratios=case["e"],
        kernel_sizes=case.get("ks", ()),
        width_indices=case.get("w", ()),
    )


def image(resolution: int) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(resolution))
    return rng.standard_normal((2, 3, resolution, resolution)).astype(np.float32)


def error(logits: np.ndarray, case: Case) -> float:
    norm = np.array(case["norm"])
    first = np.abs(logits[:, :10] - np.array(case["logits"])).max(1)
    whole = np.abs(np.linalg.norm(logits.astype(np.float64), axis=1) - norm)
    return float(max((first / norm).max(), (whole / norm).max()))


def supernets(
    cases: list[Case], weights: Callable[[str], State], name: str
) -> Iterator[tuple[Supernet, list[Case]]]:
    """The cases of a space by the sorting they need, each with its supernet."""
    by_stage = defaultdict(list)
    for case in cases:
        if case["net"] == name:
            by_stage[case["sorted_stage"]].append(case)
    for stage, chosen in by_stage.items():
        net = load_supernet(name, weights(name)).eval()
        if stage is not None:
            net.sort_channels(stage)
        yield net, chosen


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_the_published_ones(
    name: str, golden_shapes: dict[str, dict[str, list[int]]]
) -> None:
    state = load_supernet(name).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == golden_shapes[name]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_outputs_and_parameters_are_the_references(
    name: str, golden_cases: list[Case], golden_weights: Callable[[str], State]
) -> None:
    for net, cases in supernets(golden_cases, golden_weights, name):
        for case in cases:
            spec = spec_of(net.space, case)
            x = torch.from_numpy(image(spec.resolution))
            plain = net.extract(spec)
            assert error(net(x, spec).numpy(), case) < 1e-4, spec
            assert error(plain(x).numpy(), case) < 1e-4, spec
            assert sum(p.numel() for p in plain.parameters()) == case["params"]


def test_costs_are_the_references(golden_cases: list[Case]) -> None:
    for case in golden_cases:
        space = get_space(case["net"])
        spec = spec_of(space, case)
        # The reference adds up in float32, layer after layer.
        rounded = np.float32(0)
        for op in space.ops(spec):
            for conv in op.convolutions():
                rounded += np.float32(conv.macs)
        assert int(rounded) == case["macs"]
        assert space.macs(spec) == pytest.approx(case["macs"], rel=1e-6)
        assert space.params(spec) == case["params"]


def test_every_published_case_is_covered(golden_cases: list[Case]) -> None:
    assert {case["net"] for case in golden_cases} == set(NAMES)
    assert len(golden_cases) == 32


def runtime_error(net: Supernet, case: Case, runtime: str) -> float:
    spec = spec_of(net.space, case)
    x = image(spec.resolution)
    graph = Graph.from_torch(net.extract(spec), x.shape)
    session = (
        OnnxSession(to_onnx(graph)) if runtime == "onnxruntime" else TfliteSession(to_tflite(graph))
    )
    return error(session.run(x), case)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_file_gives_the_references_output(
    name: str, runtime: str, golden_cases: list[Case], golden_weights: Callable[[str], State]
) -> None:
    net, cases = next(supernets(golden_cases, golden_weights, name))
    assert runtime_error(net, min(cases, key=lambda case: case["macs"]), runtime) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_file_gives_the_references_output(
    name: str, runtime: str, golden_cases: list[Case], golden_weights: Callable[[str], State]
) -> None:
    for net, cases in supernets(golden_cases, golden_weights, name):
        for case in cases:
            assert runtime_error(net, case, runtime) < 1e-3, case
