"""Reads the `net.config` files of the published specialised networks.

Such a file is the JSON of a plain network, layer by layer; its resolution stands in a file beside
it (`NAME.net.json`, `NAME.run.json`). Everything that is read is checked: a file that holds another
kind of layer than the two families have is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ofa_hw.errors import SpecError
from ofa_hw.ops import OpSpec, se_middle

FAMILIES: Final = ("MobileNetV3", "ProxylessNASNets")
_CONV: Final = {
    "name": "ConvLayer",
    "dilation": 1,
    "groups": 1,
    "bias": False,
    "has_shuffle": False,
    "ops_order": "weight_bn_act",
}
_LINEAR: Final = {
    "name": "LinearLayer",
    "bias": True,
    "use_bn": False,
    "act_func": None,
    "ops_order": "weight_bn_act",
}


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """A network as a published file describes it.

    Attributes:
        family: `MobileNetV3` or `ProxylessNASNets`.
        ops: Its operators, in order.
        norm_eps: Epsilon of every batch norm.
    """

    family: str
    ops: tuple[OpSpec, ...]
    norm_eps: float


def read_network_config(
    config: str | Path | Mapping[str, Any], resolution: int | None = None
) -> PublishedNetwork:
    """Reads a published network.

    Args:
        config: Path of a `net.config` file, or what it holds.
        resolution: Height and width of its images; by default what the file's neighbour
            `NAME.run.json` says.

    Raises:
        SpecError: If a file cannot be read, the network is of another family than these two, or
            holds layers or settings that they do not have.
    """
    if not isinstance(config, Mapping):
        path = Path(config)
        config = _json(path)
        if resolution is None:
            beside = path.with_name(path.name.removesuffix(".net.json") + ".run.json")
            resolution = _field(_json(beside), "image_size", int, str(beside))
    if resolution is None:
        raise SpecError("a network without a file needs its resolution; pass resolution=...")
    family = config.get("name")
    if family not in FAMILIES:
        raise SpecError(f"the network is of family {family!r}; known are {', '.join(FAMILIES)}")
    ops = _chain(config, resolution)
    for before, after in pairwise(ops):
        if before.out_channels != after.in_channels:
            raise SpecError(f"{after} follows {before}, which gives other channels than it takes")
    norm_eps = _field(_field(config, "bn", dict, "the network"), "eps", float, "bn")
    return PublishedNetwork(str(family), ops, norm_eps)


def _chain(config: Mapping[str, Any], resolution: int) -> tuple[OpSpec, ...]:
    ops = [_conv(config, "first_conv", resolution)]
    for index, block in enumerate(_field(config, "blocks", list, "the network")):
        ops.append(_mbconv(block, f"blocks[{index}]", ops[-1].out_resolution))
    wide = "final_expand_layer" in config
    if wide:
        ops.append(_conv(config, "final_expand_layer", ops[-1].out_resolution))
    else:
        ops.append(_conv(config, "feature_mix_layer", ops[-1].out_resolution))
    channels = ops[-1].out_channels
    ops.append(OpSpec("global_pool", ops[-1].out_resolution, channels, channels))
    if wide:
        ops.append(_conv(config, "feature_mix_layer", 1))
    linear = _layer(config, "classifier", _LINEAR)
    sizes = [_field(linear, key, int, "classifier") for key in ("in_features", "out_features")]
    return (*ops, OpSpec("linear", 1, *sizes))


def _conv(config: Mapping[str, Any], name: str, resolution: int) -> OpSpec:
    layer = _layer(config, name, _CONV)
    return OpSpec(
        "conv",
        resolution,
        _field(layer, "in_channels", int, name),
        _field(layer, "out_channels", int, name),
        kernel_size=_field(layer, "kernel_size", int, name),
        stride=_field(layer, "stride", int, name),
        activation=layer.get("act_func") or "none",
        norm=_field(layer, "use_bn", bool, name),
    )


def _mbconv(block: Mapping[str, Any], where: str, resolution: int) -> OpSpec:
    if not isinstance(block, dict):
        raise SpecError(f"{where} must be a block, got {block!r}")
    key = "mobile_inverted_conv" if "mobile_inverted_conv" in block else "conv"
    layer = _layer(block, key, {"name": "MBInvertedConvLayer"})
    in_channels = _field(layer, "in_channels", int, where)
    expand = _field(layer, "expand_ratio", float, where)
    middle = round(in_channels * expand)
    if layer.get("mid_channels") is not None:
        middle = _field(layer, "mid_channels", int, where)
    shortcut = block.get("shortcut")
    if shortcut is not None:
        _layer(block, "shortcut", {"name": "IdentityLayer", "use_bn": False, "act_func": None})
    if expand == 1 and middle != in_channels:
        raise SpecError(f"{where} has expansion 1 and {middle} middle channels")
    return OpSpec(
        "mbconv",
        resolution,
        in_channels,
        _field(layer, "out_channels", int, where),
        mid_channels=middle,
        kernel_size=_field(layer, "kernel_size", int, where),
        stride=_field(layer, "stride", int, where),
        activation=layer.get("act_func") or "none",
        se_channels=se_middle(middle) if _field(layer, "use_se", bool, where) else 0,
        shortcut="identity" if shortcut is not None else "none",
    )


def _layer(
    config: Mapping[str, Any], name: str, settings: Mapping[str, object]
) -> Mapping[str, Any]:
    """A layer of the configuration; refuses one with other settings than those."""
    layer: Mapping[str, Any] = _field(config, name, dict, "the network")
    for key, value in settings.items():
        if layer.get(key, value) != value:
            raise SpecError(f"{key} of {name} is {layer[key]!r}; only {value!r} can be read")
    return layer


def _field(config: Mapping[str, Any], key: str, kind: type, where: str) -> Any:  # noqa: ANN401
    value = config.get(key)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise SpecError(f"{key} of {where} must be {kind.__name__}, got {value!r}")
    return value


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds no configuration but a {type(content).__name__}")
    return content
