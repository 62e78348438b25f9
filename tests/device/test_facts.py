"""What devices say of themselves, read without a device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_hw.errors import ProfilerError
from ofa_hw_profilers.adb.facts import cpu_mask, parse_cpu_list, parse_facts
from ofa_hw_profilers.adb.state import Snapshot, parse_snapshot
from ofa_hw_profilers.adb.throttle import ThrottleGuard

PHONE = """manufacturer=Google
model=Pixel 8
soc_maker=Google
soc=Tensor G3
platform=zuma
android=14
sdk=34
abi=arm64-v8a
build=google/shiba/shiba:14
kernel=5.15.110-android14
machine=aarch64
libc=android
memory=MemTotal:        7738652 kB
board=
cpu 0 1704000 0 1 2 3
cpu 1 1704000 0 1 2 3
cpu 2 1704000 0 1 2 3
cpu 3 1704000 0 1 2 3
cpu 4 2367000 4 5 6 7
cpu 5 2367000 4 5 6 7
cpu 6 2367000 4 5 6 7
cpu 7 2367000 4 5 6 7
cpu 8 2914000 8
"""
BOARD = """manufacturer=
model=
soc_maker=
soc=
platform=
android=
sdk=
abi=
build=
kernel=6.6.31
machine=aarch64
memory=MemTotal:        3884392 kB
board=Raspberry Pi 4 Model B Rev 1.4\0
cpu 0 0 0
cpu 1 0 1
"""


def test_a_phone_is_described() -> None:
    facts = parse_facts(PHONE)
    assert (facts.name, facts.soc, facts.abi, facts.cores) == (
        "Google Pixel 8",
        "Google Tensor G3",
        "arm64-v8a",
        9,
    )
    assert facts.details["clusters"] == "4x1704MHz 4x2367MHz 1x2914MHz"
    assert facts.details["memory_mib"] == "7557"
    assert facts.details["libc"] == "android"


def test_a_board_without_properties_is_described_by_what_it_has() -> None:
    facts = parse_facts(BOARD)
    assert facts.name == "Raspberry Pi 4 Model B Rev 1.4"
    assert facts.abi == "arm64-v8a"
    assert facts.details["android"] == "unknown"
    assert facts.details["clusters"] == "1xunknownMHz 1xunknownMHz"
    assert facts.details["libc"] == "linux"


def test_a_serial_number_tells_units_apart_and_is_not_kept() -> None:
    first, second = parse_facts(PHONE + "serial=\nserial=A\n"), parse_facts(PHONE + "serial=B\n")
    assert len({first.unit, second.unit, "unknown"}) == 3
    assert first.unit == parse_facts("serial=C\nserial=A\n").unit
    assert "A" not in first.details.values()
    assert parse_facts(PHONE + "serial=\n").unit == "unknown"


@pytest.mark.parametrize(
    ("wanted", "cores"),
    [
        ("any", ()),
        ("big", (4, 5, 6, 7, 8)),
        ("little", (0, 1, 2, 3)),
        ("8", (8,)),
        ("4-6,0", (0, 4, 5, 6)),
    ],
)
def test_cores_are_picked_by_cluster_or_number(wanted: str, cores: tuple[int, ...]) -> None:
    assert parse_facts(PHONE).pick_cores(wanted) == cores


@pytest.mark.parametrize("wanted", ["9", "0-12", "huge", "", "-1"])
def test_cores_that_do_not_exist_are_refused(wanted: str) -> None:
    with pytest.raises(ProfilerError, match="cores cannot be"):
        parse_facts(PHONE).pick_cores(wanted)


def test_big_cores_of_unknown_speed_are_refused() -> None:
    with pytest.raises(ProfilerError, match="no big and little"):
        parse_facts(BOARD).pick_cores("big")


@given(st.sets(st.integers(0, 63), min_size=1))
def test_a_list_of_cores_and_its_mask_agree(cores: set[int]) -> None:
    listed = parse_cpu_list(",".join(map(str, sorted(cores))))
    assert set(listed) == cores
    assert int(cpu_mask(listed), 16).bit_count() == len(cores)


STATE = """Thermal Status: 1
 Temperature{mValue=31.5, mType=3, mName=skin, mStatus=0}
  USB powered: true
  level: 87
  temperature: 284
mWakefulness=Asleep
freq /sys/devices/system/cpu/cpu0 1704000 1328000 sched_pixel
freq /sys/devices/system/cpu/cpu8 2914000 500000 sched_pixel
zone cpu-thermal 41000
zone battery 28400
zone broken -274000
load 1.52 1.40 1.31 2/4321 999
"""


def test_a_state_is_read() -> None:
    state = parse_snapshot(STATE)
    assert state.thermal_status == 1
    assert state.max_khz == {0: 1704000, 8: 2914000}
    assert state.current_khz == {0: 1328000, 8: 500000}
    assert dict(state.details) == {
        "thermal_status": "1",
        "battery_percent": "87",
        "battery_celsius": "28.4",
        "power": "USB",
        "screen": "Asleep",
        "governor": "sched_pixel",
        "hottest_zone": "41.0 C cpu-thermal",
        "load": "1.52",
    }


def test_what_a_device_does_not_tell_is_unknown_and_never_zero() -> None:
    state = parse_snapshot("freq /sys/devices/system/cpu/cpu[0-9]*   \nzone  \nload \n")
    assert state.thermal_status is None
    assert state.max_khz == {}
    assert set(state.details.values()) == {"unknown"}
    assert state.throttled_since(state) == ""


def test_a_core_that_may_no_longer_run_fast_is_throttled() -> None:
    start = Snapshot(max_khz={0: 1_800_000, 4: 2_400_000})
    assert start.throttled_since(start) == ""
    later = Snapshot(max_khz={0: 1_800_000, 4: 1_200_000})
    assert later.throttled_since(start) == "core 4 limited to 1200 of 2400 MHz"
    assert start.throttled_since(later) == ""


class FakeDevice:
    """States that a device is in, one after another, and a clock."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.slept_s: list[float] = []
        self.now_s = 0.0

    def snapshot(self) -> Snapshot:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return Snapshot(thermal_status=status)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def guard(self) -> ThrottleGuard:
        return ThrottleGuard(
            self.snapshot, interval_s=0, sleep=self.sleep, clock=lambda: self.now_s
        )


def test_a_cool_device_is_measured_at_once() -> None:
    device = FakeDevice(0)
    guard = device.guard()
    assert all(guard.accepts([100.0] * 8) for _ in range(10))
    assert device.slept_s == []
    assert guard.note == ""


def test_a_hot_device_cools_down_twice_is_marked_and_recovers() -> None:
    device = FakeDevice(0, 2, 2, 2, 2, 2, 0)
    guard = device.guard()
    assert [guard.accepts([100.0]) for _ in range(3)] == [False, False, True]
    assert device.slept_s == [90.0, 90.0]
    assert "thermal status 2 (moderate)" in guard.note
    assert guard.accepts([100.0])
    assert guard.note == ""
    device.statuses = [3, 0]
    assert not guard.accepts([100.0])
    assert guard.accepts([100.0])
    assert len(device.slept_s) == 3


def test_a_block_that_is_a_tenth_slower_than_the_best_is_throttled() -> None:
    device = FakeDevice(0)
    guard = device.guard()
    assert guard.accepts([100.0] * 8)
    assert guard.accepts([109.0] * 8)
    assert not guard.accepts([112.0] * 8)
    assert guard.accepts([101.0] * 8)


def test_short_rounds_add_up_to_a_block() -> None:
    guard = FakeDevice(0).guard()
    assert guard.accepts([100.0] * 8)
    assert [guard.accepts([150.0] * 2) for _ in range(4)] == [True, True, True, False]


def test_a_device_that_stays_slow_in_short_rounds_cools_down_twice_and_is_marked() -> None:
    device = FakeDevice(0)
    guard = device.guard()
    assert guard.accepts([100.0] * 8)
    notes = [guard.note for _ in range(60) if guard.accepts([130.0] * 3)]
    assert device.slept_s == [90.0, 90.0]
    assert notes[:2] == ["", ""]  # no full block yet
    assert set(notes[2:]) == {"throttled: the sentinel took 1.30 times its best"}
    assert len(notes) == 58
    kept = [(guard.accepts([101.0] * 3), guard.note) for _ in range(6)]
    assert kept[-1] == (True, "")
    assert [guard.accepts([130.0] * 3) for _ in range(6)].count(False) >= 1


def test_heat_within_a_long_round_counts_though_it_is_over_at_its_end() -> None:
    device = FakeDevice(0)
    guard = device.guard()
    device.statuses = [2, 0]
    guard.watch()  # too soon: it has just been looked at
    assert device.statuses == [2, 0]
    device.now_s += 11
    guard.watch()
    assert not guard.accepts([100.0])
    assert device.slept_s == [90.0]
    assert guard.accepts([100.0])
    assert guard.note == ""


def test_without_a_cool_down_the_row_is_marked_at_once() -> None:
    device = FakeDevice(1)
    guard = ThrottleGuard(device.snapshot, cool_down_s=0, sleep=device.sleep)
    assert guard.accepts([100.0])
    assert guard.note == "throttled: thermal status 1 (light)"
