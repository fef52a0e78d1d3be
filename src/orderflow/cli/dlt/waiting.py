"""The parked events of a database, read from its table, whichever release it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from orderflow.messaging.inbox import Failure, InboxState, ParkedEvent
from orderflow.messaging.recovery.port import Letter
from orderflow.messaging.stores.postgres.connections import connect
from orderflow.messaging.stores.postgres.core_rows import decode_headers
from orderflow.messaging.stores.postgres.errors import translated
from orderflow.messaging.stores.postgres.queries import load_queries
from orderflow.messaging.transport import ConsumerRecord

PAGE = 500


async def read_waiting(url: str) -> AsyncIterator[Sequence[Letter]]:
    """Pages in order of position. Raises StoreUnavailableError, SchemaBehindError."""
    query = load_queries("orderflow.cli.dlt")["parked"]
    connection = await connect(url, application_name="orderflow dlt check")
    try:
        after = 0
        while True:
            with translated():
                rows = await connection.fetch(query, after, PAGE)
            if not rows:
                return
            yield [_letter(row) for row in rows]
            after = rows[-1]["position"]
    finally:
        connection.terminate()


def _letter(row: Any) -> Letter:
    failure = None
    if row["failure_kind"] is not None:
        failure = Failure(row["failure_kind"], row["error"], row["message"], row["fingerprint"])
    event = ParkedEvent(
        key=row["key"],
        identity=row["identity"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        record=ConsumerRecord(
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            key=row["record_key"],
            value=row["record_value"],
            headers=decode_headers(row["record_headers"]),
            timestamp=row["record_timestamp"],
        ),
        state=InboxState(row["state"]),
        attempts=row["attempts"],
        failure=failure,
        position=row["position"],
        intent=row["intent"],
    )
    return Letter(
        consumer=row["consumer"],
        event=event,
        parked_at=row["parked_at"],
        first_failed_at=None,
        last_failed_at=None,
        next_attempt_at=row["parked_at"],
    )
