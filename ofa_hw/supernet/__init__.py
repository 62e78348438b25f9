"""Supernets: elastic torch modules, the sub-networks taken from them, published weights."""

from ofa_hw.supernet.base import Supernet
from ofa_hw.supernet.batch_norm import calibrate_batch_norm
from ofa_hw.supernet.chain import ChainSupernet, space_from_torch, supernet_from_torch
from ofa_hw.supernet.checkpoint import load_weights, read_checkpoint, save_checkpoint
from ofa_hw.supernet.inverted_residual import InvertedResidualSupernet
from ofa_hw.supernet.load import load_supernet
from ofa_hw.supernet.plain import build_network
from ofa_hw.supernet.resnet import ResNet50Supernet

__all__ = [
    "ChainSupernet",
    "InvertedResidualSupernet",
    "ResNet50Supernet",
    "Supernet",
    "build_network",
    "calibrate_batch_norm",
    "load_supernet",
    "load_weights",
    "read_checkpoint",
    "save_checkpoint",
    "space_from_torch",
    "supernet_from_torch",
]
