"""Start and end programs that are not ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orderflow.local.errors import LocalError

LAUNCHER = Path(__file__).with_name("launch.py")


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
    """Our environment without variables that would steer the child, in plain English messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, "LC_ALL": "C", "LANGUAGE": "C"}
