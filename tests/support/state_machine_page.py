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
`services/payment/model.py`; a test compares. The same tables are in the services' databases
(`state_transitions`): a trigger refuses every other change of state with SQLSTATE `OF001`, and a service does not
start when its table and the database's differ.
"""

ORDER_NOTES = """Beside its state an order has a refund: `none`, `due` (paid, then out of stock), `refused`
(`RefundFailed`: the bank will not give the money back), `done` (`PaymentRefunded`), or `void` (`PaymentVoided`: it
was never taken). These events change that and no state, and each is a row of the order's history. What inventory says
before the payment is heard of (two topics have no order between them) waits on the order's row for its turn.
"""

PAYMENT_NOTES = """`UNKNOWN`: the bank did not answer in time, so the money may have moved. It is asked again under
the same idempotency key, with back-off, until it has said what it did, or until an operator has
(`orderflow payment settle`), who asked the bank in another way.

`REFUND_REFUSED`: the bank has said that it will not give the money back, now or later. It is not asked any more; the
service's health has an alarm, and the order shows the refund as refused, until an operator settles it.
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
