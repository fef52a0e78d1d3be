"""What can come in a record is kept as it came, and what no column holds is refused alike, for both stores."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from orderflow.core.inbox import Failure, InboxEntry, InboxState, ParkedEvent
from orderflow.core.operations.model import LetterFilter
from orderflow.core.operations.port import OperatedStore
from orderflow.core.service import Intent
from orderflow.core.store import DataRefusedError, OutboxRecord, Plan
from orderflow.core.transport import MAX_RECORD_BYTES, ConsumerRecord, Headers, fits, size_of
from tests.conformance.store_values import (
    CONSUMER,
    as_given,
    changes,
    commit,
    dead,
    intent,
    outgoing,
    park,
    parked,
    sequence,
)

NAMES = ("", "n", "ce_id", "a\x00b", "\n", "日本", "😀" * 5_000, "n" * 70_000)
VALUES = (None, b"", b"\x00", b"\xff\xfe", b"v" * 63, b"v" * 8_192, b"\x00" * 70_000)


def anything(rng: random.Random, number: int) -> ConsumerRecord:
    """A record with whatever the log lets one have."""
    headers = tuple((rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.choice((0, 1, 3, 40))))
    key = rng.choice((None, b"", b"\x00", b"\xff" * 100_000, rng.randbytes(3_000)))
    value = rng.choice((None, b"", b"\x00" * 1_000_000, rng.randbytes(2_000_000)))
    return ConsumerRecord("parcels", 3, number, key, value, headers, rng.choice((-1, 0, 2**62)))


async def test_any_record_comes_back_byte_for_byte(store: OperatedStore) -> None:
    rng = random.Random(11)
    for number in range(30):
        event = replace(parked("k", str(number)), record=anything(rng, number))
        await park(store, event)
        found = await sequence(store, "k")
        assert as_given(found[-1]) == event


@pytest.mark.parametrize(
    "headers", [(), (("", b""),) * 100_000, (("", None),) * 100_000, (("n" * 32, b"v"),) * 40_000]
)
async def test_whatever_fits_the_log_fits_the_outbox(store: OperatedStore, headers: Headers) -> None:
    record = replace(outgoing("k"), value=b"", headers=headers)
    full = replace(record, value=b"x" * (MAX_RECORD_BYTES - size_of(record) - 256))
    assert fits(full)
    await commit(store, changes(outbox=[full]))
    reader = store.outbox()
    await reader.claim_slots()
    [read] = await reader.unsent(10)
    assert (read.value, read.headers) == (full.value, headers)


WORSE = Failure("unknown", "Boom", "a\x00b", "f")


@pytest.mark.parametrize(
    "fields",
    [
        {"event_type": "a\x00b"},
        {"failure": WORSE},
        {"intent": "a\x00b"},
        {"record": ConsumerRecord("a\x00b", 0, 0, None, None)},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_text_with_a_nul_is_refused_and_nothing_of_it_stays(
    store: OperatedStore, fields: dict[str, Any]
) -> None:
    with pytest.raises(DataRefusedError) as refused:
        await park(store, replace(parked("k", "1"), **fields))
    assert refused.value.sqlstate == "22021"
    assert await sequence(store, "k") == []
    await park(store, parked("k", "1"))


async def test_a_retry_that_cannot_be_told_is_refused(store: OperatedStore) -> None:
    await park(store, parked("k", "1"))
    (event,) = await sequence(store, "k")
    with pytest.raises(DataRefusedError) as refused:
        await commit(store, changes(reparked=[replace(event, attempts=2, failure=WORSE)]))
    assert refused.value.sqlstate == "22021"


@pytest.mark.parametrize("name", [("a\x00b", "1"), ("k", "a\x00b")])
async def test_a_name_with_a_nul_is_refused_already_when_it_is_looked_up(
    store: OperatedStore, name: tuple[str, str]
) -> None:
    with pytest.raises(DataRefusedError):
        async with store.transaction() as tx:
            await tx.open(Plan(CONSUMER, [name]))


@pytest.mark.parametrize("value", [object(), "a\x00b"], ids=["no JSON", "a NUL"])
async def test_an_intent_that_cannot_be_written_is_refused(store: OperatedStore, value: object) -> None:
    asked = replace(intent("a"), intent=Intent(key="charge:a", kind="charge", request={"value": value}))
    with pytest.raises(DataRefusedError):
        await commit(store, changes(opened=[asked]))


async def test_a_page_of_letters_has_none_of_what_their_records_hold(store: OperatedStore) -> None:
    """Records may have megabytes each, and a page a thousand letters."""
    record = ConsumerRecord("parcels", 0, 7, b"key", b"\x00" * 12_000_000, (("", b""),) * 1_000)
    for number in range(3):
        await park(store, replace(dead(f"k{number}", "1"), record=record))
    for state in (InboxState.DEAD, None):
        first = await store.recovery.letters(LetterFilter(state=state), 2)
        rest = await store.recovery.letters(LetterFilter(state=state), 2, first[-1].position)
        assert [letter.key for letter in (*first, *rest)] == ["k0", "k1", "k2"]
        assert len(msgspec.json.encode(first)) < 10_000


async def test_a_bare_event_can_be_parked_in_the_place_of_any(store: OperatedStore) -> None:
    bare = ParkedEvent(
        key="parcels/0/7",
        identity="1",
        event_id=parked("k", "1").event_id,
        event_type="",
        record=ConsumerRecord("parcels", 0, 7, None, None, (("dlt_omitted", b"1"),)),
        state=InboxState.DEAD,
        attempts=1,
        failure=Failure("permanent", "UnstorableError", "why", "f"),
    )
    letter = OutboxRecord(topic="parcels.DLT", key=None, value=None, headers=(), event_id=bare.event_id, slot=0)
    entry = InboxEntry(bare.key, bare.identity, bare.event_id, bare.state)
    await commit(store, changes(parked=[bare], inbox=[entry], outbox=[letter]))
    assert [as_given(each) for each in await sequence(store, bare.key)] == [bare]
