"""`ofa-hw search` and `ofa-hw specialize` take the same options and give the same network."""

import json
import re
import shlex
from pathlib import Path

import pytest

from ofa_hw import get_space, load_table
from ofa_hw.search import latency_range

TINY = get_space("tiny")


@pytest.fixture
def inputs(table_file: Path, predictor_file: Path) -> list[object]:
    return ["--space", "tiny", "--lut", table_file, "--predictor", predictor_file]


@pytest.fixture
def budget(table_file: Path) -> float:
    return sum(latency_range(TINY, load_table(table_file))) / 2


def test_search_and_specialize_find_the_same_network(run, inputs, budget: float) -> None:
    limits = ["--latency-ms", budget, "--restrict", "kernel_sizes=3,5", "--macs", "3e6"]
    limits += ["--restrict", "depths[1]=2", "--params", "2e5", "--seed", 4, "--json"]
    found = json.loads(run("search", *inputs, *limits)[1])
    shipped = json.loads(run("specialize", *inputs, *limits)[1])
    assert found["spec"] == shipped["spec"]
    assert found["costs"] == shipped["costs"]
    assert max(found["spec"]["kernel_sizes"]) <= 5
    assert found["spec"]["depths"][1] == 2
    assert shipped["macs"] <= 3e6
    assert shipped["params"] <= 2e5


def test_two_tables_take_two_budgets(run, inputs, table_file: Path, budget: float) -> None:
    both = [*inputs, "--lut", table_file, "--latency-ms", 9]
    found = json.loads(run("search", *both, "--latency-ms", budget, "--json")[1])
    assert found["costs"]["latency_ms_2"] <= budget
    code, _, err = run("search", *both)
    assert code == 1
    assert "2 latency tables need as many budgets, got 1" in err


def test_search_prints_the_network_and_its_costs(run, inputs, budget: float) -> None:
    code, out, _ = run("search", *inputs, "--latency-ms", budget, "--peak-bytes", "1e6")
    assert code == 0
    assert re.search(r"^latency +0\.\d+ ms$", out, re.MULTILINE)
    assert re.search(r"^peak bytes +[\d,]+$", out, re.MULTILINE)
    assert re.search(r"^kernel sizes +[357 -]+$", out, re.MULTILINE)


def test_a_front_is_plotted_on_a_page_whose_commands_lead_to_its_points(
    run, inputs, tmp_path: Path
) -> None:
    page = tmp_path / "made" / "front.html"
    arguments = ["search", *inputs, "--pareto", "--budgets", 5, "--page", page, "--json"]
    code, out, err = run(*arguments)
    assert code == 0, err
    front = json.loads(out)
    text = page.read_text()
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", text)
    data = json.loads(re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)[0])
    assert [p["spec"] for p in data["points"]] == [p["spec"] for p in front["points"]]
    table = load_table(inputs[3])
    for point in data["points"]:
        total = data["overhead_ms"] + sum(data["operators"][i][1] for i in point["blocks"])
        assert total == pytest.approx(point["latency_ms"], abs=1e-4)
    middle = data["points"][len(data["points"]) // 2]
    words = shlex.split(middle["command"])
    assert words[:2] == ["ofa-hw", "specialize"]
    found = json.loads(run(*words[1:], "--json")[1])
    assert found["predicted_latency_ms"] <= middle["latency_ms"] * (1 + 1e-5)
    assert found["predicted_top1"] >= middle["top1"] - 0.001
    code, _, err = run(*arguments)
    assert code == 1
    assert "--force" in err
    assert table.name in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--latency-ms"),
        (["--pareto", "--latency-ms", 1], 2, "--pareto"),
        (["--pareto", "--confidence", 0.9], 2, "--confidence"),
        (["--latency-ms", 1, "--restrict", "kernel_sizes"], 1, "kernel_sizes=3,5, got"),
        (["--latency-ms", 1, "--restrict", "kernels=3"], 1, "cannot restrict kernels"),
        (["--latency-ms", 1, "--confidence", 0.9], 1, "is not calibrated"),
        (["--latency-ms", 1, "--macs", 10], 1, r"macs can be at most 10 but is at least [\d.]+"),
    ],
    ids=["nothing", "both", "confidence", "no values", "no field", "uncalibrated", "macs"],
)
def test_bad_input_is_one_sentence(run, inputs, arguments, code: int, message: str) -> None:
    got, out, err = run("search", *inputs, *arguments)
    assert (got, out) == (code, "")
    assert re.search(message, err)
    assert "Traceback" not in err


def test_measured_candidates_are_listed_with_what_was_predicted(run, inputs) -> None:
    arguments = ["--latency-ms", 50, "--measure-top", 2, "--backend", "onnxruntime"]
    code, out, err = run("specialize", *inputs, *arguments, "--resolutions", 24)
    assert code == 0, err
    assert re.search(r"^measured latency +[\d.]+ ms$", out, re.MULTILINE)
    assert re.search(r"^shipped +[\d.]+% +[\d.]+ +[\d.]+ +[+-][\d.]+%", out, re.MULTILINE)
    code, out, _ = run("specialize", *inputs, *arguments, "--resolutions", 24, "--json")
    shipped = json.loads(out)
    assert shipped["measured_latency_ms"] == shipped["candidates"][0]["measured_latency_ms"]
    assert len(shipped["candidates"]) == 2


def test_a_backend_without_measure_top_is_bad_usage(run, inputs) -> None:
    code, _, err = run("specialize", *inputs, "--latency-ms", 1, "--backend", "onnxruntime")
    assert code == 2
    assert "--measure-top" in err


def test_the_help_of_search_has_an_example(run) -> None:
    code, out, _ = run("search", "--help")
    assert code == 0
    assert "Example: ofa-hw search" in " ".join(out.split())


def test_resolutions_between_those_measured_are_chosen_from_when_asked(
    run, tmp_path: Path, table_file: Path, predictor_file: Path
) -> None:
    """The table has 24 and 32 pixels, and the space 28 between them."""
    inputs = ["--space", "tiny", "--lut", table_file, "--predictor", predictor_file]
    between = [*inputs, "--latency-ms", 100, "--resolutions", 28, "--json"]
    code, _, err = run("search", *between)
    assert code == 1
    assert "no row" in err
    for command in ("search", "specialize"):
        code, out, err = run(command, *between, "--interpolate")
        assert code == 0, err
        assert json.loads(out)["spec"]["resolution"] == 28
    page = tmp_path / "front.html"
    front = ["search", *inputs, "--pareto", "--budgets", 3, "--interpolate", "--page", page]
    assert run(*front)[0] == 0
    assert "--interpolate --" in page.read_text()
