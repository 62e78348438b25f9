"""Weights of supernets in files: torch's and safetensors, both published naming generations."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ofa_hw.errors import CheckpointError

_NAMED_KEYS = 6


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by key, on the CPU; nothing in it is executed.

    Args:
        path: A safetensors file (by its suffix), or one of `torch.save` that holds a state dict,
            bare or under `state_dict`.

    Raises:
        CheckpointError: If the file cannot be read or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Torch warns of what it may not be able to read, and then says whether it was.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make an unpickler raise anything
        first = str(error).strip().split("\n")[0].split(". ")[0]
        reason = first if " " in first else f"{type(error).__name__} {first}".strip()
        raise CheckpointError(
            f"{path} cannot be read as weights ({reason}); it must be a state dict saved by "
            "torch.save or safetensors, whole and without other objects"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict but a {type(content).__name__}")
    return _tensors(content, str(path))


def save_checkpoint(network: nn.Module, path: str | Path) -> None:
    """Writes a network's state dict, replacing the file only when all is written.

    Args:
        network: A supernet or a plain network.
        path: `.safetensors` gives that format; anything else torch's, under `state_dict`.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    try:
        if path.suffix == ".safetensors":
            save_file({key: value.contiguous() for key, value in state.items()}, beside)
        else:
            torch.save({"state_dict": state}, beside)
        beside.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot write weights to {path}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def load_weights(
    network: nn.Module,
    weights: str | Path | Mapping[str, Tensor],
    *,
    identity_matrices: bool = False,
) -> None:
    """Copies weights into a network; it is unchanged if they do not fit.

    Args:
        network: A supernet.
        weights: A file or a state dict. `mobile_inverted_conv` may stand for `conv`, nested names
            such as `.bn.bn.` may be collapsed, `module.` may stand before every key.
        identity_matrices: Whether kernel transformation matrices may be missing and then start as
            identities.

    Raises:
        CheckpointError: If the file cannot be read, or keys are missing, surplus or of another
            shape; all are named, up to a limit.
    """
    if isinstance(weights, str | Path):
        name, given = str(weights), read_checkpoint(weights)
    else:
        nested = weights.get("state_dict")
        content: Mapping[str, object] = nested if isinstance(nested, Mapping) else weights
        name, given = "the state dict", _tensors(content, "the state dict")
    own = network.state_dict()
    chosen, problems = _match(own, given)
    missing = [key for key in own if key not in chosen]
    matrices = [key for key in missing if key.endswith("_matrix")]
    if identity_matrices:
        chosen |= {key: torch.eye(len(own[key])) for key in matrices}
        missing = [key for key in missing if key not in chosen]
    problems = _listed("missing", missing) + problems
    if problems:
        hint = "take the space whose supernet wrote it"
        if missing == matrices:
            hint = "identity_matrices=True starts the matrices as identities"
        raise CheckpointError(f"{name} does not fit the network: {'; '.join(problems)}; {hint}")
    network.load_state_dict(chosen)


def _match(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Finds a tensor for each key, and says which are surplus, doubled or of another shape."""
    keys = {_collapsed(key): key for key in own}
    chosen: dict[str, Tensor] = {}
    surplus, doubled, shapes = [], [], []
    for name, tensor in given.items():
        key = keys.get(_collapsed(name))
        if key is None:
            surplus.append(name)
        elif key in chosen:
            doubled.append(name)
        else:
            chosen[key] = tensor
            if tensor.shape != own[key].shape:
                shapes.append(f"{name} {tuple(tensor.shape)} for {tuple(own[key].shape)}")
    problems = _listed("surplus", surplus) + _listed("given twice", doubled)
    return chosen, problems + _listed("of another shape", shapes)


def _collapsed(key: str) -> str:
    """One name for a key in every generation of the published files."""
    key = key.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
    parts: list[str] = []
    for part in key.split("."):
        if not (parts and part == parts[-1] and part in ("conv", "bn", "linear")):
            parts.append(part)
    return ".".join(parts)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    if not names:
        return []
    more = f" and {len(names) - _NAMED_KEYS} more" if len(names) > _NAMED_KEYS else ""
    return [f"{len(names)} {what}: {', '.join(names[:_NAMED_KEYS])}{more}"]


def _tensors(content: Mapping[str, object], name: str) -> dict[str, Tensor]:
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if others := [str(key) for key in content if key not in tensors]:
        raise CheckpointError(
            f"{name} is no state dict: {'; '.join(_listed('entries without a tensor', others))}"
        )
    return tensors
