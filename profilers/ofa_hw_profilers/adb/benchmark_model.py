"""Google's benchmark_model behind the seam of runners: what phone users have.

It knows one network a call and tells averages only, so a visit is a call, and visits are long.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ofa_hw.errors import BackendUnavailableError, DeviceOutputError
from ofa_hw_profilers.adb.benchmark_output import BenchmarkOutput, parse_benchmark
from ofa_hw_profilers.adb.facts import parse_cpu_list
from ofa_hw_profilers.adb.process import Process
from ofa_hw_profilers.adb.runner import (
    NetworkRefusedError,
    RunnerDiedError,
    RunSettings,
    StoredNetwork,
    Visit,
    VisitRequest,
    delegation_remark,
    wrong_cores,
)
from ofa_hw_profilers.adb.transport import Transport
from ofa_hw_profilers.adb.workspace import Workspace

ON_DEVICE = "/data/local/tmp/benchmark_model"
_NEEDED_FLAGS = ("graph", "num_runs", "warmup_runs", "min_secs", "num_threads")
_HALF_FLAGS = {"xnnpack": "xnnpack_force_fp16", "nnapi": "nnapi_allow_fp16"}
_END = "@ofa-hw ended "
_LOAD_TIMEOUT_S = 120.0


def open_benchmark_model(
    transport: Transport, binary: str, settings: RunSettings
) -> BenchmarkModel:
    """The benchmark_model that the user names, or the one that lies on the device.

    Args:
        transport: To the device.
        binary: A file of this machine, or an absolute path on the device; `ON_DEVICE` if empty.
        settings: How it shall run networks.

    Raises:
        BackendUnavailableError: If it is in neither place.
    """
    if binary and Path(binary).is_file():
        return BenchmarkModel(Path(binary).read_bytes(), "", settings)
    path = binary or ON_DEVICE
    if not path.startswith("/") or not transport.stat(path).size:
        raise BackendUnavailableError(
            f"there is no benchmark_model {path}, neither here nor on device "
            f"{transport.serial!r}: name one with --benchmark-binary PATH"
        )
    return BenchmarkModel(b"", path, settings)


class BenchmarkModel:
    """benchmark_model (see `Runner`).

    Args:
        program: Its bytes; empty if it lies on the device.
        path: Where it lies on the device; empty if it is to be put there.
        settings: How it shall run networks.
    """

    name = "benchmark_model"
    visit_ns = 60_000_000
    reads_files = True

    def __init__(self, program: bytes, path: str, settings: RunSettings) -> None:
        self.version = "unknown"
        self.digests: dict[str, str] = {}
        self._program = program
        self._path = path
        self._settings = settings
        self._shell: Process | None = None
        self._files: dict[int, str] = {}

    def start(self, transport: Transport, workspace: Workspace) -> None:
        """Puts it on the device and asks for its flags (see `Runner`)."""
        self.stop()
        path = self._path or workspace.put(self.name, self._program, mode=0o755)
        self._command = f"{self._settings.taskset}{shlex.quote(path)}"
        digest = transport.shell(f"sha256sum {shlex.quote(path)}", 60).stdout[:12]
        self.version = f"{self.name}-{digest[:8]}"
        self.digests = {"runner_sha256": digest}
        usage = transport.shell(f"{self._command} --help 2>&1", 60)
        self._known = frozenset(re.findall(r"--(\w+)=", usage.stdout))
        if missing := [flag for flag in _NEEDED_FLAGS if flag not in self._known]:
            raise DeviceOutputError(
                f"{path} on device {transport.serial!r} has no flag --{missing[0]}: it is no "
                f"benchmark_model for it; it says: {usage.stdout.strip()[-300:] or 'nothing'}"
            )
        self._check_cores(transport)
        self._shell = transport.start(f"cd {workspace.folder} && exec sh -s 2>&1")

    def _check_cores(self, transport: Transport) -> None:
        """Whether what starts as the program does is held on the cores asked for."""
        question = f"{self._settings.taskset}grep Cpus_allowed_list /proc/self/status"
        answer = transport.shell(question, 30)
        cpus = parse_cpu_list(answer.stdout.partition(":")[2])
        if self._settings.cpus and cpus != self._settings.cpus:
            raise wrong_cores(transport.serial, cpus, self._settings.cpus, answer.stderr)

    def load(self, networks: Mapping[int, StoredNetwork]) -> dict[int, str]:
        """Runs each network once, to see that a delegate takes it over (see `Runner`)."""
        self._files.update({number: stored.path for number, stored in networks.items()})
        remarks = {number: self._try(number) for number in networks}
        return {number: remark for number, remark in remarks.items() if remark}

    def _try(self, number: int) -> str:
        """Runs a network once; returns how much of it the delegate took over unless all."""
        try:
            output = self._call(VisitRequest(number, 1, 1, _LOAD_TIMEOUT_S))
        except RunnerDiedError:
            raise
        except DeviceOutputError as error:
            raise NetworkRefusedError(str(error), number) from error
        delegate = self._settings.delegate
        if delegate == "none" and output.delegated:
            raise NetworkRefusedError(
                f"this benchmark_model applies a delegate of its own ({output.delegated[0]} nodes) "
                "though none was asked for",
                number,
            )
        if output.is_whole:
            return ""
        taken, nodes = output.delegated or (-1, -1)
        if output.is_whole is False and taken in (-1, nodes):
            return f"the delegate {delegate} took over a part of it"
        return delegation_remark(delegate, number, nodes, taken)

    def drop(self, networks: Sequence[int]) -> None:
        """Forgets networks, and removes their files (see `Runner`)."""
        files = [self._files.pop(number) for number in networks if number in self._files]
        self._send(f"rm -f {' '.join(files)}\n")

    def visit(self, requests: Sequence[VisitRequest]) -> Iterator[Visit]:
        """Makes visits in order (see `Runner`)."""
        for request in requests:
            output = self._call(request)
            stats, warm_up = output.inference, output.warm_up
            latency_us = stats.average_us if stats.median_us is None else stats.median_us
            spent_us = stats.average_us * stats.count
            warm_us = warm_up.average_us * warm_up.count if warm_up else 0.0
            yield Visit(
                latency_ns=latency_us * 1e3,
                runs_ns=(),
                spent_ns=spent_us * 1e3,
                all_ns=(spent_us + warm_us) * 1e3,
                cpu_ns=None,
            )

    def flags(self, request: VisitRequest) -> list[str]:
        """The flags of a call."""
        settings = self._settings
        flags: dict[str, object] = {
            "graph": self._files[request.network],
            "num_threads": settings.threads,
            "num_runs": request.runs,
            "warmup_runs": max(request.warm, 1),
            "min_secs": 0,  # it would raise num_runs until they take so long
            "warmup_min_secs": 0,
            "max_secs": round(request.timeout_s),
        }
        if settings.delegate == "xnnpack" or "use_xnnpack" in self._known:  # else it has none
            flags["use_xnnpack"] = str(settings.delegate == "xnnpack").lower()
        if settings.delegate in ("gpu", "nnapi"):
            flags[f"use_{settings.delegate}"] = "true"
        if settings.delegate == "gpu":
            flags["gpu_precision_loss_allowed"] = str(settings.half).lower()
        if settings.delegate == "nnapi" and "disable_nnapi_cpu" in self._known:
            flags["disable_nnapi_cpu"] = "true"  # its CPU would stand in for what it cannot do
        if settings.half and settings.delegate in _HALF_FLAGS:
            flags[_HALF_FLAGS[settings.delegate]] = "true"
        return [f"--{name}={value}" for name, value in flags.items()]

    def _call(self, request: VisitRequest) -> BenchmarkOutput:
        if self._shell is None:
            raise RunnerDiedError("benchmark_model has not been started")
        # Its stdin is this shell's script.
        flags = " ".join(self.flags(request))
        self._send(f'{self._command} {flags} </dev/null; c=$?; echo; echo "{_END}$c"\n')
        lines: list[str] = []
        while True:
            line = self._shell.read_line(request.timeout_s + 10)
            if line is None:
                raise RunnerDiedError(f"the device's shell ended: {' '.join(lines)[-300:]}")
            if line.startswith(_END):
                break
            lines.append(line)
        text, exit_code = "\n".join(lines), int(line.removeprefix(_END))
        if exit_code > 128:
            raise RunnerDiedError(f"benchmark_model was killed by signal {exit_code - 128}")
        return parse_benchmark(text, exit_code=exit_code, runs=request.runs)

    def _send(self, command: str) -> None:
        if self._shell is None:
            raise RunnerDiedError("benchmark_model has not been started")
        self._shell.write(command.encode(), 30)

    def stop(self) -> None:
        """Ends it (see `Runner`)."""
        if self._shell is not None:
            self._shell.close()
            self._shell = None
