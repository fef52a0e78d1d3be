"""`up` in the background: started, watched until it is ready, and left alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from orderflow.local import control, show, state
from orderflow.local.environment import settings_environment
from orderflow.local.errors import LocalError
from orderflow.local.fleet import UpOptions
from orderflow.local.home import Home
from orderflow.local.reporter import Reporter
from orderflow.settings import Settings

LOOK_EVERY_S = 0.05
STEP_SIGN = " ..."
_TIME = re.compile(r"^\S+ \S+ UTC ")
DETACHED_PROCESS = 0x8


def start_detached(settings: Settings, options: UpOptions, reporter: Reporter) -> None:
    """Run `orderflow up` without a terminal and return when it is ready. Raises LocalError."""
    home = Home.open(settings.home)
    if control.running(home) is not None:
        raise LocalError(f"Orderflow runs on {home.path} already: `orderflow status` shows it")
    log = home.logs / "up.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "orderflow", "up", "--in-background", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=settings_environment(settings, os.environ),
            start_new_session=True,
            creationflags=DETACHED_PROCESS if sys.platform == "win32" else 0,
        )
    reporter.step(f"Starting in the background, as process {process.pid}")
    _wait_until_ready(home, process, log, begin, reporter)


def _wait_until_ready(
    home: Home, process: subprocess.Popen[bytes], log: Path, begin: int, reporter: Reporter
) -> None:
    shown = ""
    while True:
        found = state.read(home.state)
        if found is not None and found.supervisor.pid == process.pid and found.phase == state.READY:
            show.ready(reporter, found.processes, str(home.path), found.carrier, detached=True)
            return
        said = _since(log, begin)
        if process.poll() is not None:
            raise LocalError(said[-1].removeprefix("Error: ") if said else "it ended without a word")
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
    flags = {"--kafka": options.own_broker, "--drain": options.drain, "--take-over-topics": options.take_over}
    return [*counts, *(flag for flag, given in flags.items() if given)]
