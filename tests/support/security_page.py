"""The table of docs/security.md, made from the operations that the services declare.

`python -m tests.support.security_page` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orderflow.core.access import Role
from orderflow.http.operation import Operation
from scripts.lint_api import SERVICES, operations_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN = "<!-- made by python -m tests.support.security_page -->"
END = "<!-- end of what is made -->"
ANYBODY, ANONYMOUS = "anybody", "no token, on loopback"
COLUMNS = (ANYBODY, ANONYMOUS, *Role)


class Cell(NamedTuple):
    """One operation of a service and who may carry it out, in the order of COLUMNS."""

    service: str
    operation: Operation
    allowed: tuple[bool, ...]

    @property
    def door(self) -> str:
        return "operators" if self.operation.is_for_operators else "public"

    @property
    def name(self) -> str:
        return f"{self.operation.method} {self.operation.path}"


def cells() -> Iterator[Cell]:
    """Every operation of every service; what all services have, once: of the order service."""
    seen: set[str] = set()
    for service in SERVICES:
        for operation in operations_of(service):
            needs = operation.needs
            allowed = (needs.everybody, needs.everybody or needs.anonymous, *(role in needs.roles for role in Role))
            cell = Cell(service.name, operation, allowed)
            if cell.name not in seen:
                seen.add(cell.name)
                yield cell


def table() -> str:
    """In Markdown."""
    own = {name: sum(name == cell.name for cell in _all()) for name in {cell.name for cell in _all()}}
    lines = [f"| operation | service | door | {' | '.join(COLUMNS)} |", "|---|---|---|" + ":-:|" * len(COLUMNS)]
    for cell in sorted(cells(), key=lambda each: (each.door == "operators", own[each.name] > 1)):
        service = "every" if own[cell.name] > 1 else cell.service
        marks = " | ".join("yes" if each else "" for each in cell.allowed)
        lines.append(f"| `{cell.name}` | {service} | {cell.door} | {marks} |")
    return "\n".join(lines)


def _all() -> Iterator[Cell]:
    for service in SERVICES:
        for operation in operations_of(service):
            yield Cell(service.name, operation, ())


def page(written: str) -> str:
    """The whole page, with the table as it is to be."""
    before, _, rest = written.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
