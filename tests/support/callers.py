"""Callers who may do everything: for tests of what is done, not of who may do it."""

from __future__ import annotations

from orderflow.core.access import Caller, Role


def person(name: str) -> Caller:
    return Caller(name, frozenset(Role))
