"""What holds an order up is named; all the ways, on Kafka and with a full disk too, are `python -m tests.causes`."""

from __future__ import annotations

from tests.causes.healthy import busy
from tests.causes.injections import INJECTIONS
from tests.causes.stage import standing
from tests.causes.trial import tried
from tests.support.postgres import PostgresServer

CHEAP = (
    "order-stopped",
    "payment-stopped",
    "notification-stopped",
    "slots-taken",
    "log-away",
    "records-expired",
    "held",
    "consumer-hangs",
    "database-read-only",
    "row-locked",
)


async def test_what_holds_an_order_up_is_named_first_and_nothing_while_all_is_well() -> None:
    server = PostgresServer()
    try:
        server.start()
        async with standing(server) as stage:
            quiet = await busy(stage, orders=100)
            assert quiet.named == []
            verdicts = [await tried(stage, each) for each in INJECTIONS if each.name in CHEAP]
    finally:
        server.remove()

    assert [str(each) for each in verdicts if not each.is_right] == []
    assert len(verdicts) == len(CHEAP)
