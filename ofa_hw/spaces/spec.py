"""SubnetSpec: one sub-network of a search space, in canonical form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Self

from ofa_hw.errors import SpecError


@dataclass(frozen=True, slots=True)
class SubnetSpec:
    """One sub-network of a space.

    Lists are full length, one entry a block the supernet has; the entries of blocks that the
    depths skip are 0, so that specs of equal networks are equal and hash equal. Make one with
    `SearchSpace.spec`, which sees to that.

    Attributes:
        space: Name of the space it belongs to.
        resolution: Height and width of the input image.
        depths: Depth of each unit (for ResNet: of the stem, then of each stage, over its base).
        kernel_sizes: Kernel size of each elastic block.
        expand_ratios: Expansion of each elastic block.
        width_indices: Index into the width multipliers of each stage, where widths are elastic.
    """

    space: str
    resolution: int
    depths: tuple[int, ...] = ()
    kernel_sizes: tuple[int, ...] = ()
    expand_ratios: tuple[float, ...] = ()
    width_indices: tuple[int, ...] = ()

    def to_json(self) -> str:
        """One line of JSON, which `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            SpecError: If `text` is not JSON of these fields. Whether the space contains the
                sub-network is for `SearchSpace.require` to say.
        """
        try:
            data = json.loads(text)
            space, resolution = data.pop("space"), data.pop("resolution")
            lists = {key: tuple(value) for key, value in data.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpecError(
                f"not the JSON of a sub-network ({error!r}): {text[:80]!r}; it looks like "
                '{"space": "tiny", "resolution": 32, "depths": [...], ...}'
            ) from error
        if unknown := sorted(lists.keys() - {f.name for f in fields(cls)}):
            raise SpecError(f"a sub-network has no field {', '.join(unknown)}")
        return cls(space, resolution, **lists)
