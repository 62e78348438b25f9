"""What the README and the pages of docs/ tell people to type, typed."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ofa_hw import load_table, profile
from ofa_hw.cli import app
from ofa_hw.profiling import SamplingPlan

ROOT = Path(__file__).parents[2]
PAGES = sorted(["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
BLOCK = re.compile(r"^```(\w+)(?: file=\S+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(ofa-hw [^`]+|python benchmarks/\w+\.py[^`]*)`")


@pytest.mark.slow
def test_a_space_of_ones_own_is_profiled_searched_trained_and_exported(
    run_page, tmp_path: Path
) -> None:
    out = run_page("docs/custom-space.md")
    assert float(out.split()[-1]) > 0.8
    assert {"my_cnn.onnx", "my_cnn.tflite", "my_cnn.jsonl"} <= {p.name for p in tmp_path.iterdir()}


def test_published_data_serves_as_documented(run_page, tmp_path: Path, shared_data: Path) -> None:
    out = run_page("docs/published-networks.md", environment={"DATA": str(shared_data)})
    assert int(out.split()[-1]) > 500_000_000
    assert (tmp_path / "note10-16ms.tflite").is_file()


@pytest.mark.slow
def test_searching_runs_as_documented(run_page, tmp_path: Path, shared_data: Path) -> None:
    out = run_page("docs/searching.md", environment={"DATA": str(shared_data)})
    assert "measured latency" in out
    assert "specialize" in (tmp_path / "front.html").read_text()


@pytest.mark.slow
def test_measuring_runs_as_documented(run_page, tmp_path: Path) -> None:
    """On a small space in place of the large one, and few networks."""
    small = {
        "--space ofa_mbv3_d234_e346_k357_w1.0 --backend": "--space tiny --resolutions 24 --backend",
        "--networks 30 ": "--networks 6 ",
    }
    run_page("docs/measuring.md", replaced=small)
    assert (tmp_path / "mine.html").read_text().startswith("<!DOCTYPE html>")
    assert load_table(tmp_path / "mine.jsonl").calibration is not None


@pytest.mark.slow
def test_a_backend_of_ones_own_is_installed_checked_and_used_as_documented(
    run_page, tmp_path: Path
) -> None:
    # Into a folder of the test's, not into the environment that it runs in.
    pip = f"{shlex.quote(sys.executable)} -m pip install --quiet --no-deps --no-build-isolation"
    (tmp_path / "site").mkdir()
    out = run_page(
        "docs/backends.md",
        replaced={"pip install .\n": f"{pip} --target site .\n"},
        environment={"PYTHONPATH": "site:."},
    )
    assert re.search(r"^dtype, threads, batch: +bf16, 1, 1$", out, re.MULTILINE)
    assert load_table(tmp_path / "half.jsonl").device.backend == "half"


@pytest.mark.slow
def test_exporting_runs_as_documented(run_page, tmp_path: Path) -> None:
    """On a network that was trained for a few seconds."""
    phase = 'name = "short"\nbatch_size = 50\n[[phase]]\nname = "full"\nepochs = 6\n'
    (tmp_path / "short.toml").write_text(phase + "learning_rate = 0.1\n")
    short = {"--recipe digits --labels 60": "--recipe short.toml --labels 20"}
    # A busy machine may break the promise itself.
    short |= {"ofa-hw verify digits.tflite": "ofa-hw verify digits.tflite --tolerance 9"}
    out = run_page("docs/exporting.md", replaced=short)
    agreement, told = out.splitlines()
    assert re.fullmatch(r"\d+\.\d% of 150 images, 1 partition", agreement)
    assert re.fullmatch(r"tiny int8 \d+\.\d+ tflite \('0', .* '9'\)", told)
    names = ("digits", "half", "any", "bytes", "eight")
    found = {path.name for path in tmp_path.iterdir() if path.stem in names}
    assert found == {
        *("digits.tflite", "digits.onnx", "half.tflite", "half.onnx", "half.pt2", "bytes.tflite"),
        *("any.onnx", "any.tflite", "any.pt2", "eight.onnx"),
    }


def test_tables_are_merged_and_compared_as_documented(
    run_page, tmp_path: Path, shared_data: Path
) -> None:
    quick = SamplingPlan(relative_ci=1.0, min_time_s=0.0, max_time_s=0.01)
    days = [tmp_path / "monday.jsonl", tmp_path / "tuesday.jsonl"]
    profile("tiny", backend="onnxruntime", output=days[0], resolutions=[24], plan=quick)
    days[1].write_text("".join(days[0].read_text().splitlines(keepends=True)[:-3]))
    out = run_page("docs/table-format.md", environment={"DATA": str(shared_data)})
    assert (tmp_path / "phone.jsonl").is_file()
    assert "second over first" in out


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_commands_is_run_by_a_test(page: str) -> None:
    kinds = {kind for kind, _ in BLOCK.findall((ROOT / page).read_text())}
    if kinds & {"sh", "bash", "python"}:
        assert page in pages_run()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists_with_its_options(page: str) -> None:
    """In the text, where commands are named but not to be typed as they stand, too."""
    found = list(commands_in((ROOT / page).read_text()))
    assert {command: wrong for command in found if (wrong := mistakes_in(command))} == {}


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("`ofa-hw lut show FILE`", []),
        ("```sh\nofa-hw search --pareto \\\n  --budgetz 8 | head\n```\n", ["--budgetz"]),
        ("`ofa-hw lut shaw FILE`", ["shaw"]),
        ("`python benchmarks/fidelity.py --spaces NAME`", ["--spaces"]),
        ("`python benchmarks/fidelities.py`", ["benchmarks/fidelities.py"]),
    ],
    ids=["right", "option", "command", "benchmark's option", "benchmark"],
)
def test_a_wrong_command_is_noticed(text: str, mistakes: list[str]) -> None:
    (command,) = commands_in(text)
    assert mistakes_in(command) == mistakes


def test_a_page_that_is_only_mentioned_is_not_taken_for_run() -> None:
    assert "docs/mentioned.md" not in pages_run()
    assert "docs/exporting.md" in pages_run()


def pages_run() -> set[str]:
    """The pages that tests give to `run_page`, as a string or by a constant of their module."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            ast.unparse(target): statement.value
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="run_page"), args=[page, *_]):
                    value = constants.get(ast.unparse(page), page)
                    found |= {str(value.value)} if isinstance(value, ast.Constant) else set()
    return found


def commands_in(text: str) -> Iterator[str]:
    """The commands of ofa-hw, and the benchmarks, of a page: in blocks, and named in the text."""
    for kind, block in BLOCK.findall(text):
        if kind in ("sh", "bash"):
            joined = block.replace("\\\n", " ")
            yield from re.findall(r"(?:ofa-hw |python benchmarks/\w+\.py)[^\n|;&]*", joined)
    for command in INLINE.findall(BLOCK.sub("", text)):
        yield " ".join(command.split())


def mistakes_in(command: str) -> list[str]:
    """The words of a command that there is no command, option or script for."""
    program, *words = shlex.split(command, comments=True)
    options = [word.partition("=")[0] for word in words if re.match("--?[a-z]", word)]
    if program == "python":
        script = ROOT / words[0]
        if not script.is_file():
            return words[:1]
        return [option for option in options if f'"{option}"' not in script.read_text()]
    app._add_commands()
    found: Any = get_command(app.app)
    for word in words:
        if hasattr(found, "commands"):
            if word not in found.commands and not word.startswith("-"):
                return [word]
            found = found.commands.get(word, found)
    known = {name for p in found.params for name in (*p.opts, *p.secondary_opts)}
    return [option for option in options if option not in known | {"--help", "-h"}]


@pytest.mark.slow
def test_a_folder_of_images_is_trained_on_labelled_and_fine_tuned_as_documented(
    run_page, tmp_path: Path
) -> None:
    recipe = 'name = "two"\nbatch_size = 60\n[[phase]]\nname = "all"\nepochs = 0.3\n'
    recipe += 'learning_rate = 0.05\nkernel_sizes = "all"\ndepths = "all"\nexpand_ratios = "all"\n'
    (tmp_path / "two.toml").write_text(recipe)
    fewer = {"--recipe quick": "--recipe two.toml", "epochs = 3": "epochs = 0.2"}
    fewer |= {"--labels 60": "--labels 50", "--epochs 5": "--epochs 1", "--count 100": "--count 50"}
    run_page("docs/train-your-own.md", replaced={**fewer, "epochs = 2": "epochs = 0.1"})
    names = {p.name for p in tmp_path.iterdir()}
    assert {"curves.html", "shapes.tflite", "predictor.npz", "gaussian.npz"} <= names
    assert "<th>all</th>" in (tmp_path / "curves.html").read_text()
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 51
    assert (tmp_path / "runs/two/supernet.pth").is_file()


@pytest.mark.slow
def test_a_network_of_ones_own_becomes_elastic_as_documented(run_page, tmp_path: Path) -> None:
    fewer = {"epochs = 2": "epochs = 0.3", "--labels 60": "--labels 50"}
    run_page("docs/own-network.md", replaced=fewer)
    assert (tmp_path / "my_net.tflite").is_file()
