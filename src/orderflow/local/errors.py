"""What goes wrong on a machine, said in one sentence."""

from __future__ import annotations


class LocalError(Exception):
    """Something on this machine is in the way. The message is one clear sentence for people."""
