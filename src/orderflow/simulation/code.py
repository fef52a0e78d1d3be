"""The code under test, and everything that a simulation puts in the place of something real."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orderflow.bank.bank import BankBook
from orderflow.inventory.service import SERVICE as INVENTORY
from orderflow.messaging.clock import Clock
from orderflow.messaging.decision import Service
from orderflow.messaging.engine import Engine
from orderflow.messaging.store import Store
from orderflow.messaging.stores.memory.store import MemoryStore
from orderflow.messaging.transport import Transport
from orderflow.notification.service import SERVICE as NOTIFICATION
from orderflow.order.service import SERVICE as ORDER
from orderflow.payment.service import SERVICE as PAYMENT
from orderflow.simulation.bank import TroubledBook
from orderflow.simulation.clock import VirtualClock
from orderflow.simulation.log import TroubledTransport

SUBSTITUTES: Mapping[type, type] = MappingProxyType(
    {
        Transport: TroubledTransport,
        Store: MemoryStore,
        Clock: VirtualClock,
        random.Random: random.Random,
        BankBook: TroubledBook,
    }
)
"""Port → what stands in for it. Everything else that runs is what runs in production."""


@dataclass(frozen=True, slots=True)
class Code:
    """What is simulated: the production code, unless a test plants a bug."""

    services: Mapping[str, Service] = field(
        default_factory=lambda: {service.name: service for service in (ORDER, PAYMENT, INVENTORY, NOTIFICATION)}
    )
    engine: type[Engine] = Engine
