"""As whom PostgreSQL runs: it refuses to run as root."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from orderflow.local.child import Conditions
from orderflow.local.errors import LocalError

UNPRIVILEGED = 65534
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2


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
        f"{closed}; run as an ordinary user, or put the project and ORDERFLOW_HOME where all may read"
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
