"""The parser of benchmark_model on samples of all forms that its output had."""

import pytest

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.benchmark_output import parse_benchmark

FIRST = "count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442"
WARM_UP = "INFO: count=5 first=560123 curr=500456 min=500456 max=701234 avg=545880 std=74510"
SECOND = "INFO: count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442"
THIRD = (
    "INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 "
    "p5=1238753 median=1239807 p95=1247415"
)
TIMINGS = (
    "INFO: Inference timings in us: Init: 88367, First inference: 47679, "
    "Warmup (avg): 13016.3, Inference (avg): 11769"
)
REPLACED = (
    "VERBOSE: Replacing 2168 out of 2168 node(s) with delegate (TfLiteXNNPackDelegate) node, "
    "yielding 1 partitions"
)


@pytest.mark.parametrize(
    ("line", "average_us", "median_us"),
    [(FIRST, 249684, None), (SECOND, 249684, None), (THIRD, 1240270, 1239807)],
    ids=["first", "second", "third"],
)
def test_each_form_is_read(line: str, average_us: float, median_us: float | None) -> None:
    output = parse_benchmark(f"{WARM_UP}\n\n{line}\n", runs=50)
    assert output.inference.count == 50
    assert output.inference.average_us == average_us
    assert output.inference.median_us == median_us
    assert output.warm_up is not None
    assert output.warm_up.average_us == 545880


def test_a_full_log_is_read() -> None:
    first = ["STARTING!", "INFO: Log parameter values verbosely: [0]", REPLACED, WARM_UP]
    last = ["INFO: Running benchmark for at least 50 iterations", THIRD, TIMINGS]
    text = "\n".join([*first, *last, "INFO: Memory footprint delta from the start (MB): init=1"])
    output = parse_benchmark(text, runs=50)
    assert output.init_us == 88367
    assert output.delegated == (2168, 2168)


PART = (
    "INFO: Replacing 7 out of 11 node(s) with delegate (TfLiteGpuDelegateV2) node, "
    "yielding 3 partitions"
)
REST = (
    "INFO: Replacing 4 out of 6 node(s) with delegate (TfLiteXNNPackDelegate) node, "
    "yielding 3 partitions"
)
APPLIED = "INFO: Explicitly applied GPU delegate, and the model graph will be "
OLDER = "Applied GPU delegate, and the model graph will be "


@pytest.mark.parametrize(
    ("words", "delegated", "is_whole"),
    [
        (REPLACED, (2168, 2168), True),
        (PART, (7, 11), False),
        (f"{PART}\n{REST}", (7, 11), False),
        (f"{APPLIED}completely executed by the delegate.", None, True),
        (f"{APPLIED}partially executed by the delegate w/ 2 delegate kernels.", None, False),
        (f"{OLDER}completely executed w/ the delegate.", None, True),
        (f"{OLDER}partially executed w/ the delegate.", None, False),
        ("", None, None),
    ],
    ids=["all counted", "some counted", "some, and another's", "all", "some", "all, as said "
         "before", "some, as said before", "nothing said"],
)  # fmt: skip
def test_how_much_a_delegate_took_over_is_read(
    words: str, delegated: tuple[int, int] | None, is_whole: bool | None
) -> None:
    output = parse_benchmark(f"{words}\n{FIRST}")
    assert (output.delegated, output.is_whole) == (delegated, is_whole)


def test_one_line_is_no_warm_up() -> None:
    output = parse_benchmark(FIRST)
    assert output.warm_up is None
    assert output.init_us is None
    assert output.delegated is None


@pytest.mark.parametrize(
    ("line", "count"), [("count=1 curr=1234", 1), ("INFO: count=5 curr=1234(all same)", 5)]
)
def test_equal_times_stand_for_all_statistics(line: str, count: int) -> None:
    stats = parse_benchmark(line).inference
    assert (stats.count, stats.average_us, stats.min_us, stats.max_us) == (count, 1234, 1234, 1234)


REFUSED = {
    "an unknown flag": (
        "WARN: Unconsumed cmdline flags: --xnnpack_force_fp16=true\n" + FIRST,
        r"does not know the flags --xnnpack_force_fp16=true",
    ),
    "a delegate that is not applied": (
        "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by "
        "the delegate.\n" + FIRST,
        "GPU took over nothing",
    ),
    "another count": (FIRST.replace("count=50", "count=51"), "51 inferences in place of 50"),
    "no line": ("STARTING!\nERROR: Failed to load model", "ERROR: Failed to load model"),
    "nothing at all": ("", "said nothing"),
    "a line cut short": (FIRST[:40], "no measurement"),
    "an average outside its range": (FIRST.replace("avg=249684", "avg=149684"), "contradicts"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_measurement_is_refused_with_its_words(text: str, words: str) -> None:
    with pytest.raises(DeviceOutputError, match=words):
        parse_benchmark(text, runs=50)


def test_an_exit_code_is_refused_even_after_a_measurement() -> None:
    with pytest.raises(DeviceOutputError, match="exit code 3: ERROR: out of memory"):
        parse_benchmark(f"{FIRST}\nERROR: out of memory", exit_code=3)
