"""What runs networks on a device: the seam behind which there are two programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.facts import cpu_mask

if TYPE_CHECKING:
    from ofa_hw_profilers.adb.transport import Transport
    from ofa_hw_profilers.adb.workspace import Workspace


class RunnerDiedError(DeviceOutputError):
    """The program on the device ended in the middle of its work."""


class NetworkRefusedError(DeviceOutputError):
    """The program on the device cannot run a network as asked; trying again does not help.

    Attributes:
        number: Of the network; None where the program does not say.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A network that lies on the device.

    Attributes:
        path: File with it.
        start: Where in the file its bytes start.
        size: How many there are.
    """

    path: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class VisitRequest:
    """One visit to a loaded network: some inferences in a row, the first ones untimed.

    Attributes:
        network: Its number.
        warm: Inferences before the timed ones.
        runs: Timed inferences.
        timeout_s: How long it may take at most.
    """

    network: int
    warm: int
    runs: int
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visit gave.

    Attributes:
        latency_ns: Median of its inferences.
        runs_ns: Nanoseconds of each; empty where the program tells only of all together.
        spent_ns: Of all timed inferences.
        all_ns: Of all inferences, the untimed ones too.
        cpu_ns: Processor time of the timed inferences; None if unknown.
    """

    latency_ns: float
    runs_ns: tuple[int, ...]
    spent_ns: float
    all_ns: float
    cpu_ns: float | None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a program shall run networks.

    Attributes:
        delegate: `xnnpack`, `none`, `gpu` or `nnapi`.
        half: Whether to compute in half precision.
        threads: Of the runtime.
        cpus: Cores it is held on; all if empty.
    """

    delegate: str = "xnnpack"
    half: bool = False
    threads: int = 1
    cpus: tuple[int, ...] = ()

    @property
    def taskset(self) -> str:
        """The command's beginning that holds it on its cores."""
        return f"taskset {cpu_mask(self.cpus)} " if self.cpus else ""


class Runner(Protocol):
    """A program on the device that runs networks.

    Attributes:
        name: Of the program.
        version: Of the runtime in it; known once it has been started.
        digests: What tells its files from other builds of them, by name; known then as well.
        visit_ns: Timed inference that a visit should hold.
        reads_files: Whether it needs a file for each network, as long as it is loaded.
    """

    name: str
    version: str
    digests: dict[str, str]
    visit_ns: int
    reads_files: bool

    def start(self, transport: Transport, workspace: Workspace) -> None:
        """Puts it on the device and starts it, whatever was before."""
        ...

    def load(self, networks: Mapping[int, StoredNetwork]) -> dict[int, str]:
        """Loads networks that lie on the device, by number.

        Returns:
            For each network that a delegate did not take over wholly, how much it did, by number.

        Raises:
            NetworkRefusedError: If one cannot be run, or the delegate took over none of it.
        """
        ...

    def drop(self, networks: Sequence[int]) -> None:
        """Forgets networks."""
        ...

    def visit(self, requests: Sequence[VisitRequest]) -> Iterator[Visit]:
        """Makes visits in order, and yields each as soon as it is made."""
        ...

    def stop(self) -> None:
        """Ends it; does no harm if the connection is broken."""
        ...


def wrong_cores(
    serial: str, cpus: Sequence[int], wanted: Sequence[int], words: str = ""
) -> DeviceOutputError:
    """The error for a program that is not held on the cores asked for."""
    said = f" ({words.strip()})" if words.strip() else ""
    return DeviceOutputError(
        f"device {serial!r} runs the program on cores {[*cpus]} though {[*wanted]} were asked "
        f"for{said}; another setting of cores may be allowed"
    )


def delegation_remark(
    delegate: str, number: int, nodes: int, delegated: int, left: Sequence[int] = ()
) -> str:
    """How much of a network a delegate took over; empty if it is all of it.

    Args:
        delegate: Its name.
        number: Of the network.
        nodes: In all.
        delegated: Those that the delegate took over.
        left: TFLite's codes of those that it left, where they are known.

    Raises:
        NetworkRefusedError: If it took over none.
    """
    if delegate == "none" or 0 < nodes == delegated:
        return ""
    names = ", ".join(dict.fromkeys(_operator_names().get(code, str(code)) for code in left))
    leaving = f", leaving {names}" if names else ""
    if delegated <= 0:
        raise NetworkRefusedError(
            f"the delegate {delegate} took over none of it{leaving}, and TFLite's own kernels "
            "would be measured; choose another with --set delegate=NAME",
            number,
        )
    return f"the delegate {delegate} took over {delegated} of {nodes} nodes{leaving}"


def _operator_names() -> dict[int, str]:
    """Names of TFLite's operators by code."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {code: name for name, code in vars(BuiltinOperator).items() if isinstance(code, int)}
