"""TCP ports of this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from typing import Final

from orderflow.local.errors import LocalError

_REASONS: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "is taken by another program",
    errno.EACCES: "may not be used by this user",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
}


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


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
