"""What the rows of each service are in the database: the statements that are made from their declaration, and the
names that are stored, as a text that a person can read.

`python -m tests.unit.test_statements` writes it anew.
"""

from __future__ import annotations

from enum import EnumType
from pathlib import Path
from typing import get_type_hints

import pytest

from orderflow.core.postgres.tables import Table, tables_of
from orderflow.registry import SAGA, service_of

FOLDER = Path(__file__).parent / "statements"


def told(name: str) -> str:
    lines = []
    for table in tables_of(service_of(name).tables):
        if isinstance(table, Table):
            said = {"load": table.load, "insert": table.insert, "update": table.update}
            lines.append(f"-- {table.row_type.__name__}{', each version' if table.stepwise else ''}")
        else:
            said = {"append": table.append}
            lines.append(f"-- {table.fact_type.__name__}")
        lines += [f"{what}: {sql}" for what, sql in said.items()]
        lines += stored_names(table.row_type if isinstance(table, Table) else table.fact_type)
    return "\n".join(lines) + "\n"


def stored_names(struct: type) -> list[str]:
    """The values of each column that has a closed set of them."""
    enums = {name: hint for name, hint in get_type_hints(struct).items() if isinstance(hint, EnumType)}
    return [f"{name}: {', '.join(map(str, kind))}" for name, kind in enums.items()]


@pytest.mark.parametrize("name", SAGA)
def test_the_statements_of_a_service_are_these(name: str) -> None:
    assert told(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    for each in SAGA:
        (FOLDER / f"{each}.txt").write_text(told(each), encoding="utf-8")
