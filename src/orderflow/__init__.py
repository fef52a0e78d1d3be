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
    from orderflow.core.access import (
        APPROVE,
        OPERATE,
        PERSONAL,
        PLATFORM,
        READ,
        Caller,
        ForbiddenError,
        Permission,
        Role,
    )
    from orderflow.core.dead_letters import FLOW_EVENTS, FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
    from orderflow.core.failures import FinalError
    from orderflow.core.identity import uuid7, uuid_of, uuid_text
    from orderflow.core.messages import (
        Answer,
        Catalogue,
        Command,
        Envelope,
        Event,
        Message,
        UndecodableError,
        Upcaster,
    )
    from orderflow.core.operations.model import ConfirmationNeededError, SecondPersonNeededError
    from orderflow.core.postgres.queries import load_queries
    from orderflow.core.service import (
        Decision,
        Fact,
        Handler,
        IllegalTransitionError,
        Intent,
        Ref,
        RefusedError,
        Restatement,
        Row,
        Rows,
        Service,
        Stated,
        StateMachine,
        Statement,
        Subscription,
        handlers,
        handles,
    )
    from orderflow.core.side_effects import Gateway, GatewayUnavailableError
    from orderflow.core.store import StoreUnavailableError
    from orderflow.core.telemetry import BatchCommitted, Signal, Signals, TaskFailed
    from orderflow.core.timing import Clock
    from orderflow.runtime.definition import Commands, Database, Record, ServiceConfig, ServiceContext, Surroundings

__version__ = "0.1.0"

__all__ = [
    "APPROVE",
    "FLOW_EVENTS",
    "FLOW_STATUS",
    "OPERATE",
    "PERSONAL",
    "PLATFORM",
    "READ",
    "Answer",
    "BatchCommitted",
    "Caller",
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
    "ForbiddenError",
    "Gateway",
    "GatewayUnavailableError",
    "Handler",
    "IllegalTransitionError",
    "Intent",
    "Message",
    "Parked",
    "Permission",
    "Record",
    "Ref",
    "RefusedError",
    "Reopened",
    "Restatement",
    "Role",
    "Row",
    "Rows",
    "SecondPersonNeededError",
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
    "PERSONAL": "orderflow.core.access",
    "Role": "orderflow.core.access",
    "Permission": "orderflow.core.access",
    "ForbiddenError": "orderflow.core.access",
    "Caller": "orderflow.core.access",
    "READ": "orderflow.core.access",
    "PLATFORM": "orderflow.core.access",
    "OPERATE": "orderflow.core.access",
    "APPROVE": "orderflow.core.access",
    "Catalogue": "orderflow.core.messages",
    "UndecodableError": "orderflow.core.messages",
    "Upcaster": "orderflow.core.messages",
    "Clock": "orderflow.core.timing",
    "Decision": "orderflow.core.service",
    "Handler": "orderflow.core.service",
    "Intent": "orderflow.core.service",
    "RefusedError": "orderflow.core.service",
    "Restatement": "orderflow.core.service",
    "Service": "orderflow.core.service",
    "Stated": "orderflow.core.service",
    "Statement": "orderflow.core.service",
    "Subscription": "orderflow.core.service",
    "handlers": "orderflow.core.service",
    "handles": "orderflow.core.service",
    "Envelope": "orderflow.core.messages",
    "FinalError": "orderflow.core.failures",
    "FLOW_EVENTS": "orderflow.core.dead_letters",
    "FLOW_STATUS": "orderflow.core.dead_letters",
    "Dead": "orderflow.core.dead_letters",
    "FlowEvent": "orderflow.core.dead_letters",
    "Parked": "orderflow.core.dead_letters",
    "Reopened": "orderflow.core.dead_letters",
    "Gateway": "orderflow.core.side_effects",
    "GatewayUnavailableError": "orderflow.core.side_effects",
    "uuid7": "orderflow.core.identity",
    "uuid_of": "orderflow.core.identity",
    "uuid_text": "orderflow.core.identity",
    "IllegalTransitionError": "orderflow.core.service",
    "StateMachine": "orderflow.core.service",
    "Answer": "orderflow.core.messages",
    "Command": "orderflow.core.messages",
    "Event": "orderflow.core.messages",
    "Message": "orderflow.core.messages",
    "ConfirmationNeededError": "orderflow.core.operations.model",
    "SecondPersonNeededError": "orderflow.core.operations.model",
    "Fact": "orderflow.core.service",
    "Ref": "orderflow.core.service",
    "Row": "orderflow.core.service",
    "Rows": "orderflow.core.service",
    "BatchCommitted": "orderflow.core.telemetry",
    "Signal": "orderflow.core.telemetry",
    "Signals": "orderflow.core.telemetry",
    "TaskFailed": "orderflow.core.telemetry",
    "StoreUnavailableError": "orderflow.core.store",
    "load_queries": "orderflow.core.postgres.queries",
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
    return sorted([*_HOMES, "__version__"])
