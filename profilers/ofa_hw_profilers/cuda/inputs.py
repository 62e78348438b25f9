"""Inputs and weights that no cache holds when their turn comes."""

from __future__ import annotations

from typing import Final

import torch

from ofa_hw.graph.ir import Shape

_CACHES: Final = 2  # how many times the cache the inputs fill, and the sweep
_ALIGNMENT: Final = 64  # elements; an input starts where an allocation could


class CacheSweep:
    """Takes whatever it holds out of a cache, by writing over more memory than it has.

    Rotated inputs alone would not do: a captured graph reads a copy, made a moment before, and the
    weights are the same each time.
    """

    def __init__(self, cache_bytes: int, *, device: str = "cuda") -> None:
        self._buffer = torch.empty(_CACHES * cache_bytes // 8, dtype=torch.int64, device=device)

    def __call__(self) -> None:
        """Begins to sweep; it ends before what is launched next does."""
        self._buffer.zero_()


class InputRing:
    """Inputs of any shape, each the next piece of one buffer that no cache holds whole."""

    def __init__(
        self,
        cache_bytes: int,
        dtype: torch.dtype,
        *,
        device: str = "cuda",
        channels_last: bool = False,
    ) -> None:
        """Fills the buffer.

        Args:
            cache_bytes: Size of the cache that a piece must have left before it comes again.
            dtype: Of the inputs.
            device: Where they are.
            channels_last: Whether to lay them out as (N, H, W, C).
        """
        self._least = _CACHES * cache_bytes // dtype.itemsize
        self._dtype, self._device, self._channels_last = dtype, device, channels_last
        self._buffer = self._random(self._least)
        self._place = 0

    def next(self, shape: Shape) -> torch.Tensor:
        """The next input, (N, C, H, W)."""
        n, c, h, w = shape
        count = n * c * h * w
        least = self._least + 3 * count  # so that no two in a row overlap, wherever they begin
        if len(self._buffer) < least:
            self._buffer = self._random(least)
        if self._place + count > len(self._buffer):
            self._place = 0
        piece = self._buffer[self._place : self._place + count]
        self._place += -(-count // _ALIGNMENT) * _ALIGNMENT
        if self._channels_last:
            return piece.view(n, h, w, c).permute(0, 3, 1, 2)
        return piece.view(shape)

    def _random(self, count: int) -> torch.Tensor:
        generator = torch.Generator(self._device).manual_seed(0)
        return torch.randn(count, generator=generator, device=self._device).to(self._dtype)
