"""A run seen from outside: started in the background, stopped, and its home erased."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orderflow.local import state
from orderflow.local.errors import LocalError
from orderflow.local.home import HARMLESS, Home
from orderflow.local.postgres import clear_leftovers
from orderflow.local.processes import end_marked, hand_over
from orderflow.local.reporter import Reporter, tell_ready
from orderflow.local.state import settings_environment, settings_secrets
from orderflow.settings import Settings

if TYPE_CHECKING:
    from orderflow.local.supervisor import UpOptions

LOOK_EVERY_S = 0.05
STEP_SIGN = " ..."
_TIME = re.compile(r"^\S+ \S+ UTC ")
DETACHED_PROCESS = 0x8


def start_detached(settings: Settings, options: UpOptions, reporter: Reporter) -> None:
    """Run `orderflow up` without a terminal and return when it is ready. Raises LocalError."""
    home = Home.open(settings.home)
    if state.running(home) is not None:
        raise LocalError(f"Orderflow is already running on {home.path}: `{settings.command('status')}` shows it")
    log = home.logs / "up.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "orderflow", "up", "--in-background", "--secrets-pipe", *_arguments(options)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=settings_environment(settings, os.environ),
            start_new_session=True,
            creationflags=DETACHED_PROCESS if sys.platform == "win32" else 0,
        )
    hand_over(process, settings_secrets(settings), ends=True)
    reporter.step(f"Starting in the background, as process {process.pid}")
    _wait_until_ready(settings, process, log, begin, reporter)


def _wait_until_ready(
    settings: Settings, process: subprocess.Popen[bytes], log: Path, begin: int, reporter: Reporter
) -> None:
    home = Home(settings.home)
    shown = ""
    while True:
        found = state.read(home.state)
        if found is not None and found.supervisor.pid == process.pid and found.phase == state.READY:
            tell_ready(reporter, found.processes, settings, found.event_log, detached=True)
            return
        said = _since(log, begin)
        if process.poll() is not None:
            raise LocalError(said[-1].removeprefix("Error: ") if said else "it ended without an error message")
        if said and said[-1] != shown and said[-1].endswith(STEP_SIGN):
            shown = said[-1]
            reporter.step(shown.removesuffix(STEP_SIGN))
        time.sleep(LOOK_EVERY_S)


def _since(log: Path, begin: int) -> list[str]:
    """What it has said, without the times."""
    with log.open("rb") as file:
        file.seek(begin)
        return [_TIME.sub("", line) for line in file.read().decode(errors="replace").strip().splitlines()]


def _arguments(options: UpOptions) -> list[str]:
    """What is no setting; settings go through the environment."""
    counts = [f"--processes={name}={count}" for name, count in options.processes.items()]
    flags = {
        "--kafka": options.own_broker,
        "--secure": options.secure is True,
        "--no-secure": options.secure is False,
        "--drain": options.drain,
        "--take-over-topics": options.take_over,
    }
    return [*counts, *(flag for flag, given in flags.items() if given)]


def stop(home: Home, timeout_s: float) -> bool:
    """Ask the supervisor to stop everything and wait for it; says whether anything ran. Raises LocalError."""
    found = state.running(home)
    if found is None:
        return end_leftovers(home) > 0
    if sys.platform == "win32":
        (home.path / "stop.request").touch()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.supervisor.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while found.supervisor.runs or home.is_locked():
        if time.monotonic() > deadline:
            raise LocalError(f"it did not stop within {timeout_s:.0f} s; its log is {home.logs / 'up.log'}")
        time.sleep(LOOK_EVERY_S)
    return True


def end_leftovers(home: Home) -> int:
    """End what a killed supervisor left: services first, so that they drain; PostgreSQL ends itself then.

    Returns how many processes there were. Raises LocalError.
    """
    before = state.read(home.state)
    if before is None:
        return 0
    services = [process.mark for process in before.processes if process.kind in state.OF_OURS]
    brokers = [process.mark for process in before.processes if process.kind == "kafka"]
    return end_marked(services) + end_marked(brokers)


def require_erasable(settings: Settings) -> bool:
    """Whether there is a home. Raises LocalError when it is in use, or when the folder is something else."""
    home = Home(settings.home)
    if not home.path.exists() or all(entry.name in HARMLESS for entry in home.path.iterdir()):
        return False
    if not home.exists():
        raise LocalError(f"{home.path} is not a home of Orderflow; nothing was deleted")
    if home.is_locked():
        raise LocalError(f"Orderflow is running on {home.path}; stop it first: {settings.command('down')}")
    return True


def erase(home: Home) -> None:
    """Delete everything but what was there before us. Raises LocalError."""
    with home.lock():
        end_leftovers(home)
        clear_leftovers(home.path / "postgres" / "data")
        # The marker goes last: a half-deleted home is still known as one.
        entries = sorted(home.path.iterdir(), key=lambda entry: entry == home.marker)
        for entry in entries:
            if entry.name in HARMLESS or entry == home.lock_file:
                continue
            try:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            except OSError as error:
                raise LocalError(f"cannot delete {entry}: {error.strerror or error}") from error
    home.lock_file.unlink(missing_ok=True)
