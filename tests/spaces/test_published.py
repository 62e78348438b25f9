import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ofa_hw.errors import SpecError
from ofa_hw.spaces import get_space, read_network_config, spec_from_config

NOTE10 = "note10_lat-30ms_top1-78.4_finetune-75"
CPU = "cpu_lat-10ms_top1-71.1_finetune-25"


def config_files(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "specialized").glob("*.net.json"))


@pytest.fixture
def note10(shared_data: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(
        (shared_data / "specialized" / f"{NOTE10}.net.json").read_text()
    )
    return config


def test_every_published_network_reads_and_lies_in_its_space(shared_data: Path) -> None:
    files = config_files(shared_data)
    assert len(files) == 25
    outside = []
    for path in files:
        network = read_network_config(path)
        resolution = network.ops[0].resolution
        if resolution > 224:
            outside.append(resolution)
            with pytest.raises(SpecError, match=f"resolution is {resolution}, choose from 128"):
                spec_from_config(path)
            continue
        spec = spec_from_config(path)
        space = get_space(spec.space)
        assert space.ops(spec) == network.ops
        assert ("proxyless" in spec.space) == (network.family == "ProxylessNASNets")
    assert outside == [236, 240]


def test_costs_agree_with_the_names(shared_data: Path) -> None:
    named = {
        path: int(match[1])
        for path in config_files(shared_data)
        if (match := re.match(r"flops-(\d+)M", path.name))
    }
    assert len(named) == 2
    for path, macs_m in named.items():
        assert round(sum(op.macs for op in read_network_config(path).ops) / 1e6) == macs_m


def test_network_of_another_family_is_not_applied(shared_data: Path) -> None:
    path = shared_data / "specialized" / f"{CPU}.net.json"
    with pytest.raises(SpecError, match=r"w1\.2: it has conv:3-24.* network has conv:3-40"):
        spec_from_config(path, space="ofa_mbv3_d234_e346_k357_w1.2")
    with pytest.raises(SpecError, match="it has no inverted residuals"):
        spec_from_config(path, space="ofa_resnet50")


def test_width_of_another_space_is_not_applied(note10: dict[str, Any]) -> None:
    assert spec_from_config(note10, 224).space == "ofa_mbv3_d234_e346_k357_w1.2"
    with pytest.raises(SpecError, match=r"w1\.0: it has conv:3-16"):
        spec_from_config(note10, 224, space="ofa_mbv3_d234_e346_k357_w1.0")


def test_unknown_family_is_refused(note10: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="family 'ResNets'; known are"):
        read_network_config(note10 | {"name": "ResNets"}, 224)


def changed(config: dict[str, Any], block: int, **fields: object) -> dict[str, Any]:
    copied = copy.deepcopy(config)
    copied["blocks"][block]["mobile_inverted_conv"].update(fields)
    return copied


def test_network_outside_the_choices_reads_but_has_no_spec(note10: dict[str, Any]) -> None:
    space = "ofa_mbv3_d234_e346_k357_w1.2"
    wide = changed(note10, 1, expand_ratio=5, mid_channels=120)
    assert read_network_config(wide, 224).ops[2].mid_channels == 120
    with pytest.raises(SpecError, match="none of its expansions 3, 4, 6"):
        spec_from_config(wide, 224, space=space)
    with pytest.raises(SpecError, match=r"kernel_sizes\[0\] is 9"):
        spec_from_config(changed(note10, 1, kernel_size=9), 224, space=space)
    with pytest.raises(SpecError, match="where the network has mbconv"):
        spec_from_config(changed(note10, 1, act_func="relu6"), 224, space=space)
    with pytest.raises(SpecError, match="where the network has mbconv"):
        spec_from_config(changed(note10, 0, kernel_size=5), 224, space=space)
    with pytest.raises(SpecError, match="epsilon"):
        spec_from_config(note10 | {"bn": {"eps": 1e-3}}, 224, space=space)


@pytest.mark.parametrize(
    ("block", "fields", "message"),
    [
        (1, {"in_channels": 16}, "other channels than it takes"),
        (1, {"kernel_size": "3"}, r"kernel_size of blocks\[1\] must be int, got '3'"),
        (1, {"act_func": "swish"}, "activation 'swish' is unknown"),
        (1, {"name": "DepthConvLayer"}, "only 'MBInvertedConvLayer' can be read"),
        (2, {"stride": 2}, "an identity shortcut needs stride 1"),
        (0, {"mid_channels": 8}, "expansion 1 and 8 middle channels"),
    ],
)
def test_damaged_blocks_are_refused(
    block: int, fields: dict[str, object], message: str, note10: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match=message):
        read_network_config(changed(note10, block, **fields), 224)


@pytest.mark.parametrize("key", ["first_conv", "blocks", "feature_mix_layer", "classifier", "bn"])
@pytest.mark.parametrize("value", [None, 3, [1], {"name": "Other"}], ids=repr)
def test_damaged_layers_are_refused(key: str, value: object, note10: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        read_network_config(note10 | {key: value}, 224)


def test_setting_that_would_be_lost_is_refused(note10: dict[str, Any]) -> None:
    note10["first_conv"]["groups"] = 2
    with pytest.raises(SpecError, match="groups of first_conv is 2; only 1 can be read"):
        read_network_config(note10, 224)


def test_resolution_must_come_from_somewhere(note10: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="pass resolution="):
        read_network_config(note10)
    path = tmp_path / "own.net.json"
    path.write_text(json.dumps(note10))
    with pytest.raises(SpecError, match=r"own\.run\.json"):
        read_network_config(path)
    assert read_network_config(path, 160).ops[0].resolution == 160
    path.write_text("{")
    with pytest.raises(SpecError, match="as JSON"):
        read_network_config(path, 160)
