"""Topics and groups are one installation's, and two installations on one log can have names of their own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from orderflow.core.transport import (
    Claim,
    ClaimedError,
    PartitionLag,
    PrefixedTransport,
    ProducerRecord,
    TopicSettings,
    Transport,
)
from tests.conformance.transport.conftest import PARTITIONS
from tests.support.records import take
from tests.support.transports import Harness

A, B = UUID(int=0xA), UUID(int=0xB)


@pytest.fixture
def register() -> str:
    """One of this test alone."""
    return f"register-{uuid4().hex[:12]}"


async def refused(transport: Transport, claim: Claim) -> dict[str, UUID]:
    with pytest.raises(ClaimedError) as caught:
        await transport.claim(claim)
    return dict(caught.value.owners)


async def test_what_is_claimed_is_refused_to_others_and_by_name(transport: Transport, register: str) -> None:
    await transport.claim(Claim(A, ["orders", "payments"], ["payment"], register))
    await transport.claim(Claim(A, ["orders", "stock"], [], register))
    assert await refused(transport, Claim(B, ["orders", "mine"], ["payment"], register)) == {
        "topic orders": A,
        "group payment": A,
    }
    # A group is no topic, and what was refused with others is still free.
    await transport.claim(Claim(B, ["mine", "payment"], ["orders"], register))
    assert await refused(transport, Claim(A, ["mine"], [], register)) == {"topic mine": B}


async def test_whoever_connects_later_finds_it(harness: Harness, register: str) -> None:
    first = await harness.connect()
    await first.claim(Claim(A, ["orders"], [], register))
    await first.close()
    second = await harness.connect()
    assert await refused(second, Claim(B, ["orders"], [], register)) == {"topic orders": A}


async def test_of_two_at_once_one_has_everything_and_the_other_nothing(harness: Harness, register: str) -> None:
    clients = {A: await harness.connect(), B: await harness.connect()}
    claims = {A: Claim(A, ["x", "y", "only-a"], ["g"], register), B: Claim(B, ["y", "z"], ["g"], register)}
    for number in range(3):
        now = {owner: replace(claim, register=f"{register}-{number}") for owner, claim in claims.items()}
        await asyncio.gather(*(clients[owner].claim(now[owner]) for owner in now), return_exceptions=True)
        outcomes = await asyncio.gather(*(clients[owner].claim(now[owner]) for owner in now), return_exceptions=True)
        [loser] = [owner for owner, outcome in zip(now, outcomes, strict=True) if isinstance(outcome, ClaimedError)]
        winner = B if loser == A else A
        contested = set(now[loser].names) & set(now[winner].names)
        assert outcomes.count(None) == 1
        assert await refused(clients[loser], now[loser]) == dict.fromkeys(contested, winner)
        # What the loser alone wanted is free.
        left = sorted(name.split()[1] for name in set(now[loser].names) - contested)
        await clients[winner].claim(replace(now[winner], topics=left, groups=[]))


async def test_what_is_taken_over_is_the_new_one_s(transport: Transport, register: str) -> None:
    await transport.claim(Claim(A, ["orders"], ["payment"], register))
    await transport.claim(Claim(B, ["orders"], ["payment"], register, takes_over=True))
    await transport.claim(Claim(B, ["orders"], ["payment"], register))
    assert set(await refused(transport, Claim(A, ["orders"], ["payment"], register))) == {
        "topic orders",
        "group payment",
    }


async def test_two_installations_with_prefixes_of_their_own_share_a_log_and_nothing_else(
    transport: Transport, topic: str, group: str, register: str
) -> None:
    shops = [PrefixedTransport(transport, topics=prefix, groups=prefix) for prefix in ("a.", "b.")]
    for owner, shop in zip((A, B), shops, strict=True):
        await shop.claim(Claim(owner, [topic], [group], register))
        await shop.create_topics([TopicSettings(topic, PARTITIONS)])
        await shop.append([ProducerRecord(topic, b"key", str(owner).encode(), (("h", b"1"),))])
    assert await refused(shops[0], Claim(B, [topic], [], register)) == {f"topic a.{topic}": A}
    for owner, shop in zip((A, B), shops, strict=True):
        consumer = await shop.subscribe(group, [topic])
        [record] = await take(consumer, 1)
        assert (record.topic, record.value, record.headers) == (topic, str(owner).encode(), (("h", b"1"),))
        assert {name for name, _ in consumer.assignment()} == {topic}
        await consumer.commit([record])
        await consumer.close()
        assert await shop.read(topic, record.partition, 0, 10) == [record]
        place = (topic, record.partition)
        assert (await shop.ends([topic]))[place] == (0, 1)
        lags = await shop.lag(group, [topic])
        assert PartitionLag(*place, 1, 0, 1) in lags
        assert {lag.topic for lag in lags} == {topic}
    # The plain topic, which a third installation may have, has seen nothing of it.
    assert {end for _, end in (await transport.ends([topic])).values()} == {0}


async def test_topics_and_groups_can_have_different_prefixes(transport: Transport, register: str) -> None:
    mine = PrefixedTransport(transport, topics="t.", groups=f"{register}.")
    other = PrefixedTransport(transport, topics=f"other-{register}.", groups=f"{register}.")
    await mine.claim(Claim(A, ["orders"], ["payment"], register))
    assert await refused(other, Claim(B, ["orders"], ["payment"], register)) == {f"group {register}.payment": A}
