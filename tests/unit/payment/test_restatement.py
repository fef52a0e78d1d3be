"""What a payment's row stands for is what was published of it, on whatever way it came there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orderflow.core.failures import FinalError
from orderflow.core.messages import Event, Message
from orderflow.core.service import RefusedError, Rows, Statement
from orderflow.events.base import OrderEvent
from orderflow.services.payment.service import SERVICE
from tests.support.decisions import World, id_of
from tests.unit.payment.examples import (
    APPROVED,
    AS_CHARGED,
    AS_NOT_CHARGED,
    AS_REFUNDED,
    ASK_AGAIN,
    MESSAGES,
    NOT_GIVEN_BACK,
    ORDER_ID,
    PLACED,
    REJECTED,
    UNKNOWN,
    WAYS,
)

SETTLEMENTS = (AS_CHARGED, AS_NOT_CHARGED, AS_REFUNDED, ASK_AGAIN)
WALKS = st.lists(st.sampled_from([*MESSAGES, *SETTLEMENTS]), max_size=12)


def published(world: World, messages: list[Message]) -> tuple[list[Event], set[str]]:
    """The events of all that is taken of these messages, and the intents that are open in the end."""
    said: list[Event] = []
    asked: set[str] = set()
    for number, message in enumerate(messages):
        try:
            decision = world.take(message, id_of(str(number)))
        except (FinalError, RefusedError):
            continue
        said += decision.events
        asked -= {
            *decision.closes,
            *(f"{kind}:{ORDER_ID}" for kind in ("charge", "refund") if answers(message, kind)),
        }
        asked |= {intent.key for intent in decision.intents}
    return said, asked


def answers(message: Message, kind: str) -> bool:
    return message.TYPE.startswith(f"orderflow.{kind.title()}")


def stated(world: World) -> Statement:
    restatement = SERVICE.restatement
    assert restatement is not None
    touched = {ref: world.rows[ref] for ref in restatement.touches(str(ORDER_ID)) if ref in world.rows}
    return restatement.state(Rows(touched), str(ORDER_ID))


@given(WALKS)
def test_what_the_row_stands_for_is_what_was_published(walk: list[Message]) -> None:
    world = World(SERVICE)
    said, asked = published(world, [PLACED, *walk])
    statement = stated(world)
    found = [(number or len(said), event) for event, number in statement.events]
    assert found == [(number, said[number - 1]) for number, _ in found]
    once = [event for event in said if isinstance(event, OrderEvent) and event.ONCE]
    assert [event for event in once if event not in [each for _, each in found]] == []
    assert {intent.key for intent in statement.intents} == asked


def test_a_refund_that_was_refused_again_is_the_last_that_was_said() -> None:
    world = World(SERVICE)
    said, _ = published(world, [PLACED, APPROVED, REJECTED, NOT_GIVEN_BACK, ASK_AGAIN, NOT_GIVEN_BACK])
    [first, last] = stated(world).events
    assert (first.event, first.number, last.event, last.number) == (said[0], 1, said[-1], 0)
    assert len(said) == 3


def test_what_an_operator_took_back_was_said_to_be_paid_before() -> None:
    for begun in ([PLACED], [PLACED, UNKNOWN]):
        world = World(SERVICE)
        said, _ = published(world, [*begun, AS_CHARGED, REJECTED, AS_NOT_CHARGED])
        assert [(each.event, each.number) for each in stated(world).events] == [(said[0], 1), (said[1], 0)]


def test_every_way_of_a_payment_has_its_statement() -> None:
    for status, way in WAYS.items():
        world = World(SERVICE)
        said, asked = published(world, list(way))
        assert [each.event for each in stated(world).events] == said, status
        assert {intent.key for intent in stated(world).intents} == asked, status


def test_nothing_is_said_of_an_order_that_nobody_placed_or_a_key_that_names_none() -> None:
    restatement = SERVICE.restatement
    assert restatement is not None
    for key in (str(ORDER_ID), "stock/TEA", str(ORDER_ID).upper()):
        assert restatement.state(Rows({}), key) == Statement()
    assert list(restatement.touches("stock/TEA")) == []
