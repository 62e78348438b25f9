"""The project's own program on a device (runner/ofa_runner.c), behind the seam of runners."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ofa_hw.errors import DeviceOutputError
from ofa_hw_profilers.adb.facts import short_sha256
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

_START_TIMEOUT_S = 60.0
_LOAD_TIMEOUT_S = 120.0
_MOST_WAITING = 256  # requests sent ahead: more could fill the pipe of a busy device


class OfaRunner:
    """ofa-runner: one process serves a whole batch (see `Runner`).

    Args:
        program: Its bytes, built for the device.
        libraries: TFLite's shared libraries by file name, the one to open first.
        settings: How it shall run networks.
    """

    name = "ofa-runner"
    visit_ns = 3_000_000
    reads_files = False

    def __init__(
        self, program: bytes, libraries: Mapping[str, bytes], settings: RunSettings
    ) -> None:
        self.version = "unknown"
        self.digests = {
            "runner_sha256": short_sha256(program),
            "library_sha256": short_sha256(b"".join(libraries.values())),
        }
        self._program = program
        self._libraries = dict(libraries)
        self._settings = settings
        self._process: Process | None = None

    def start(self, transport: Transport, workspace: Workspace) -> None:
        """Puts it on the device and starts it (see `Runner`)."""
        self.stop()
        program = workspace.put(self.name, self._program, mode=0o755)
        paths = [workspace.put(name, data) for name, data in self._libraries.items()]
        delegate = self._settings.delegate + ("-fp16" if self._settings.half else "")
        self._process = transport.start(
            f"cd {workspace.folder} && LD_LIBRARY_PATH={workspace.folder} exec "
            f"{self._settings.taskset}{program} {shlex.quote(paths[0])} {delegate} "
            f"{self._settings.threads}"
        )
        ready = self._answer("ready", _START_TIMEOUT_S)
        self.version = str(ready["tflite"])
        wanted, cpus = self._settings.cpus, tuple(ready["cpus"])
        if wanted and cpus != wanted:
            raise wrong_cores(transport.serial, cpus, wanted)

    def load(self, networks: Mapping[int, StoredNetwork]) -> dict[int, str]:
        """Loads networks that lie on the device (see `Runner`)."""
        commands = [f"load {n} {at.start} {at.size} {at.path}\n" for n, at in networks.items()]
        with self._in_step():
            self._send("".join(commands))
            remarks = {number: self._read_load(number) for number in networks}
        return {number: remark for number, remark in remarks.items() if remark}

    def _read_load(self, number: int) -> str:
        answer = self._answer("loaded", _LOAD_TIMEOUT_S)
        if self._settings.delegate == "none" and "Created TensorFlow Lite" in answer["log"]:
            raise NetworkRefusedError(
                "the TFLite library applies a delegate of its own though none was asked for: "
                + answer["log"].strip(),
                number,
            )
        return delegation_remark(
            self._settings.delegate, number, answer["nodes"], answer["delegated"], answer["left"]
        )

    def drop(self, networks: Sequence[int]) -> None:
        """Forgets networks (see `Runner`)."""
        with self._in_step():
            self._send("".join(f"drop {number}\n" for number in networks))
            for _ in networks:
                self._answer("dropped", _LOAD_TIMEOUT_S)

    def visit(self, requests: Sequence[VisitRequest]) -> Iterator[Visit]:
        """Makes visits in order (see `Runner`)."""
        sent = 0
        with self._in_step():
            for done, request in enumerate(requests):
                if sent == done:
                    ahead = requests[sent : sent + _MOST_WAITING]
                    self._send("".join(f"visit {r.network} {r.warm} {r.runs}\n" for r in ahead))
                    sent += len(ahead)
                yield self._read_visit(request)

    def _read_visit(self, request: VisitRequest) -> Visit:
        answer = self._answer("visit", request.timeout_s)
        runs_ns = answer["ns"]
        if answer["visit"] != request.network or len(runs_ns) != request.runs:
            raise DeviceOutputError(
                f"ofa-runner answered {len(runs_ns)} runs of network {answer['visit']} to a "
                f"request of {request.runs} of network {request.network}"
            )
        ordered = sorted(runs_ns)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2
        return Visit(
            latency_ns=float(median),
            runs_ns=tuple(runs_ns),
            spent_ns=float(sum(runs_ns)),
            all_ns=float(answer["all_ns"]),
            cpu_ns=float(answer["cpu_ns"]),
        )

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Ends the program if not all its answers are read: they would be taken for later ones."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _send(self, commands: str) -> None:
        if self._process is None:
            raise RunnerDiedError("ofa-runner has not been started")
        self._process.write(commands.encode(), 30)

    def _answer(self, kind: str, timeout_s: float) -> dict[str, Any]:
        """The next line of its output, which must be of a kind.

        Raises:
            RunnerDiedError: If it has ended.
            NetworkRefusedError: If it reports an error.
            DeviceOutputError: If the line is not what it should be.
        """
        if self._process is None:
            raise RunnerDiedError("ofa-runner has not been started")
        line = self._process.read_line(timeout_s)
        if line is None:
            code, words = self._process.exit_code, self._process.stderr.strip()
            raise RunnerDiedError(f"ofa-runner ended with exit code {code}: {words or 'no words'}")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise DeviceOutputError(f"ofa-runner wrote {line[:200]!r}, which is no JSON") from error
        if not isinstance(answer, dict) or kind not in answer:
            if isinstance(answer, dict) and "error" in answer:
                raise NetworkRefusedError(
                    f"ofa-runner: {str(answer['error']).strip()}", answer.get("id")
                )
            raise DeviceOutputError(f"ofa-runner wrote {line[:200]!r} in place of {kind!r}")
        return answer

    def stop(self) -> None:
        """Ends it (see `Runner`)."""
        if self._process is not None:
            self._process.close()
            self._process = None
