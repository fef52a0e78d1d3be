"""Orderflow: an event-driven order-processing platform. This is the front door of its library.

What the author of a service needs is imported from here, from `orderflow.events`, from `orderflow.http` and, in
tests, from `orderflow.testing`. Every other module may change without notice. A service in short:

    from orderflow import Catalogue, Decision, Event, Row, Rows, Service, Subscription, handlers, handles

`docs/adding-a-service.md` has a whole one, `docs/library.md` says what each name is for. What stands in `__all__`
keeps its meaning from one minor version to the next. Each name is loaded when it is first used, so that to import the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderflow.front_door import front_door

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
    from orderflow.runtime.definition import (
        Commands,
        Database,
        Record,
        ServiceConfig,
        ServiceContext,
        Surroundings,
        view_of,
    )

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
    "view_of",
]

_HOMES = {
    "orderflow.core.access": "APPROVE OPERATE PERSONAL PLATFORM READ Caller ForbiddenError Permission Role",
    "orderflow.core.dead_letters": "FLOW_EVENTS FLOW_STATUS Dead FlowEvent Parked Reopened",
    "orderflow.core.failures": "FinalError",
    "orderflow.core.identity": "uuid7 uuid_of uuid_text",
    "orderflow.core.messages": "Answer Catalogue Command Envelope Event Message UndecodableError Upcaster",
    "orderflow.core.operations.model": "ConfirmationNeededError SecondPersonNeededError",
    "orderflow.core.postgres.queries": "load_queries",
    "orderflow.core.service": (
        "Decision Fact Handler IllegalTransitionError Intent Ref RefusedError Restatement Row Rows Service "
        "StateMachine Stated Statement Subscription handlers handles"
    ),
    "orderflow.core.side_effects": "Gateway GatewayUnavailableError",
    "orderflow.core.store": "StoreUnavailableError",
    "orderflow.core.telemetry": "BatchCommitted Signal Signals TaskFailed",
    "orderflow.core.timing": "Clock",
    "orderflow.runtime.definition": "Commands Database Record ServiceConfig ServiceContext Surroundings view_of",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = front_door(__name__, _HOMES)
