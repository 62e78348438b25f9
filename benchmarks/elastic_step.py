"""Times the elastic training step and the extraction of a sub-network, on the CPU.

A step is forward, cross entropy, backward and SGD on random images. Each round draws a sub-network
and runs it in every variant, one right after the other in an order that rotates, so that what the
machine does besides meets all variants alike; what is judged are the ratios within a round.

    python benchmarks/elastic_step.py --threads 1 2 --rounds 12

On a machine that is busy otherwise, `--threads 1 --cpu-time` counts processor time instead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ofa_hw.spaces import SubnetSpec
from ofa_hw.supernet import Supernet, load_supernet

FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
VARIANTS = tuple(" ".join(pair) for pair in product(("elastic", "plain"), FORMATS))
RATIOS = (
    # what is asked, faster variant, slower variant
    ("elastic, channels_last over nchw", "elastic channels_last", "elastic nchw"),
    ("nchw, elastic over plain", "elastic nchw", "plain nchw"),
    ("channels_last, elastic over plain", "elastic channels_last", "plain channels_last"),
)


def sgd(parameters: list[nn.Parameter]) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=3e-5, foreach=True
    )


def stepper(
    forward: Callable[[torch.Tensor], torch.Tensor], optimiser: torch.optim.Optimizer
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(forward(images), labels).backward()
        optimiser.step()

    return step


def seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def benchmark(
    space: str, resolution: int, batch: int, rounds: int, seed: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each variant in each round, and of the extraction."""
    rng = np.random.default_rng(seed)
    nets: dict[str, Supernet] = {}
    optimisers = {}
    for name, memory_format in FORMATS.items():
        nets[name] = load_supernet(space).to(memory_format=memory_format)
        optimisers[name] = sgd(list(nets[name].parameters()))
    labels = torch.zeros(batch, dtype=torch.int64)
    times: dict[str, list[float]] = {variant: [] for variant in (*VARIANTS, "extraction")}
    for index in range(rounds):
        spec: SubnetSpec = nets["nchw"].space.sample(rng=rng, resolution=resolution)
        times["extraction"].append(seconds(lambda s=spec: nets["nchw"].extract(s), clock))
        for variant in VARIANTS[index % 4 :] + VARIANTS[: index % 4]:
            kind, name = variant.split()
            net = nets[name]
            images = torch.randn(batch, net.space.in_channels, resolution, resolution)
            images = images.to(memory_format=FORMATS[name])
            if kind == "elastic":
                step = stepper(lambda x, n=net, s=spec: n(x, s), optimisers[name])
            else:
                plain = net.extract(spec).train().to(memory_format=FORMATS[name])
                step = stepper(plain, sgd(list(plain.parameters())))
            step(images, labels)
            times[variant].append(seconds(lambda: step(images, labels), clock))  # noqa: B023
    return times


def summary(times: dict[str, list[float]], batch: int) -> dict[str, float]:
    result = {
        f"{variant}, images/s": batch / statistics.median(times[variant]) for variant in VARIANTS
    }
    for name, fast, slow in RATIOS:
        result[f"{name}, times"] = statistics.median(
            b / a for a, b in zip(times[fast], times[slow], strict=True)
        )
    result["extraction, ms"] = 1e3 * statistics.median(times["extraction"])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="ofa_mbv3_d234_e346_k357_w1.0")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds")
    parser.add_argument("--json", action="store_true", help="print JSON, seconds of every round")
    args = parser.parse_args()
    for threads in args.threads:
        torch.set_num_threads(threads)
        clock = time.process_time if args.cpu_time else time.perf_counter
        times = benchmark(args.space, args.resolution, args.batch, args.rounds, args.seed, clock)
        if args.json:
            print(json.dumps({"threads": threads, "torch": torch.__version__, "seconds": times}))
            continue
        print(f"{args.space}, {args.resolution} px, batch {args.batch}, {threads} thread(s)")
        for name, value in summary(times, args.batch).items():
            print(f"  {name:45} {value:8.2f}")


if __name__ == "__main__":
    main()
