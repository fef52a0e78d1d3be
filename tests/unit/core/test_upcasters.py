"""Older versions of an event are read by way of their upcasters, live and parked alike."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

import pytest

from orderflow.core.envelopes import Incoming, from_parked, from_record
from orderflow.core.inbox import ParkedEvent
from orderflow.core.messages import MALFORMED, UNKNOWN_VERSION, Catalogue, Event, UndecodableError, Upcaster
from orderflow.core.transport import ConsumerRecord


class Moved(Event, frozen=True, kw_only=True):
    """The third version: the first had `from`/`to` as one text, the second had no `by`."""

    TYPE: ClassVar[str] = "toy.Moved"
    VERSION: ClassVar[int] = 3
    ONCE: ClassVar[bool] = True
    TOPIC: ClassVar[str] = "moves"

    name: str
    start: int
    end: int
    by: UUID

    @property
    def key(self) -> str:
        return self.name


NOBODY = str(UUID(int=0))


def split_way(value: dict[str, Any]) -> dict[str, Any]:
    start, end = value.pop("way").split("-")
    return {**value, "start": int(start), "end": int(end)}


def add_by(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "end": int(value["end"]), "by": NOBODY}


FIRST = Upcaster("toy.Moved", 1, split_way)
SECOND = Upcaster("toy.Moved", 2, add_by)
CATALOGUE = Catalogue((Moved,), upcasters=(SECOND, FIRST))
MOVED = Moved(name="k", start=1, end=2, by=UUID(int=0))


@pytest.mark.parametrize(
    ("version", "value"),
    [
        (1, b'{"name":"k","way":"1-2"}'),
        (2, b'{"name":"k","start":1,"end":2,"later":"passed over"}'),
        (3, b'{"name":"k","start":1,"end":2,"by":"00000000-0000-0000-0000-000000000000"}'),
    ],
)
def test_every_version_becomes_the_current_one(version: int, value: bytes) -> None:
    assert CATALOGUE.decode(f"toy.Moved.v{version}", value) == MOVED


@pytest.mark.parametrize("version", ["0", "4", "1.0", "", "x"])
def test_a_version_without_a_way_to_the_current_one_is_unknown(version: str) -> None:
    with pytest.raises(UndecodableError) as refused:
        CATALOGUE.decode(f"toy.Moved.v{version}", b"{}")
    assert refused.value.reason == UNKNOWN_VERSION


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'{"name":"k"}',
        b'{"name":"k","way":7}',
        b'{"name":"k","way":"1-two"}',
        b'{"name":7,"way":"1-2"}',
        b'{"name":"k","way":"1-2","way":"3-4"}',
        b"[" * 100_000,
        b'{"name":"k","way":' + b"[" * 100_000,
    ],
)
def test_an_older_value_that_does_not_fit_is_malformed(value: bytes) -> None:
    with pytest.raises(UndecodableError) as refused:
        CATALOGUE.decode("toy.Moved.v1", value)
    assert refused.value.reason == MALFORMED


@pytest.mark.parametrize(
    ("upcasters", "sentence"),
    [
        ((FIRST,), "no upcaster of toy.Moved.v2, which toy.Moved.v1 needs"),
        ((SECOND, SECOND), "two upcasters of toy.Moved.v2"),
        ((Upcaster("toy.Moved", 3, add_by),), "toy.Moved.v3 is no older version"),
        ((Upcaster("toy.Other", 1, add_by),), "toy.Other.v1 is no older version"),
    ],
)
def test_upcasters_that_lead_nowhere_are_refused_at_the_start(upcasters: tuple[Upcaster, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Catalogue((Moved,), upcasters=upcasters)


def first_version() -> ConsumerRecord:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", str(UUID(int=9)).encode()),
        ("ce_type", b"toy.Moved.v1"),
        ("ce_source", b"/toy"),
    )
    return ConsumerRecord("moves", 0, 4, b"k", b'{"name":"k","way":"1-2"}', headers)


def test_a_live_and_a_parked_event_of_an_older_version_are_the_same_message() -> None:
    live = from_record(first_version(), CATALOGUE)
    parked = from_parked(
        ParkedEvent(
            key=live.key,
            identity=live.identity,
            event_id=live.event_id,
            event_type=live.event_type,
            record=first_version(),
            position=1,
        ),
        CATALOGUE,
    )

    assert message_of(live) == message_of(parked) == MOVED
    assert live.identity == parked.identity == "toy.Moved"


def message_of(incoming: Incoming) -> object:
    assert incoming.problem is None
    assert incoming.envelope is not None
    return incoming.envelope.message
