"""The search through every interleaving comes to its end, and shows what is broken by the shortest way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from click.testing import CliRunner

from orderflow.core.messages import Envelope
from orderflow.core.service import Decision, Handler, Rows, Service
from orderflow.events.inventory import StockReserved
from orderflow.events.order import OrderPlaced
from orderflow.services.order.model import Order
from orderflow.services.payment.messages import ChargeUnknown
from orderflow.simulation.exhaustive.__main__ import main
from orderflow.simulation.exhaustive.search import Search, SearchResult
from orderflow.simulation.exhaustive.setting import NONE, RUNS, Bounds, Run, setting_of
from orderflow.simulation.exhaustive.space import Space
from orderflow.simulation.process import Code

Decide = Callable[[Rows, Envelope], Decision]


def searched(orders: int, bounds: Bounds, code: Code | None = None, states_max: int = 100_000) -> SearchResult:
    space = Space(setting_of(Run(orders, bounds, "")), code or Code())
    return Search(space, lambda *_: None, states_max).run()


def with_handler(service: str, event: type, wrong: Callable[[Decide], Decide]) -> Code:
    """The production code with another decision in one line of one table."""
    services = dict(Code().services)
    before: Service = services[service]
    handler = before.handlers[event]
    handlers = {**before.handlers, event: Handler(handler.touches, wrong(handler.decide), handler.trusts)}
    services[service] = replace(before, handlers=handlers)
    return Code(services)


def forgets_intents(decide: Decide) -> Decide:
    return lambda rows, envelope: msgspec.structs.replace(decide(rows, envelope), intents=())


def drops_what_is_early(decide: Decide) -> Decide:
    def decided(rows: Rows, envelope: Envelope) -> Decision:
        decision = decide(rows, envelope)
        is_early = any(isinstance(row, Order) and row.early is not None for row in decision.rows)
        return Decision() if is_early else decision

    return decided


@pytest.mark.parametrize(("orders", "bounds"), [(1, NONE._replace(overtakes=1, failures=1)), (2, NONE)])
def test_every_promise_is_kept_in_every_state(orders: int, bounds: Bounds) -> None:
    found = searched(orders, bounds)

    assert found.counterexample is None
    assert found.whole
    assert 0 < found.ended <= found.at_rest < found.states < found.transitions
    assert found.delivered_again > 0


def test_the_same_search_finds_the_same_states() -> None:
    bounds = NONE._replace(time_outs=1)

    first, second = searched(1, bounds), searched(1, bounds)

    assert first.counterexample is None
    assert msgspec.structs.replace(first, seconds=0.0) == msgspec.structs.replace(second, seconds=0.0)


def test_a_question_that_is_not_asked_again_is_shown_by_the_shortest_way() -> None:
    code = with_handler("payment", ChargeUnknown, forgets_intents)

    found = searched(1, NONE._replace(time_outs=1), code)

    assert found.counterexample is not None
    assert found.counterexample.steps == [
        "the shop asks for A: handled",
        "payment takes OrderPlaced of A: handled",
        "the bank is asked for the charge:A, agrees, and does not answer in time",
        "payment takes the bank's answer ChargeUnknown of A: handled",
    ]
    assert "the charge of A is not asked for: it is UNKNOWN" in found.counterexample.broken


def test_an_early_fact_that_is_dropped_leaves_an_order_without_an_end() -> None:
    found = searched(1, NONE, with_handler("order", StockReserved, drops_what_is_early))

    assert found.counterexample is not None
    assert any("StockReserved of A and PaymentSucceeded of A" in step for step in found.counterexample.steps)
    assert any("A ends as PAID" in sentence for sentence in found.counterexample.broken)


def test_an_edit_of_what_is_taken_on_trust_would_leave_an_order_without_an_end() -> None:
    services = dict(Code().services)
    handlers = services["payment"].handlers
    careless = replace(handlers[OrderPlaced], trusts=())
    services["payment"] = replace(services["payment"], handlers={**handlers, OrderPlaced: careless})

    found = searched(1, NONE._replace(failures=2), Code(services))

    assert found.counterexample is not None
    assert any("doubles the amounts in OrderPlaced of A" in step for step in found.counterexample.steps)


def test_a_search_that_is_too_large_says_so() -> None:
    found = searched(1, RUNS["faults"].bounds, states_max=50)

    assert (found.whole, found.counterexample) == (False, None)


def test_the_command_says_what_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Run(1, NONE._replace(time_outs=1), "the bank is late")
    monkeypatch.setattr("orderflow.simulation.exhaustive.__main__.RUNS", {"rivals": small})

    read = CliRunner().invoke(main, ["rivals"])
    told = json.loads(CliRunner().invoke(main, ["rivals", "--json"]).stdout)

    assert read.exit_code == 0
    assert f"  {told['found']['states']:,} states" in read.stdout
    assert "at most, in one history: 1 time-outs of the bank; all else" in read.stdout
    assert "every promise is kept in every state" in read.stdout
    assert (told["run"], told["bounds"]["time_outs"]) == ("rivals", 1)


@pytest.mark.parametrize(
    ("arguments", "told"), [(["nothing"], "'nothing' is not one of"), (["rivals", "--orders", "1"], "has 1 orders")]
)
def test_wrong_usage_says_what_is_wanted(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert told in done.output
