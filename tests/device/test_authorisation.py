"""Keys: accepted earlier, accepted now, refused, and left unanswered; on a real adbd."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback.auth import AuthDevice
from loopback.packages import DeviceSetupError
from loopback.server import AdbServer

from ofa_hw.errors import DeviceUnauthorizedError
from ofa_hw_profilers.adb.connect import connect
from ofa_hw_profilers.adb.devices import list_devices
from ofa_hw_profilers.adb.links import load_keys

pytestmark = pytest.mark.adbd


@pytest.fixture
def make_auth_device() -> Iterator[Callable[..., AuthDevice]]:
    devices: list[AuthDevice] = []

    def make(*answers: str, authorised: str = "") -> AuthDevice:
        try:
            devices.append(AuthDevice(*answers, authorised=authorised))
        except DeviceSetupError as error:
            if os.environ.get("CI"):
                pytest.fail(str(error))
            pytest.skip(str(error))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


def public_key() -> str:
    path, _ = load_keys()
    return path.with_name("adbkey.pub").read_text() + "\n"


def test_a_key_that_was_accepted_earlier_is_enough(
    make_auth_device: Callable[..., AuthDevice],
) -> None:
    device = make_auth_device(authorised=public_key())
    transport = connect(device.serial)
    assert transport.shell("echo in").stdout == "in\n"
    assert device.prompts == []
    transport.close()


def test_the_user_is_asked_and_accepts(make_auth_device: Callable[..., AuthDevice]) -> None:
    device = make_auth_device("OK")
    transport = connect(device.serial, auth_timeout_s=10)
    assert transport.shell("echo in").stdout == "in\n"
    assert len(device.prompts) == 1
    assert device.prompts[0].split()[0] == public_key().split()[0]
    transport.close()


@pytest.mark.parametrize("answer", ["NO", ""], ids=["refused", "unanswered"])
def test_without_the_users_consent_the_sentence_says_what_to_do(
    make_auth_device: Callable[..., AuthDevice], answer: str
) -> None:
    device = make_auth_device(answer)
    with pytest.raises(DeviceUnauthorizedError, match="accept the prompt"):
        connect(device.serial, auth_timeout_s=1.5)


def test_keys_are_made_once_and_kept_private(tmp_path: Path) -> None:
    path, signers = load_keys(tmp_path / "keys")
    assert path.stat().st_mode & 0o077 == 0
    again, more = load_keys(tmp_path / "keys")
    assert again == path
    assert more[0].GetPublicKey() == signers[0].GetPublicKey()


def test_an_unauthorised_device_of_the_server_is_listed_with_its_remedy(
    make_auth_device: Callable[..., AuthDevice], adb_server: AdbServer
) -> None:
    device = make_auth_device()
    adb_server.adb("connect", device.serial)
    with pytest.raises(DeviceUnauthorizedError, match="accept the prompt"):
        connect(device.serial)
    (listed,) = list_devices()
    assert listed.state == "unauthorized"
    assert "accept the prompt" in listed.remedy
