"""What is simulated is the production code: this is all that is put in the place of something real."""

from __future__ import annotations

import inspect
import random
import sys
from types import ModuleType
from unittest import mock

from orderflow.bank import BankBook, SimulatedBank
from orderflow.core.engine import Engine
from orderflow.core.store import Store
from orderflow.core.testing.store import MemoryStore
from orderflow.core.timing import Clock
from orderflow.core.transport import Transport
from orderflow.services.inventory import service as inventory
from orderflow.services.notification import service as notification
from orderflow.services.order import service as order
from orderflow.services.payment import service as payment
from orderflow.services.payment.service import BankGateway
from orderflow.simulation import process
from orderflow.simulation.log import TroubledTransport
from orderflow.simulation.loop import VirtualClock
from orderflow.simulation.process import SUBSTITUTES, Code, TroubledBook
from orderflow.simulation.run import run


def test_only_transport_store_clock_chance_and_the_banks_book_are_replaced() -> None:
    assert dict(SUBSTITUTES) == {
        Transport: TroubledTransport,
        Store: MemoryStore,
        Clock: VirtualClock,
        random.Random: random.Random,
        BankBook: TroubledBook,
    }


def test_the_services_and_the_engine_are_those_of_production() -> None:
    code = Code()
    assert code.engine is Engine
    assert code.services == {
        "order": order.SERVICE,
        "payment": payment.SERVICE,
        "inventory": inventory.SERVICE,
        "notification": notification.SERVICE,
    }


def test_an_engine_is_given_substitutes_of_those_ports_and_nothing_else_of_the_simulation() -> None:
    """Whatever the simulation hands to an engine is on the list, or comes from production modules."""
    given: list[dict[str, object]] = []

    class Watched(Engine):
        def __init__(self, *args: object, **kwargs: object) -> None:
            bound = inspect.signature(Engine.__init__).bind(self, *args, **kwargs)
            given.append({name: value for name, value in bound.arguments.items() if name != "self"})
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    run(0, Code(engine=Watched))
    assert given
    for arguments in given:
        kinds = {name: type(value) for name, value in arguments.items()}
        assert kinds.pop("transport") is SUBSTITUTES[Transport]
        assert kinds.pop("store") is SUBSTITUTES[Store]
        assert kinds.pop("clock") is SUBSTITUTES[Clock]
        assert kinds.pop("rng") is SUBSTITUTES[random.Random]
        assert not [kind for kind in kinds.values() if kind.__module__.startswith("orderflow.simulation")]


def test_the_bank_and_its_gateway_are_those_of_production_over_another_book() -> None:
    with (
        mock.patch.object(process, "SimulatedBank", wraps=SimulatedBank) as bank,
        mock.patch.object(process, "BankGateway", wraps=BankGateway) as gateway,
    ):
        run(0)
    assert bank.call_args_list
    assert {type(call.args[0]) for call in gateway.call_args_list} == {SimulatedBank}
    assert {type(call.args[0]) for call in bank.call_args_list} == {SUBSTITUTES[BankBook]}


def test_a_run_changes_no_module_and_no_class_of_the_production_code() -> None:
    run(0)
    before = _contents()
    run(1)
    assert _contents() == before


def _contents() -> dict[str, int]:
    """The identity of everything that a patch could replace."""
    found: dict[str, int] = {}
    for name, module in list(sys.modules.items()):
        if name == "orderflow" or name.startswith("orderflow."):
            found |= _members(name, module)
    return found


def _members(name: str, module: ModuleType) -> dict[str, int]:
    found = {f"{name}.{key}": id(value) for key, value in vars(module).items()}
    for key, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == name:
            found |= {f"{name}.{key}.{inner}": id(member) for inner, member in vars(value).items()}
    return found
