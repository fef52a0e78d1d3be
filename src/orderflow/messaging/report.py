"""What a batch's results look like to those who watch."""

from __future__ import annotations

from orderflow.messaging.result import Result
from orderflow.messaging.signals import Handled


def handled(result: Result) -> Handled:
    """The part of a signal that tells of one message."""
    incoming = result.incoming
    envelope, record = incoming.envelope, incoming.record
    return Handled(
        outcome=result.outcome,
        key=incoming.key,
        event_id=incoming.event_id,
        event_type=incoming.event_type,
        message=envelope.message if envelope else None,
        caused=result.caused,
        traceparent=envelope.traceparent if envelope else None,
        topic=record.topic if record else "",
        partition=record.partition if record else -1,
        offset=record.offset if record else -1,
        attempts=result.attempts,
        failure=result.failure,
    )
