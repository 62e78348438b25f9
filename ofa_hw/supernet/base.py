"""Supernet: the weights of every sub-network of a space in one torch module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ofa_hw.errors import SpecError
from ofa_hw.spaces import SearchSpace, SubnetSpec
from ofa_hw.supernet.blocks import ElasticBlock
from ofa_hw.supernet.layers import ElasticDepthwise
from ofa_hw.supernet.plain import build_network


class Supernet(nn.Module):
    """An elastic network: which sub-network runs is an argument of each call, and no state.

    Attributes:
        space: What sub-networks it has.
        norm_eps: Epsilon of every batch norm.
    """

    def __init__(self, space: SearchSpace, norm_eps: float) -> None:
        super().__init__()
        self.space = space
        self.norm_eps = norm_eps

    @abstractmethod
    def layers(self, spec: SubnetSpec) -> Iterator[nn.Module]:
        """The layers that run a sub-network: an `ElasticBlock` or a plain module an operator."""

    @abstractmethod
    def sort_channels(self, phase: int = 0) -> None:
        """Reorders the middle channels of every block, the most important first.

        A smaller expansion takes the first channels, so after sorting it takes the best. The
        function of the full network stays the same, and so does that of every sub-network already
        trained where blocks have no squeeze-excite. A squeeze-excite's own middle channels have no
        bands: they are sorted all together, as the authors do, so a trained smaller expansion takes
        others of them than before, and its outputs change a little.

        Args:
            phase: How many expansions below the largest are already trained. Their channel sets
                stay: channels are sorted inside each band between two of them.

        Raises:
            SpecError: If the space has not that many expansions.
        """

    def forward(self, x: Tensor, spec: SubnetSpec) -> Tensor:
        """Runs a sub-network.

        Args:
            x: Images, (B, C, H, W), H and W the resolution of `spec`.
            spec: A sub-network of this space.

        Returns:
            Logits, (B, classes).

        Raises:
            SpecError: If `spec` is none of this space's, or the images have another size than it
                says.
        """
        ops = self.space.ops(spec)
        if x.shape[1:] != (expected := ops[0].input_shape()[1:]):
            raise SpecError(
                f"images are {tuple(x.shape[1:])} and the sub-network takes {expected}; resize "
                f"them, or take a spec of resolution {x.shape[-1]}"
            )
        for layer, op in zip(self.layers(spec), ops, strict=True):
            x = layer(x, op) if isinstance(layer, ElasticBlock) else layer(x)
        return x

    @torch.no_grad()
    def extract(self, spec: SubnetSpec) -> nn.Sequential:
        """A sub-network as a plain module in eval mode, with weights of its own.

        Raises:
            SpecError: If `spec` is none of this space's.
        """
        ops = self.space.ops(spec)
        network = build_network(ops, norm_eps=self.norm_eps, device="meta")
        for layer, op, block in zip(self.layers(spec), ops, network, strict=True):
            views = layer.state(op) if isinstance(layer, ElasticBlock) else layer.state_dict()
            state = {key: view.detach().clone() for key, view in views.items()}
            block.load_state_dict(state, assign=True)
        return network.eval()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Starts anew: He-normal by outputs (https://arxiv.org/abs/1502.01852), identity kernels.

        Args:
            generator: Of the random numbers; torch's own by default.
        """
        for module in self.modules():
            match module:
                case nn.Conv2d():
                    fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
                    module.weight.normal_(0, (2 / fan_out) ** 0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                case nn.Linear():
                    module.weight.normal_(0, 0.01, generator=generator)
                    module.bias.zero_()
                case nn.BatchNorm2d():
                    module.reset_parameters()
                case ElasticDepthwise():
                    for matrix in module.matrices():
                        matrix.copy_(torch.eye(len(matrix)))
                case _:
                    pass
