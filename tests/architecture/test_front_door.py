"""What the author of a service imports: all of it is there, it costs nothing, and it holds him to its types."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import orderflow
import orderflow.events
import orderflow.http
import orderflow.testing
from tests.architecture.sources import PACKAGE, PROJECT, python_files, short, tree

DECISIONS = """
from typing import ClassVar
from orderflow import Decision, Envelope, Event, Rows, handles
from orderflow import Descision  # refused
from orderflow.http import Replly  # refused

class Sent(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "test.Sent"

class Lost(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "test.Lost"
    why: str

@handles(Sent)
def fits(rows: Rows, event: Sent) -> Decision: ...

@handles(Sent, Lost)
def fits_both(rows: Rows, event: Sent | Lost, envelope: Envelope) -> Decision: ...

@handles(Lost)
def takes_more(rows: Rows, event: Event) -> Decision: ...

@handles(Sent)  # refused
def takes_another(rows: Rows, event: Lost) -> Decision: ...

@handles(Sent, Lost)  # refused
def takes_one_of_two(rows: Rows, event: Lost) -> Decision: ...

@handles(Sent)  # refused
def decides_nothing(rows: Rows, event: Sent) -> None: ...

@handles(Sent, touches=lambda event: [event.why])  # refused
def touches_another(rows: Rows, event: Sent) -> Decision: ...
"""


LAZY = (orderflow, orderflow.events, orderflow.http)
DOORS: tuple[ModuleType, ...] = (*LAZY, orderflow.testing)
"""With what the services and examples may import of the library."""

PAGE = PROJECT / "docs" / "library.md"
SAMPLE = PROJECT / "tests" / "support" / "sample" / "service.py"
OUTSIDE_WORLD = "orderflow.bank"
"""What the payment service asks is no part of the library."""


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_name_is_there_and_no_other(door: ModuleType) -> None:
    assert {name for name in door.__all__ if getattr(door, name, None) is None} == set()
    assert door is orderflow.testing or {*door.__all__} - {"__version__"} == {*dir(door)}
    with pytest.raises(AttributeError, match=f"module '{door.__name__}' has no attribute 'Inlet'"):
        door.Inlet  # noqa: B018


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_name_is_documented(door: ModuleType) -> None:
    section = PAGE.read_text("utf-8").partition(f"\n## `{door.__name__}`\n")[2].partition("\n## ")[0]
    names = re.findall(r"^\| (`.+?`) \| .+ \|$", section, re.MULTILINE)
    named = re.findall(r"`(\w+)`", ", ".join(names))
    bare = [
        name
        for name in door.__all__
        if isinstance(value := getattr(door, name), type | FunctionType) and not (value.__doc__ or "").strip()
    ]

    assert sorted(named) == sorted(door.__all__)
    assert bare == []


def test_services_and_examples_import_the_library_by_its_doors_alone() -> None:
    public = {door.__name__: {*door.__all__} for door in DOORS}
    found = [
        f"{short(path)}: {module}"
        for path in (*python_files("src/orderflow/services", "examples"), SAMPLE)
        for node in ast.walk(tree(path))
        for module, names in imports(node)
        if module.split(".")[0] == "orderflow"
        and not is_within(module, OUTSIDE_WORLD)
        and not (path.is_relative_to(PACKAGE) and is_within(module, own_package(path)))
        and not names <= public.get(module, set())
    ]

    assert found == []


def imports(node: ast.AST) -> list[tuple[str, set[str]]]:
    """Modules, and the names that are taken from each: of `import x`, "*"."""
    if isinstance(node, ast.Import):
        return [(each.name, {"*"}) for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "", {each.name for each in node.names})]
    return []


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def own_package(path: Path) -> str:
    return ".".join(path.parent.relative_to(PACKAGE.parent).parts)


@pytest.mark.parametrize("door", LAZY, ids=lambda door: door.__name__)
def test_to_import_it_loads_nothing_of_the_library(door: ModuleType) -> None:
    program = (
        f"import sys, {door.__name__}; "
        "print([name for name in sys.modules if name.startswith(('orderflow.', 'msgspec'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(re.findall(r"'([^']+)'", done.stdout)) - {door.__name__} == {"orderflow.front_door"}


def test_the_checker_of_types_refuses_a_decision_that_does_not_fit_its_message(tmp_path: Path) -> None:
    file = tmp_path / "decisions.py"
    file.write_text(DECISIONS, encoding="utf-8")
    options = ("--strict", "--no-error-summary", "--no-pretty", "--disable-error-code=empty-body")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(file)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    refused = {number for number, line in enumerate(DECISIONS.splitlines(), 1) if "# refused" in line}
    assert found == refused, done.stdout + done.stderr
