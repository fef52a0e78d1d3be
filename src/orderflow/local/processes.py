"""Programs of this machine: started under conditions, known by process id and start time, ended in order."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import psutil

from orderflow.local.errors import LocalError
from orderflow.local.state import PREFIX, ProcessMark

TERM_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.02
LAUNCHER = Path(__file__).with_name("launch.py")
UNPRIVILEGED = 65534
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
_REASONS: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "is taken by another program",
    errno.EACCES: "may not be used by this user",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
}


def end_marked(marks: Iterable[ProcessMark], timeout_s: float = TERM_TIMEOUT_S) -> int:
    """End those that still run: asked first, killed after `timeout_s`. Returns how many there were.

    Raises LocalError when one outlives that.
    """
    running = {mark: process for mark in marks if (process := mark.find()) is not None}
    for process in running.values():
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for mark in still_running(running, timeout_s):
        with contextlib.suppress(psutil.Error):
            running[mark].kill()
    immortal = still_running(running, timeout_s)
    if immortal:
        pids = ", ".join(str(mark.pid) for mark in immortal)
        raise LocalError(f"processes from an earlier run do not stop: {pids}; stop them by hand")
    return len(running)


def still_running(marks: Iterable[ProcessMark], timeout_s: float) -> list[ProcessMark]:
    """Wait until all have ended, for `timeout_s` at most; who has not. A zombie has ended: it is its parent's."""
    deadline = time.monotonic() + timeout_s
    left = [mark for mark in marks if mark.runs]
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        left = [mark for mark in left if mark.runs]
    return left


def note_process(path: Path, pid: int) -> None:
    """Note a process of ours for `end_noted`. A process that is gone already is not noted."""
    with contextlib.suppress(psutil.NoSuchProcess):
        mark = ProcessMark.of(pid)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"pid": mark.pid, "started": mark.started}), encoding="ascii")
        fresh.replace(path)


def end_noted(path: Path) -> int:
    """End the process noted there, if it still runs; returns how many (0 or 1)."""
    try:
        noted = json.loads(path.read_text(encoding="ascii"))
        mark = ProcessMark(int(noted["pid"]), float(noted["started"]))
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    return end_marked([mark])


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which user and with which ties a child lives. See `launch.py`; the default is: as we do.

    `environment` is what the child alone gets to know besides, not what starts it.
    """

    uid: int | None = None
    gid: int | None = None
    capability: int | None = None
    death_signal: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command that meets these conditions first. Where the system has no such thing, itself."""
        death_signal = self.death_signal if sys.platform.startswith("linux") else None
        if self.uid is None and death_signal is None:
            return list(command)
        more = {"environment": dict(self.environment)} if self.environment else {}
        wanted = {
            "parent": os.getpid(),
            "uid": self.uid,
            "gid": self.gid,
            "capability": self.capability,
            "death_signal": death_signal,
            **more,
        }
        return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(wanted), *command]


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str],
    conditions: Conditions | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; what it says is appended to `log`.

    The death signal is bound to the thread that calls this: call it from the main thread.
    Raises LocalError when the program cannot be started.
    """
    wrapped = (conditions or Conditions()).wrap(command)
    try:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - commands are ours
                wrapped,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(environment),
                start_new_session=True,
            )
    except OSError as error:
        raise LocalError(f"cannot start {command[0]}: {error.strerror or error}") from error


def hand_over(process: subprocess.Popen[bytes], content: bytes, *, ends: bool = False) -> None:
    """Write to its standard input, which `ends` there or stays open.

    A process that has ended already hears nothing: whoever watches it tells why.
    """
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(content)
        process.stdin.flush()
        if ends:
            process.stdin.close()


class Server(ABC):
    """A program that serves until it is stopped. `start` is `prepare`, `spawn` and `wait_ready`; the supervisor calls
    them one by one. Each raises LocalError.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    start_timeout_s: ClassVar[float]

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def where(self) -> str:
        """Where it stands, for clients. After `spawn`."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what is missing, which takes a while the first time, and end what an earlier life left."""

    @abstractmethod
    def spawn(self) -> subprocess.Popen[bytes]:
        """Start its process, from the main thread."""

    @abstractmethod
    def stop(self) -> None:
        """In good order, with a limit of time. Idempotent."""

    @abstractmethod
    def _is_ready(self, process_id: int) -> bool: ...

    @abstractmethod
    def _why(self, said: str) -> str:
        """One sentence from what it said last."""

    def start(self) -> None:
        """Return when it serves."""
        self.prepare()
        self.spawn()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when it serves; also its end is an error."""
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise LocalError(f"{self.title} did not start: {self._why(self._said())}; its log is {self.log}")
            if self._is_ready(self.process.pid):
                return
            time.sleep(LOOK_EVERY_S)
        raise LocalError(f"{self.title} was not ready within {self.start_timeout_s:.0f} s; its log is {self.log}")

    def _launch(
        self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], conditions: Conditions
    ) -> subprocess.Popen[bytes]:
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.process = spawn(command, log=self.log, cwd=cwd, environment=environment, conditions=conditions)
        return self.process

    def _said(self) -> str:
        """What the log says of the present life."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                return file.read(1_000_000).decode(errors="replace")
        except OSError:
            return ""


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    conditions: Conditions | None = None,
    timeout_s: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; standard error is in `stdout`. Raises LocalError: time-out, no program."""
    wrapped = (conditions or Conditions()).wrap(command)
    try:
        return subprocess.run(  # noqa: S603 - commands are ours
            wrapped,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=cwd,
            env=dict(environment),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalError(f"{command[0]} did not end within {timeout_s:.0f} s") from error
    except OSError as error:
        raise LocalError(f"cannot start {command[0]}: {error.strerror or error}") from error


def end(process: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> int:
    """Send each signal and wait its seconds for the end; kill after the last. Returns the exit status."""
    for number, seconds in steps:
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
    if process.poll() is None:
        process.kill()
    return process.wait()


def tail(path: Path, limit: int = 4000) -> str:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def clean_environment(prefixes: tuple[str, ...]) -> dict[str, str]:
    """Our environment without variables that would steer the child, or tell it our secrets; in plain English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*prefixes, PREFIX))}
    return {**kept, "LC_ALL": "C", "LANGUAGE": "C"}


def conditions_for(folders: Iterable[Path], programs: Iterable[Path], death_signal: int) -> Conditions:
    """How to run a server that must reach `folders` and execute `programs`.

    An ordinary user runs it as itself. Root runs it as an unprivileged user; if that user cannot get to
    its files (say, below a closed /root), the child keeps one capability that lets it, rather than that
    we change the mode of a folder which is not ours. Raises LocalError when nothing of this is possible.
    """
    if os.name != "posix" or os.geteuid() != 0:
        return Conditions(death_signal=death_signal)
    closed = _first_closed(folders, programs)
    capability = None if closed is None else _capability_for(closed, programs)
    return Conditions(UNPRIVILEGED, UNPRIVILEGED, capability, death_signal)


def _first_closed(folders: Iterable[Path], programs: Iterable[Path]) -> Path | None:
    for path in (*folders, *programs):
        resolved = path.resolve()
        for step in (*reversed(resolved.parents), resolved):
            if not _may_pass(step):
                return step
    return None


def _may_pass(path: Path) -> bool:
    """May the unprivileged user search this folder, or read and execute this file? By its mode."""
    status = path.stat()
    if status.st_uid == UNPRIVILEGED:
        read, execute = stat.S_IRUSR, stat.S_IXUSR
    elif status.st_gid == UNPRIVILEGED:
        read, execute = stat.S_IRGRP, stat.S_IXGRP
    else:
        read, execute = stat.S_IROTH, stat.S_IXOTH
    wanted = execute if stat.S_ISDIR(status.st_mode) else read | execute
    return status.st_mode & wanted == wanted


def _capability_for(closed: Path, programs: Iterable[Path]) -> int:
    held = _held_capabilities()
    # CAP_DAC_READ_SEARCH passes folders and reads files; only CAP_DAC_OVERRIDE executes them.
    wanted = [CAP_DAC_READ_SEARCH] if all(_may_pass(program) for program in programs) else []
    for capability in (*wanted, CAP_DAC_OVERRIDE):
        if held & (1 << capability):
            return capability
    raise LocalError(
        f"PostgreSQL must not run as root, and the user it would run as (uid {UNPRIVILEGED}) cannot get past "
        f"{closed}; run as an ordinary user, or put the project and ORDERFLOW_HOME where everyone may read"
    )


def _held_capabilities() -> int:
    """Our permitted capabilities as a bit set (proc(5), CapPrm)."""
    if not sys.platform.startswith("linux"):
        return 0
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapPrm":
            return int(value, 16)
    return 0


PORTS = range(20_000, 32_000)
"""No system gives these to clients by itself: a port of one of them may be taken while its server is away."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment. Raises LocalError."""
    for port in random.SystemRandom().sample(PORTS, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    raise LocalError(f"no port of {host} from {PORTS[0]} to {PORTS[-1]} is free")


def is_free(port: int, host: str) -> bool:
    """Whether `port` can be listened on."""
    try:
        require_free(port, "", "", host)
    except LocalError:
        return False
    return True


def require_free(port: int, what: str, setting: str, host: str = "127.0.0.1") -> None:
    """Raises LocalError when `port` cannot be listened on; `setting` is what moves it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name == "posix":
            # As servers do it: connections of a former life that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
            raise LocalError(f"{what}: port {port} on {host} {reason}; set {setting} to another one") from error
