"""All that operators ask of a service, in one list of operations."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.decision import Service
from orderflow.messaging.recovery.overruling import Overruling
from orderflow.messaging.recovery.recovery import Recovery
from orderflow.runtime.operation import Operation
from orderflow.runtime.operators.actions import Actions
from orderflow.runtime.operators.expired import ExpiredOperations
from orderflow.runtime.operators.groups import Groups
from orderflow.runtime.operators.letters import Letters
from orderflow.runtime.operators.mending import Mending
from orderflow.runtime.operators.outages import Outages
from orderflow.runtime.operators.queues import Queues
from orderflow.runtime.operators.rehearsals import Rehearsals
from orderflow.runtime.operators.repairs import RepairOperations
from orderflow.runtime.operators.replays import Replays
from orderflow.runtime.operators.republishing import Republishing


def operator_operations(
    service: Service, recovery: Recovery, overruling: Overruling, queues: Queues
) -> Sequence[Operation]:
    """`/ops/…`."""
    return (
        *Letters(service, recovery.store).operations(),
        *Groups(recovery.store).operations(),
        *Rehearsals(recovery).operations(),
        *Replays(recovery).operations(),
        *Mending(recovery).operations(),
        *RepairOperations(recovery.repairs).operations(),
        *Outages(overruling).operations(),
        *Actions(recovery.store).operations(),
        *ExpiredOperations(service, recovery.store).operations(),
        *queues.operations(),
        *Republishing(recovery, queues.store).operations(),
    )
