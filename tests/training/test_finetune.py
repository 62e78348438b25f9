"""Fine-tuning: its steps in parts, and a run that goes on where it was stopped."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ofa_hw.errors import SpecError
from ofa_hw.spaces import get_space
from ofa_hw.supernet import load_supernet
from ofa_hw.training import DigitsData, Execution, finetune
from ofa_hw.training.finetune import _step
from ofa_hw.training.folder import FolderData
from ofa_hw.training.recipe import Recipe, ShrinkingPhase
from ofa_hw.training.step import make_optimizer

torch.set_num_threads(1)
SPACE = get_space("tiny@classes=2")
SPEC = get_space("tiny").smallest(24)
RECIPE = Recipe("finetune", (ShrinkingPhase("finetune", 1, 0.1),), 40)


class StoppedError(Exception):
    """As by a kill: nothing is done after it."""


def tuned(
    images: Path, folder: Path | None, *, stop_after: int | None = None, rate: float = 0.1
) -> tuple[list[int], dict[str, torch.Tensor]]:
    """Ten steps, two epochs: the steps taken and the weights in the end."""
    taken: list[int] = []

    def progress(done: int, total: int) -> None:
        assert total == 10
        taken.append(done)
        if done == stop_after:
            raise StoppedError

    found = finetune(
        load_supernet(SPACE, seed=1).eval(),
        SPACE.smallest(24),
        FolderData(images, channels=1),
        epochs=2,
        rate=rate,
        batch_size=4,
        folder=folder,
        checkpoint_interval_s=0,
        progress=progress,
    )
    return taken, found.module.state_dict()


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(
    images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tuning"
    _, whole = tuned(images, None)
    for stop_after in (4, 9):
        with pytest.raises(StoppedError):
            tuned(images, folder, stop_after=stop_after)
    (folder / ".last.pt.1.part").write_bytes(b"torn")
    taken, weights = tuned(images, folder)
    assert taken == [10]
    assert all(torch.equal(whole[key], weights[key]) for key in whole)
    assert {path.name for path in folder.iterdir()} == {"run.json", "last.pt", "before.pt"}
    assert tuned(images, folder)[0] == []
    with pytest.raises(SpecError, match=r"learning_rate is 0\.1 there and 0\.2 here.*remove"):
        tuned(images, folder, rate=0.2)


@pytest.mark.parametrize("accumulate", [3, 40])
def test_a_batch_in_parts_steps_as_in_one(accumulate: int) -> None:
    images, labels = next(DigitsData().batches("train", 24, 40))
    sizes: list[int] = []

    def step(parts: int) -> tuple[float, nn.Module]:
        module = load_supernet("tiny", seed=1).extract(SPEC).requires_grad_(True)
        module.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
        optimizer = make_optimizer(module, RECIPE)
        for group in optimizer.param_groups:
            group["lr"] = 0.1
        execution = Execution(accumulate=parts)
        given = (module, optimizer, RECIPE, images, labels, execution, execution.scaler())
        return _step(*given), module  # its batch norms are frozen

    (loss, whole), (in_parts, parts) = step(1), step(accumulate)
    assert sizes[0] == 40
    assert max(sizes[1:]) == -(-40 // accumulate)
    assert in_parts == pytest.approx(loss, rel=1e-5)
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
