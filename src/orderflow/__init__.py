"""Orderflow: an event-driven order-processing platform. This is the front door of its library.

Whatever the author of a service needs of it is imported from here, and every other module may change without
notice. A service in short:

    from orderflow import Catalogue, Decision, Event, Row, Rows, Service, Subscription, handlers, handles

`docs/adding-a-service.md` has a whole one. What stands in `__all__` keeps its meaning from one minor version to the
next. Each name is loaded when it is first used, so that to import the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderflow.messaging.catalogue import Catalogue, UndecodableError, Upcaster
    from orderflow.messaging.clock import Clock
    from orderflow.messaging.decision import (
        Decision,
        Handler,
        Intent,
        RefusedError,
        Restatement,
        Service,
        Stated,
        Statement,
        Subscription,
        handlers,
        handles,
    )
    from orderflow.messaging.envelope import Envelope
    from orderflow.messaging.failures import FinalError
    from orderflow.messaging.flow import FLOW_EVENTS, FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
    from orderflow.messaging.identity import uuid7, uuid_of, uuid_text
    from orderflow.messaging.machine import IllegalTransitionError, StateMachine
    from orderflow.messaging.message import Answer, Command, Event, Message
    from orderflow.messaging.recovery.errors import ConfirmationNeededError
    from orderflow.messaging.rows import Fact, Ref, Row, Rows
    from orderflow.messaging.side_effects import Gateway, GatewayUnavailableError
    from orderflow.messaging.signals import BatchCommitted, Signal, Signals, TaskFailed
    from orderflow.messaging.store import StoreUnavailableError
    from orderflow.messaging.stores.postgres.queries import load_queries
    from orderflow.runtime.definition import Commands, Database, Record, ServiceConfig, ServiceContext, Surroundings

__version__ = "0.1.0"

__all__ = [
    "FLOW_EVENTS",
    "FLOW_STATUS",
    "Answer",
    "BatchCommitted",
    "Catalogue",
    "Clock",
    "Command",
    "Commands",
    "ConfirmationNeededError",
    "Database",
    "Dead",
    "Decision",
    "Envelope",
    "Event",
    "Fact",
    "FinalError",
    "FlowEvent",
    "Gateway",
    "GatewayUnavailableError",
    "Handler",
    "IllegalTransitionError",
    "Intent",
    "Message",
    "Parked",
    "Record",
    "Ref",
    "RefusedError",
    "Reopened",
    "Restatement",
    "Row",
    "Rows",
    "Service",
    "ServiceConfig",
    "ServiceContext",
    "Signal",
    "Signals",
    "StateMachine",
    "Stated",
    "Statement",
    "StoreUnavailableError",
    "Subscription",
    "Surroundings",
    "TaskFailed",
    "UndecodableError",
    "Upcaster",
    "__version__",
    "handlers",
    "handles",
    "load_queries",
    "uuid7",
    "uuid_of",
    "uuid_text",
]

_HOMES = {
    "Catalogue": "orderflow.messaging.catalogue",
    "UndecodableError": "orderflow.messaging.catalogue",
    "Upcaster": "orderflow.messaging.catalogue",
    "Clock": "orderflow.messaging.clock",
    "Decision": "orderflow.messaging.decision",
    "Handler": "orderflow.messaging.decision",
    "Intent": "orderflow.messaging.decision",
    "RefusedError": "orderflow.messaging.decision",
    "Restatement": "orderflow.messaging.decision",
    "Service": "orderflow.messaging.decision",
    "Stated": "orderflow.messaging.decision",
    "Statement": "orderflow.messaging.decision",
    "Subscription": "orderflow.messaging.decision",
    "handlers": "orderflow.messaging.decision",
    "handles": "orderflow.messaging.decision",
    "Envelope": "orderflow.messaging.envelope",
    "FinalError": "orderflow.messaging.failures",
    "FLOW_EVENTS": "orderflow.messaging.flow",
    "FLOW_STATUS": "orderflow.messaging.flow",
    "Dead": "orderflow.messaging.flow",
    "FlowEvent": "orderflow.messaging.flow",
    "Parked": "orderflow.messaging.flow",
    "Reopened": "orderflow.messaging.flow",
    "Gateway": "orderflow.messaging.side_effects",
    "GatewayUnavailableError": "orderflow.messaging.side_effects",
    "uuid7": "orderflow.messaging.identity",
    "uuid_of": "orderflow.messaging.identity",
    "uuid_text": "orderflow.messaging.identity",
    "IllegalTransitionError": "orderflow.messaging.machine",
    "StateMachine": "orderflow.messaging.machine",
    "Answer": "orderflow.messaging.message",
    "Command": "orderflow.messaging.message",
    "Event": "orderflow.messaging.message",
    "Message": "orderflow.messaging.message",
    "ConfirmationNeededError": "orderflow.messaging.recovery.errors",
    "Fact": "orderflow.messaging.rows",
    "Ref": "orderflow.messaging.rows",
    "Row": "orderflow.messaging.rows",
    "Rows": "orderflow.messaging.rows",
    "BatchCommitted": "orderflow.messaging.signals",
    "Signal": "orderflow.messaging.signals",
    "Signals": "orderflow.messaging.signals",
    "TaskFailed": "orderflow.messaging.signals",
    "StoreUnavailableError": "orderflow.messaging.store",
    "load_queries": "orderflow.messaging.stores.postgres.queries",
    "Commands": "orderflow.runtime.definition",
    "Database": "orderflow.runtime.definition",
    "Record": "orderflow.runtime.definition",
    "ServiceConfig": "orderflow.runtime.definition",
    "ServiceContext": "orderflow.runtime.definition",
    "Surroundings": "orderflow.runtime.definition",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'orderflow' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
