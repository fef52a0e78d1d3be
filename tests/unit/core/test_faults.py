"""Faults of a game day: which events they strike, how a decision fails by them, what stands still."""

from __future__ import annotations

import asyncio
import random
from typing import ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest

from orderflow.core.failures import InfrastructureError
from orderflow.core.game_days.fault import (
    Fault,
    FaultKind,
    InjectedFaultError,
    NoTargetError,
    is_chosen,
    require_target,
    strikes,
    with_faults,
)
from orderflow.core.game_days.game_day import REMIND_EVERY_S, GameDay, tell_ignored
from orderflow.core.messages import Envelope, Event, Message, wire_name
from orderflow.core.processor import Processor
from orderflow.core.retries import Retrier
from orderflow.core.service import Rows
from orderflow.core.store import Act
from orderflow.core.telemetry import FaultsCleared, FaultsIgnored, FaultsSet
from orderflow.core.testing import MemoryLog, MemoryTransport
from orderflow.core.testing.store import MemoryFaults
from orderflow.core.transport import Consumer, ProducerRecord, TopicSettings
from tests.support.callers import person
from tests.support.waiting import eventually
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted, Moods, Opened, Put, toy_service
from tests.unit.core.world import World, record_of


class Line(msgspec.Struct, frozen=True, kw_only=True):
    sku: str
    quantity: int


class Bought(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "shop.Bought"
    TOPIC: ClassVar[str] = "sales"

    order_id: UUID
    lines: tuple[Line, ...]
    gift: bool = False
    tags: tuple[str, ...] = ()
    note: str | None = None

    @property
    def key(self) -> str:
        return str(self.order_id)


ME = Act(caller=person("ada"))
ORDER = UUID(int=7)
BOUGHT = Bought(
    order_id=ORDER, lines=(Line(sku="MILK", quantity=2), Line(sku="CUP", quantity=1)), gift=True, tags=("new", "web")
)


def fault(event_type: str = "Bought", field: str = "sku", value: str = "CUP", **others: object) -> Fault:
    kind = others.pop("error", FaultKind.PERMANENT)
    return msgspec.structs.replace(
        Fault(event_type=event_type, field=field, value=value, error=FaultKind(str(kind)), id=3), **others
    )


def counted(error: FaultKind, value: str = "k") -> Fault:
    return fault("Counted", "name", value, error=error)


@pytest.mark.parametrize("name", ["shop.Bought.v1", "shop.Bought", "Bought"])
def test_a_type_is_named_with_or_without_its_version_and_its_owner(name: str) -> None:
    assert strikes(fault(event_type=name), BOUGHT)


@pytest.mark.parametrize("name", ["shop.Bought.v2", "Sold", "shop", "bought", ""])
def test_no_other_type_is_struck(name: str) -> None:
    assert not strikes(fault(event_type=name), BOUGHT)


@pytest.mark.parametrize(
    ("field", "value", "struck"),
    [
        ("sku", "MILK", True),
        ("sku", "CUP", True),
        ("sku", "POT", False),
        ("quantity", "2", True),
        ("quantity", "2.0", False),
        ("order_id", str(ORDER), True),
        ("gift", "true", True),
        ("note", "null", True),
        ("tags", "web", True),
        ("tags", "we", False),
        ("lines", "MILK", False),
        ("absent", "MILK", False),
    ],
)
def test_a_field_is_found_anywhere_in_the_payload_and_compared_as_text(field: str, value: str, struck: bool) -> None:
    assert strikes(fault(field=field, value=value), BOUGHT) is struck


def test_a_share_strikes_about_that_part_of_the_keys_and_each_key_always_or_never() -> None:
    part, other = fault(share=0.3), fault(share=0.3, id=4)
    keys = [str(UUID(int=number)) for number in range(10_000)]

    chosen = {key for key in keys if is_chosen(part, key)}

    assert 2_800 < len(chosen) < 3_200
    assert chosen == {key for key in keys if is_chosen(part, key)}
    assert chosen != {key for key in keys if is_chosen(other, key)}
    assert all(is_chosen(fault(share=1.0), key) for key in keys)
    assert chosen < {key for key in keys if is_chosen(fault(share=0.5), key)}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.PERMANENT, InjectedFaultError),
        (FaultKind.INFRASTRUCTURE, InfrastructureError),
        (FaultKind.HANG, InfrastructureError),
    ],
)
def test_a_decision_over_a_struck_event_fails_as_the_fault_says(kind: FaultKind, error: type[Exception]) -> None:
    active = [counted(kind)]
    service = with_faults(toy_service(Moods()), lambda: active)

    def decide(message: Message) -> object:
        envelope = Envelope(id=uuid4(), message=message, source="/test", key=message.key)
        return service.handlers[type(message)].decide(Rows({}), envelope)

    with pytest.raises(error, match=r"fault 3: .* at Counted with name=k$"):
        decide(Counted(name="k", amount=1))
    assert decide(Counted(name="other", amount=1))
    assert decide(Opened(name="k"))
    active.clear()
    assert decide(Counted(name="k", amount=1))


def test_commands_are_never_struck() -> None:
    plain = toy_service(Moods())

    assert with_faults(plain, tuple).handlers[Put] is plain.handlers[Put]


def test_a_fault_that_could_strike_nothing_is_refused_with_what_there_is() -> None:
    service = toy_service(Moods())

    for name in ("Counted", "toy.Counted", wire_name(Counted)):
        require_target(service, name, "amount")
    with pytest.raises(NoTargetError, match=r"counter handles no event 'Put', only Asked, Counted, Opened$"):
        require_target(service, "Put", "name")
    with pytest.raises(NoTargetError, match=r"Counted has no field 'sku', only amount, name$"):
        require_target(service, "Counted", "sku")


@pytest.mark.parametrize("kind", [FaultKind.INFRASTRUCTURE, FaultKind.HANG])
async def test_an_event_that_is_parked_already_waits_for_the_end_of_a_fault_and_burns_nothing(
    kind: FaultKind,
) -> None:
    world, active = World(), [counted(FaultKind.PERMANENT)]
    world.service = with_faults(world.service, lambda: active)
    world.processor = Processor(world.service, world.store, world.policy, world.signals, world.clock)
    retrier = Retrier("counter", world.processor, world.store, world.signals, world.clock)
    await world.admit(Counted(name="k", amount=1))
    before = world.parked()

    active[:] = [counted(kind)]
    retrier.schedule(0)
    with pytest.raises(InfrastructureError):
        await retrier.step()
    assert world.parked() == before
    assert before[0].attempts == 1

    active.clear()
    retrier.schedule(0)
    await retrier.step()
    assert (world.parked(), world.total("k")) == ([], 1)


class Log:
    """A log in memory whose one consumer is joined through a process's game day."""

    def __init__(self, process: Following) -> None:
        self.log = MemoryLog(process.clock, random.Random(1))
        self.log.create([TopicSettings("counts", 1)])
        self.transport = process.follower.transport(MemoryTransport(self.log))

    async def publish(self, *events: Counted) -> None:
        records = [record_of(event, offset=0) for event in events]
        await self.transport.append(
            [ProducerRecord("counts", each.key, each.value, each.headers) for each in records]
        )

    async def join(self) -> Consumer:
        return await self.transport.subscribe("counter", ["counts"])


async def test_records_of_which_one_hangs_are_not_handed_on_until_the_fault_is_cleared() -> None:
    process = Following()
    log, day = Log(process), process.follower
    hanging = (await process.faults.add(counted(FaultKind.HANG), ME)).faults[0]
    await day.begin()
    member = await log.join()
    await log.publish(Counted(name="a", amount=1))
    assert len(await member.poll(10)) == 1

    await log.publish(Counted(name="b", amount=1), Counted(name="k", amount=1))
    standing = asyncio.create_task(member.poll(10))
    await eventually(lambda: day.held("counter"))
    assert day.held("counter") == "stalled: fault 1: hang at Counted with name=k"
    assert day.problems() == {"consumer counter": day.held("counter")}
    await process.faults.add(counted(FaultKind.HANG, "b"), ME)
    await process.faults.clear(hanging.id, ME)
    await day.begin()
    await eventually(lambda: "name=b" in day.held("counter"))
    assert not standing.done()
    await process.faults.clear(None, ME)
    await day.begin()

    assert [record.key for record in await standing] == [b"b", b"k"]
    assert (day.held("counter"), day.problems()) == ("", {})


@pytest.mark.parametrize("ends", ["cancelled", "closed"])
async def test_a_consumer_that_leaves_stands_still_no_longer(ends: str) -> None:
    process = Following()
    log, day = Log(process), process.follower
    await process.faults.add(counted(FaultKind.HANG), ME)
    await day.begin()
    member = await log.join()
    await log.publish(Counted(name="k", amount=1))
    standing = asyncio.create_task(member.poll(10))
    await eventually(lambda: day.held("counter"))

    if ends == "cancelled":
        standing.cancel()
        await asyncio.wait([standing])
        assert standing.cancelled()
    await member.close()
    if ends == "closed":
        assert await standing == ()

    assert day.problems() == {}
    again = asyncio.create_task((await log.join()).poll(10))
    await eventually(lambda: day.held("counter"))
    await process.faults.clear(None, ME)
    await day.begin()
    assert [record.key for record in await again] == [b"k"]


class Following:
    """A process of a service on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.world = World()
        self.faults = MemoryFaults(self.world.database)
        self.follower = GameDay(self.world.service, self.faults, self.world.signals, self.clock)

    async def revision(self) -> int | None:
        readers = await self.faults.readers(1_000)
        return readers[0].revision if readers else None


async def test_a_process_applies_what_is_set_before_it_confirms_it() -> None:
    process = Following()
    await process.faults.add(counted(FaultKind.PERMANENT), ME)

    await process.follower.begin()

    assert [each.value for each in process.follower.faults] == ["k"]
    assert await process.revision() == 2
    await process.faults.clear(None, ME)
    assert await process.revision() == 2
    await process.follower.step()
    assert process.follower.faults == ()
    assert await process.revision() == 3
    await process.follower.leave()
    assert await process.revision() is None


async def test_a_process_says_what_is_set_reminds_of_it_and_says_when_it_is_over() -> None:
    process = Following()
    await process.faults.add(counted(FaultKind.PERMANENT), ME)
    await process.follower.begin()
    told = ["fault 1: permanent at Counted with name=k"]
    assert process.world.seen == [FaultsSet("counter", told)]

    started = process.clock.now
    while process.clock.now < started + REMIND_EVERY_S - 0.5:
        await process.follower.step()
    assert len(process.world.seen) == 1
    while process.clock.now < started + REMIND_EVERY_S + 0.5:
        await process.follower.step()
    assert process.world.seen == [FaultsSet("counter", told)] * 2

    await process.faults.clear(1, ME)
    await process.follower.step()
    assert process.world.seen[2:] == [FaultsCleared("counter")]


async def test_a_process_outside_of_game_days_says_what_it_ignores_and_is_not_heard_of() -> None:
    process = Following()
    await tell_ignored("counter", process.faults, process.world.signals)
    assert process.world.seen == []
    await process.faults.add(counted(FaultKind.PERMANENT), ME)

    await tell_ignored("counter", process.faults, process.world.signals)

    assert process.world.seen == [FaultsIgnored("counter", ["fault 1: permanent at Counted with name=k"])]
    assert await process.revision() is None
