"""All that operators ask of a service, in one list of operations."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.decision import Service
from orderflow.messaging.store import Store
from orderflow.runtime.operation import Operation
from orderflow.runtime.operators.actions import Actions
from orderflow.runtime.operators.groups import Groups
from orderflow.runtime.operators.letters import Letters
from orderflow.runtime.operators.queues import Queues


def operator_operations(service: Service, store: Store, queues: Queues) -> Sequence[Operation]:
    """`/ops/…`."""
    return (
        *Letters(service, store).operations(),
        *Groups(store).operations(),
        *Actions(store).operations(),
        *queues.operations(),
    )
