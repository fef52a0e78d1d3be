"""Know one service, know them all: the same five files, each of one meaning, and one door to the library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from orderflow.registry import SAGA
from tests.architecture.sources import PACKAGE, python_files, short, tree

FILES = {"__init__.py", "messages.py", "model.py", "storage.py", "api.py", "service.py"}
SERVICES = sorted(path.parent for path in PACKAGE.rglob("service.py") if (path.parent / "model.py").is_file())
"""A package that has both decides something and runs."""

PURE = ("messages.py", "model.py")
IMPURE = {
    "asyncio",
    "asyncpg",
    "datetime",
    "logging",
    "os",
    "random",
    "time",
    "orderflow.bank",
    "orderflow.http",
    "orderflow.settings",
}
IMPURE_NAMES = {
    "Clock",
    "Commands",
    "Database",
    "Gateway",
    "ServiceContext",
    "Signals",
    "Surroundings",
    "load_queries",
}
"""What the front door has for the other files."""


@pytest.mark.parametrize("folder", SERVICES, ids=lambda folder: folder.name)
def test_every_service_has_the_same_files(folder: Path) -> None:
    assert {path.name for path in folder.glob("*.py")} == FILES
    assert (folder / "sql" / "queries.sql").is_file()
    assert (folder / "sql" / "migrations").is_dir()


def test_all_that_stands_among_the_services_is_one() -> None:
    assert {folder.name for folder in SERVICES} >= set(SAGA)
    assert {path.parent for path in python_files("src/orderflow/services")} == {*SERVICES, PACKAGE / "services"}


@pytest.mark.parametrize("folder", SERVICES, ids=lambda folder: folder.name)
def test_what_is_stored_knows_no_http(folder: Path) -> None:
    assert [name for name in imported(folder / "storage.py") if name.startswith("orderflow.http")] == []


@pytest.mark.parametrize("folder", SERVICES, ids=lambda folder: folder.name)
def test_what_decides_knows_no_clock_no_chance_no_database_and_no_http(folder: Path) -> None:
    found = [
        f"{short(folder / file)}: {name}"
        for file in PURE
        for name in imported(folder / file)
        if any(name == each or name.startswith(f"{each}.") for each in IMPURE)
        or name.removeprefix("orderflow.") in IMPURE_NAMES
    ]
    assert found == []


@pytest.mark.parametrize("folder", SERVICES, ids=lambda folder: folder.name)
def test_decisions_and_rows_stand_in_the_model_messages_in_messages_and_questions_in_storage(folder: Path) -> None:
    """And the service's declaration in `service.py`, under the name by which the registry finds it."""
    by_file = {path.name: set(imported(path)) for path in folder.glob("*.py")}
    homes = {
        "orderflow.handles": {"model.py"},
        "orderflow.Row": {"model.py"},
        "orderflow.Fact": {"model.py"},
        "orderflow.Command": {"messages.py"},
        "orderflow.load_queries": {"storage.py"},
        "orderflow.Service": {"service.py"},
    }
    astray = {
        name: files
        for name, home in homes.items()
        if not (files := {file for file, names in by_file.items() if name in names}) <= home
    }
    assert astray == {}
    assert "SERVICE" in {
        target.id
        for node in tree(folder / "service.py").body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_no_service_looks_whether_a_message_is_of_the_type_that_it_handles() -> None:
    """Handlers are typed by their message; the checker of types holds them to it."""
    looks = [
        f"{short(path)}:{node.lineno}"
        for folder in SERVICES
        for path in folder.glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and "isinstance" in ast.dump(node) and "message" in ast.dump(node)
    ]
    assert looks == []


OF_THE_SAGA = {
    "src/orderflow/audit/collect.py": "the business rows that the four keep of an order",
    "src/orderflow/audit/orders.py": "what these rows have to say",
    "src/orderflow/cli/__init__.py": "commands of these names",
    "src/orderflow/cli/demo.py": "an event that each makes fail in the demo",
    "src/orderflow/cli/order.py": "the consumers without which an order does not end",
    "src/orderflow/simulation/exhaustive/promises.py": "the saga as it is simulated",
    "src/orderflow/simulation/exhaustive/space.py": "the saga as it is simulated",
    "src/orderflow/simulation/troubles.py": "the saga as it is simulated",
}
"""Where some of the four are named together, and why a fifth has no place there."""


def test_no_list_of_the_services_stands_outside_of_the_registry() -> None:
    files = [path for path in python_files("src", "scripts") if path.name != "registry.py"]
    found = {short(path) for path in files if any(several(names) for names in listed(path))}
    assert found == OF_THE_SAGA.keys()


def test_no_statement_and_no_page_lists_the_services() -> None:
    files = [
        path for kind in ("sql", "html", "js") for path in PACKAGE.rglob(f"*.{kind}") if "vendored" not in path.parts
    ]
    assert files
    found = {
        short(path)
        for path in files
        for within in re.findall(r"[(\[{]([^()\[\]{}]*)[)\]}]", path.read_text(encoding="utf-8"))
        if several(re.findall(r"""['"](\w+)['"]""", within))
    }
    assert found == set()


def several(names: Iterable[str]) -> bool:
    return len(set(SAGA).intersection(names)) > 1


def listed(path: Path) -> Iterator[set[str]]:
    """The texts of each literal sequence or set, and the keys of each literal mapping."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            parts = node.keys if isinstance(node, ast.Dict) else node.elts
            yield {each.value for each in parts if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def imported(path: Path) -> Iterator[str]:
    """Modules, and of `from x import y` both `x` and `x.y`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{each.name}" for each in node.names)
