"""How a package shows what others may import of it, at no cost before it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def front_door(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], Sequence[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) of a package each of whose names is loaded when it is first used.

    `homes` has the names by the module that they come from, with spaces between them. Hide the two from type
    checkers: they let a module with `__getattr__` have any name.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def load(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(home_of)
