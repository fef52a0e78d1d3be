"""What a planted bug is, and how it is planted: in a process of its own, in what is read, never on disk."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import orderflow

SOURCE = Path(orderflow.__file__).parent
SIMULATION = "simulation"
PROMISES = {
    1: "nothing is lost",
    2: "nothing happens twice",
    3: "nothing illegal is stored",
    4: "nothing blocks its neighbours",
    5: "the books balance",
}


class NotPlantedError(Exception):
    """The text that the bug replaces is not there (once) any more: the code has moved on, and the bug must follow."""


@dataclass(frozen=True, slots=True)
class Bug:
    """In `file` (below `src/orderflow`), `right` is replaced by `wrong`.

    `breaks` is one sentence; `promise` is a key of PROMISES. `caught_by` is what pytest is to run where the simulator
    cannot see: the bug lies in code that it does not run, or breaks what no world can show.
    """

    name: str
    promise: int
    breaks: str
    file: str
    right: str
    wrong: str
    caught_by: str = ""

    @property
    def is_simulated(self) -> bool:
        """Whether the simulator is to catch it."""
        return not self.caught_by

    @property
    def layer(self) -> str:
        """Which layer of tests is to catch it."""
        return self.caught_by.split("/")[1] if self.caught_by else SIMULATION

    def planted(self) -> str:
        """The file's text with the bug. Raises NotPlantedError."""
        text = (SOURCE / self.file).read_text("utf-8")
        found = text.count(self.right)
        if found != 1:
            raise NotPlantedError(
                f"{self.name}: {self.file} has this text {found} times instead of once: {self.right}"
            )
        return text.replace(self.right, self.wrong)


def plant(bug: Bug) -> None:
    """From now on this process reads the file with the bug. Raises NotPlantedError.

    Call it before the module is imported; a child process knows nothing of it.
    """
    text = bug.planted()
    if bug.file.endswith(".sql"):
        _plant_text(SOURCE / bug.file, text)
        return
    plant_module(bug.file, text)


def plant_module(file: str, source: str | ast.Module) -> None:
    """From now on this process imports the file with this source. Raises NotPlantedError if it has it already."""
    name = ".".join(("orderflow", *Path(file).with_suffix("").parts))
    if name in sys.modules:
        raise NotPlantedError(f"{name} was imported before anything could be planted in it")
    sys.meta_path.insert(0, _Finder(name, source))


def _plant_text(path: Path, text: str) -> None:
    """SQL is data: whoever reads this file gets the text."""
    read = Path.read_text

    def read_text(self: Path, *args: str | None, **kwargs: str | None) -> str:
        return text if self == path else read(self, *args, **kwargs)

    Path.read_text = read_text  # type: ignore[method-assign]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, and gives it another source."""

    def __init__(self, name: str, source: str | ast.Module) -> None:
        self._name = name
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._source)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str | ast.Module) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Without the cache of compiled code, which knows only the file."""
        return compile(self._source, self.path, "exec", dont_inherit=True)
