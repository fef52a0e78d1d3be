"""All that operators ask of a service, in one list of operations."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.decision import Service
from orderflow.messaging.recovery.overruling import Overruling
from orderflow.messaging.recovery.recovery import Recovery
from orderflow.runtime.operation import Operation
from orderflow.runtime.operators.letters import DeadLetters
from orderflow.runtime.operators.outages import Outages
from orderflow.runtime.operators.queues import Actions, ExpiredOperations, Queues, Republishing
from orderflow.runtime.operators.repairs import RepairOperations
from orderflow.runtime.operators.replays import Replays


def operator_operations(
    service: Service, recovery: Recovery, overruling: Overruling, queues: Queues
) -> Sequence[Operation]:
    """`/ops/…`."""
    return (
        *DeadLetters(service, recovery).operations(),
        *Replays(recovery).operations(),
        *RepairOperations(recovery.repairs).operations(),
        *Outages(overruling).operations(),
        *Actions(recovery.store).operations(),
        *ExpiredOperations(service, recovery.store).operations(),
        *queues.operations(),
        *Republishing(recovery, queues.store).operations(),
    )
