"""Know one service, know four: the same files, and an extra one names what it is about."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.sources import PACKAGE, python_files, short, tree

SHAPE = {"__init__.py", "api.py", "model.py", "rows.py", "service.py", "store.py", "views.py"}
EXTRA = {
    "order": {"messages.py", "requests.py", "idempotency.py", "admission.py", "finishing.py", "upkeep.py"},
    "payment": {
        "alarms.py",
        "messages.py",
        "refunds.py",
        "restatement.py",
        "settlement.py",
        "gateway.py",
        "bank.py",
        "book.py",
        "bank_postgres.py",
    },
    "inventory": {"messages.py", "demo.py", "releasing.py"},
    "notification": set[str](),
}
PURE = {"model.py", "refunds.py", "releasing.py", "restatement.py", "rows.py", "settlement.py", "messages.py"}
FORBIDDEN = {
    "asyncio",
    "asyncpg",
    "datetime",
    "logging",
    "os",
    "random",
    "time",
    "orderflow.runtime",
    "orderflow.settings",
    "orderflow.messaging.stores",
    "orderflow.messaging.transports",
    "orderflow.messaging.clock",
}


@pytest.mark.parametrize("service", sorted(EXTRA))
def test_every_service_has_the_same_files(service: str) -> None:
    folder = PACKAGE / service
    assert {path.name for path in folder.glob("*.py")} == SHAPE | EXTRA[service]
    assert (folder / "sql" / "queries.sql").is_file()
    assert (folder / "sql" / "migrations").is_dir()


@pytest.mark.parametrize("service", sorted(EXTRA))
def test_what_decides_knows_no_clock_no_chance_no_database_and_no_http(service: str) -> None:
    found = [
        f"{short(path)}: {name}"
        for path in python_files(f"src/orderflow/{service}")
        if path.name in PURE
        for name in imported(tree(path))
        if any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN)
    ]
    assert found == []


@pytest.mark.parametrize("service", sorted(EXTRA))
def test_a_service_exports_its_table_and_its_definition(service: str) -> None:
    module = tree(PACKAGE / service / "service.py")
    assigned = {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    defined = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    assert "SERVICE" in assigned
    assert "definition" in defined


def imported(module: ast.Module) -> list[str]:
    found: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found
