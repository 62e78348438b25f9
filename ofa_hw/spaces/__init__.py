"""Search spaces: what may vary in a family of networks, and what operators that gives."""

from ofa_hw.spaces.base import SearchSpace, Slot
from ofa_hw.spaces.chain import ChainSpace
from ofa_hw.spaces.classes import base_name, with_classes
from ofa_hw.spaces.genes import Allowed, Choice, Gene, Rows
from ofa_hw.spaces.inverted_residual import InvertedResidualNet, InvertedResidualSpace, Unit
from ofa_hw.spaces.mobilenetv3 import mobilenetv3
from ofa_hw.spaces.proxylessnas import proxylessnas
from ofa_hw.spaces.published import PublishedNetwork, read_network_config
from ofa_hw.spaces.recognise import spec_from_config
from ofa_hw.spaces.registry import get_space, register_space, space_names
from ofa_hw.spaces.resnet50 import ResNet50Space, resnet50
from ofa_hw.spaces.spec import SubnetSpec
from ofa_hw.spaces.tiny import tiny

__all__ = [
    "Allowed",
    "ChainSpace",
    "Choice",
    "Gene",
    "InvertedResidualNet",
    "InvertedResidualSpace",
    "PublishedNetwork",
    "ResNet50Space",
    "Rows",
    "SearchSpace",
    "Slot",
    "SubnetSpec",
    "Unit",
    "base_name",
    "get_space",
    "mobilenetv3",
    "proxylessnas",
    "read_network_config",
    "register_space",
    "resnet50",
    "space_names",
    "spec_from_config",
    "tiny",
    "with_classes",
]
