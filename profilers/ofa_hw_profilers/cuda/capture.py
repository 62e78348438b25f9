"""A CUDA graph of a module's forward."""

from __future__ import annotations

from typing import Final

import torch

_WARM_UPS: Final = 3  # before a capture, in which libraries must not set themselves up


class CapturedForward:
    """A module's forward as a CUDA graph, together with all memory that its replays use.

    A replay reads and writes the addresses that were in use when it was captured. Torch keeps what
    was allocated meanwhile; the weights and the input are older, and live only as long as somebody
    holds them.
    """

    def __init__(self, module: torch.nn.Module, example: torch.Tensor) -> None:
        """Captures it.

        Args:
            module: Whose forward; it is kept.
            example: An input; copied.
        """
        self._module, self._graph = module, torch.cuda.CUDAGraph()
        with torch.inference_mode():
            self._input = example.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    module(self._input)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph):
                self._output = module(self._input)

    def take(self, x: torch.Tensor) -> torch.Tensor:
        """Brings an input to the address that replays read."""
        self._input.copy_(x)
        return self._input

    def __call__(self, _: torch.Tensor) -> torch.Tensor:
        """Replays it on the input taken last; the next replay writes over what it gives."""
        self._graph.replay()
        output: torch.Tensor = self._output
        return output
