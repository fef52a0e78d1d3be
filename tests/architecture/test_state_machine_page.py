"""The diagrams in the docs are made from the tables that code and database go by."""

from __future__ import annotations

from orderflow.core.service import StateMachine
from orderflow.services.order.model import MACHINE as ORDERS
from tests.support.state_machine_page import PAGE, diagram, page


def test_the_page_is_the_one_that_the_tables_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.support.state_machine_page"


def test_another_table_makes_another_diagram() -> None:
    other = StateMachine(
        name="orders",
        initial=ORDERS.initial,
        created_by=ORDERS.created_by,
        transitions={**ORDERS.transitions, ("COMPLETED", "Regretted"): "FAILED"},
    )
    assert "COMPLETED --> FAILED: Regretted" in diagram(other)
    assert diagram(other) != diagram(ORDERS)
