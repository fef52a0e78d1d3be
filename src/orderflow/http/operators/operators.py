"""All that operators ask of a service, in one list of operations."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.core.operations.overruling import Overruling
from orderflow.core.operations.recovery import Recovery
from orderflow.core.service import Service
from orderflow.http.operation import Operation
from orderflow.http.operators.letters import DeadLetters
from orderflow.http.operators.outages import Outages
from orderflow.http.operators.queues import Actions, ExpiredOperations, Queues, Republishing
from orderflow.http.operators.repairs import RepairOperations
from orderflow.http.operators.replays import Replays


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
        *ExpiredOperations(service, recovery).operations(),
        *queues.operations(),
        *Republishing(recovery, queues.store).operations(),
    )
