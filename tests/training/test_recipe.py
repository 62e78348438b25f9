from pathlib import Path

import pytest

from ofa_hw.errors import SpecError
from ofa_hw.spaces import get_space
from ofa_hw.training.recipe import ALL, choices_of, get_recipe, parse_recipe, recipe_names

MINIMAL = """
name = "mine"
batch_size = 8
[[phase]]
name = "only"
epochs = 1
learning_rate = 0.1
depths = "all"
"""


def test_the_paper_opens_one_kind_of_choice_after_another() -> None:
    phases = get_recipe("paper").phases
    space = get_space("ofa_mbv3_d234_e346_k357_w1.0")
    opened = [choices_of(space, phase) for phase in phases]
    assert [o["kernel_sizes"] for o in opened] == [(7,)] + [(3, 5, 7)] * 5
    assert [o["depths"] for o in opened] == [(4,)] * 2 + [(3, 4)] + [(2, 3, 4)] * 3
    assert [o["expand_ratios"] for o in opened] == [(6,)] * 4 + [(4, 6), (3, 4, 6)]
    assert all(o["resolution"] == space.resolutions for o in opened)


def test_the_paper_schedule_is_the_published_one() -> None:
    phases = get_recipe("paper").phases
    assert [(p.epochs, p.warmup_epochs, p.learning_rate) for p in phases] == [
        (180, 0, 2.6),
        (120, 5, 0.96),
        (25, 0, 0.08),
        (120, 5, 0.24),
        (25, 0, 0.08),
        (120, 5, 0.24),
    ]
    assert [p.subnets_per_step for p in phases] == [1, 1, 2, 2, 4, 4]
    assert [p.sort_phase for p in phases] == [None] * 4 + [0, 1]


@pytest.mark.parametrize(("workers", "rate"), [(32, 2.6), (1, 0.08125), (64, 5.2)])
def test_the_paper_schedule_goes_with_the_number_of_workers(workers: int, rate: float) -> None:
    recipe = get_recipe("paper").scaled(workers)
    assert recipe.batch_size == 64 * workers
    assert recipe.phases[0].learning_rate == pytest.approx(rate)
    assert recipe.phases[1].learning_rate / rate == pytest.approx(0.96 / 2.6)
    assert [p.epochs for p in recipe.phases] == [180, 120, 25, 120, 25, 120]
    assert recipe.scaled(workers) == recipe
    assert get_recipe("quick").scaled(workers) == get_recipe("quick")  # says nothing of workers


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_begins_with_the_whole_network_and_ends_with_every_choice(name: str) -> None:
    phases = get_recipe(name).phases
    space = get_space("tiny")
    assert choices_of(space, phases[0])["depths"] == (3,)
    assert phases[-1].allowed(space) == space.allowed({})


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    recipe = get_recipe(path)
    assert recipe.name == "mine"
    assert recipe.phases[0].depths == ALL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("x = ", "is not TOML", id="no TOML"),
        pytest.param('name = "a"\nbatch_size = 8', r"no \[\[phase\]\]", id="no phase"),
        pytest.param(MINIMAL + "epoch = 3", "no field 'epoch'", id="unknown field"),
        pytest.param(MINIMAL.replace("batch_size = 8", ""), "lacks batch_size", id="missing field"),
        pytest.param(MINIMAL.replace("epochs = 1", 'epochs = "all"'), "got 'all'", id="a word"),
        pytest.param(
            MINIMAL.replace("epochs = 1", "epochs = true"), "got True", id="a truth value"
        ),
        pytest.param(MINIMAL.replace("epochs = 1", "epochs = -1"), "got -1", id="negative"),
        pytest.param(MINIMAL.replace("batch_size = 8", "batch_size = 0"), "got 0", id="no images"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_recipe(text, "mine.toml")


@pytest.mark.parametrize("name", ["papr", "missing.toml"])
def test_an_unknown_recipe_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(SpecError, match="digits, paper, quick"):
        get_recipe(name)
