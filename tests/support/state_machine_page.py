"""The page docs/state-machine.md, made from the tables that code and database go by.

`python -m tests.support.state_machine_page` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orderflow.core.service import StateMachine
from orderflow.services.order.model import MACHINE as ORDERS
from orderflow.services.payment.model import MACHINE as PAYMENTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "state-machine.md"

HEAD = """# State machines

Made by `python -m tests.support.state_machine_page` from the tables in `services/order/model.py` and
`services/payment/model.py`; a test compares. The services' databases have the same tables (`state_transitions`):
a trigger refuses every other change of state with SQLSTATE `OF001`, and a service does not start if its table
differs from the database's.
"""

ORDER_NOTES = """Besides its state an order has a refund: `none`, `due` (paid, then out of stock), `refused`
(`RefundFailed`: the bank will not give the money back), `done` (`PaymentRefunded`), or `void` (`PaymentVoided`: the
money was never taken). These events change the refund but not the state, and each is a row of the order's history.
Events of different topics have no order between them: what inventory says may arrive before the payment's event. It
then waits on the order's row for its turn.
"""

PAYMENT_NOTES = """`UNKNOWN`: the bank did not answer in time, so the money may have moved. The bank is asked again
under the same idempotency key, with back-off, until it says what it did. An operator who has found out in another
way can end this with `orderflow payment settle`.

`REFUND_REFUSED`: the bank has said that it will never give the money back. It is not asked again. Until an operator
settles the refund, the service's health raises an alarm and the order shows the refund as refused.
"""


def diagram(machine: StateMachine) -> str:
    """The machine in Mermaid's state diagrams."""
    return "\n".join(_lines(machine))


def _lines(machine: StateMachine) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {machine.initial}: {machine.created_by}"
    for (before, event), after in machine.transitions.items():
        yield f"    {before} --> {after}: {event}"
    for state in machine.final_states():
        yield f"    {state} --> [*]"
    yield "```"


def page() -> str:
    """The whole page."""
    orders, payments = diagram(ORDERS), diagram(PAYMENTS)
    return f"{HEAD}\n## Orders\n\n{orders}\n\n{ORDER_NOTES}\n## Payments\n\n{payments}\n\n{PAYMENT_NOTES}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
