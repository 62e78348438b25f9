"""Profile a once-for-all supernet on a device, find its best sub-network, and ship it."""

from typing import TYPE_CHECKING

from ofa_hw.errors import OfaHwError
from ofa_hw.graph import Graph, network_graph, op_graph
from ofa_hw.latency import LatencyTable, load_table
from ofa_hw.ops import OpSpec
from ofa_hw.predictor import AccuracyPredictor, fit_predictor, load_predictor
from ofa_hw.profile import profile
from ofa_hw.search import SearchResult, search
from ofa_hw.spaces import SearchSpace, SubnetSpec, get_space, register_space, space_names
from ofa_hw.specialize import specialize
from ofa_hw.subnet import Subnet

if TYPE_CHECKING:
    from ofa_hw.supernet import Supernet, load_supernet, space_from_torch, supernet_from_torch

__all__ = [
    "AccuracyPredictor",
    "Graph",
    "LatencyTable",
    "OfaHwError",
    "OpSpec",
    "SearchResult",
    "SearchSpace",
    "Subnet",
    "SubnetSpec",
    "Supernet",
    "fit_predictor",
    "get_space",
    "load_predictor",
    "load_supernet",
    "load_table",
    "network_graph",
    "op_graph",
    "profile",
    "register_space",
    "search",
    "space_from_torch",
    "space_names",
    "specialize",
    "supernet_from_torch",
]

_OF_TORCH = ("Supernet", "load_supernet", "space_from_torch", "supernet_from_torch")


def __getattr__(name: str) -> object:
    """Imports what needs torch when it is asked for: the rest works on hosts without it."""
    if name in _OF_TORCH:
        from ofa_hw import supernet

        return getattr(supernet, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
