"""Labels sub-networks on a cluster of `dask.distributed`.

Its workers need ofa_hw with torch, and the images at the same paths. A task whose worker dies is
given to another one, and a result is told as soon as it is there, in whatever order.
"""

from __future__ import annotations

import logging
import pickle
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from ofa_hw.errors import CheckpointError, OfaHwError, SpecError
from ofa_hw.spaces import SubnetSpec
from ofa_hw.training.labeller import Labeller, Measured

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_TIMEOUT_S: Final = 10
_NO_WORKERS_TIMEOUT_S: Final = 60.0


def label_on_cluster(
    labeller: Labeller,
    specs: list[SubnetSpec],
    scheduler: str,
    *,
    no_workers_timeout_s: float = _NO_WORKERS_TIMEOUT_S,
) -> Iterator[Measured]:
    """Measures sub-networks on the workers of a scheduler; results come as they are found.

    Args:
        labeller: Sent to every worker once.
        specs: The sub-networks.
        scheduler: Its address, as `tcp://10.0.0.5:8786`.
        no_workers_timeout_s: For so long the scheduler may be without a worker.

    Raises:
        SpecError: If no scheduler answers, or a worker refuses, as one without the images does.
        CheckpointError: If there are no workers, the scheduler is lost, or a sub-network kills each
            worker that it is given to.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise SpecError(
            f"--scheduler takes dask.distributed ({error}): pip install 'ofa-hw[dask]'"
        ) from error
    with ExitStack() as stack:
        # The weights travel in the graph, so that they outlive whichever worker holds them.
        threshold = {"distributed.admin.large-graph-warning-threshold": "1GiB"}
        stack.enter_context(dask.config.set(threshold))
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(
                distributed.Client(scheduler, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
            )
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise SpecError(
                f"no scheduler answers at {scheduler!r} ({reason}); start one with dask scheduler, "
                f"and workers with dask worker {scheduler}"
            ) from error
        yield from _results(client, scheduler, labeller, specs, no_workers_timeout_s)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back the tracebacks of a lost connection, which is told in one sentence."""
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _results(
    client: Client,
    scheduler: str,
    labeller: Labeller,
    specs: list[SubnetSpec],
    no_workers_timeout_s: float,
) -> Iterator[Measured]:
    there = client.submit(_open, pickle.dumps(labeller), pure=False)
    done: SimpleQueue[Future[Measured]] = SimpleQueue()
    waiting = {
        client.submit(_measure, there, index, spec, pure=False) for index, spec in enumerate(specs)
    }
    for future in waiting:
        future.add_done_callback(done.put)
    while waiting:
        try:
            future = done.get(timeout=no_workers_timeout_s)
        except Empty:
            if not client.nthreads():
                raise CheckpointError(
                    f"the scheduler {scheduler} has had no worker for "
                    f"{no_workers_timeout_s:.0f} s; start some with dask worker, and run the same "
                    "command again to go on"
                ) from None
            continue
        waiting.remove(future)
        yield _result(future)


def _result(future: Future[Measured]) -> Measured:
    try:
        measured: Measured = future.result()
    except OfaHwError:
        raise
    except BaseException as error:  # a lost scheduler cancels, which is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        raise CheckpointError(
            f"the cluster did not measure a sub-network ({type(error).__name__}: "
            f"{str(error).strip()[:300]}); what is measured is kept: run the same command again to "
            "go on"
        ) from error
    return measured


def _open(sent: bytes) -> Labeller:
    labeller: Labeller = pickle.loads(sent)
    missing = labeller.missing_files()
    if missing:
        raise SpecError(
            f"a worker on {platform.node()} lacks {len(missing)} of the images, as {missing[0]}; "
            "workers read them from the same paths as this command"
        )
    return labeller


def _measure(labeller: Labeller, index: int, spec: SubnetSpec) -> Measured:
    return labeller.measure(index, spec)
