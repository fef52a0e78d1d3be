"""Become what the child must be, then become the child: `python -I -S launch.py CONDITIONS COMMAND…`.

A program of its own, so that nothing runs between fork and exec in a process with threads. Only the
standard library. CONDITIONS is a JSON object: `parent` (a pid; exit if it is gone), `death_signal` (sent by
Linux when the parent dies, prctl(2) PR_SET_PDEATHSIG), `uid` and `gid` to become, `capability` to keep
(capabilities(7), the ambient set), `environment` that the child has besides ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
FAILED = 126


class Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _checked(libc: ctypes.CDLL, what: str, result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _keep_across_setuid(libc: ctypes.CDLL) -> None:
    _checked(libc, "prctl(PR_SET_KEEPCAPS)", libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))


def _keep_across_exec(libc: ctypes.CDLL, capability: int) -> None:
    low = 1 << capability
    sets = (Sets * 2)(Sets(low, low, low), Sets(0, 0, 0))
    header = Header(CAPABILITY_VERSION_3, 0)
    _checked(libc, "capset", libc.capset(ctypes.byref(header), ctypes.byref(sets)))
    raised = libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)
    _checked(libc, "prctl(PR_CAP_AMBIENT)", raised)


def _become(conditions: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    capability = conditions.get("capability")
    if capability is not None:
        _keep_across_setuid(libc)
    if conditions.get("uid") is not None:
        os.setgroups([])
        os.setgid(conditions["gid"])
        os.setuid(conditions["uid"])
    if capability is not None:
        _keep_across_exec(libc, capability)
    if conditions.get("death_signal") is not None:
        # Linux forgets the death signal when the user changes, so it comes after that.
        _checked(libc, "prctl", libc.prctl(PR_SET_PDEATHSIG, conditions["death_signal"], 0, 0, 0))
        if os.getppid() != conditions["parent"]:
            raise OSError("the parent is gone")


def main(arguments: list[str]) -> int:
    try:
        conditions = json.loads(arguments[0])
        _become(conditions)
        os.environ.update(conditions.get("environment", {}))
        os.execv(arguments[1], arguments[1:])  # noqa: S606 - the command is our parent's
    except OSError as error:
        sys.stderr.write(f"cannot start {arguments[1]}: {error}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
