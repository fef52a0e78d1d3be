"""Whom the database can have meant: tables of cases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from orderflow.core.envelopes import Incoming, from_command, from_record
from orderflow.core.identity import event_id
from orderflow.core.processor import bisected, culprits, implicated
from orderflow.core.store import DataRefusedError
from orderflow.core.transport import ConsumerRecord
from tests.unit.core.toy import Counted, Moods, Put, Said, toy_service
from tests.unit.core.world import record_of

CATALOGUE = toy_service(Moods()).catalogue
TOUCHED = {"a": ("row-1",), "b": ("row-1", 7), "c": ("row-2",)}
PLAIN = ("a", "b", "c", "c")


def read(*names: str, words: str = "") -> list[Incoming]:
    events = [Said(name=name, words=words) if words else Counted(name=name, amount=1) for name in names]
    return [
        from_record(record_of(event, offset=n, event_id=event_id(event.key, words, str(n), 1)), CATALOGUE)
        for n, event in enumerate(events)
    ]


def command(name: str) -> Incoming:
    return from_command(Put(name=name, total=1), "/toy", None, event_id("put", "put", name, 1))


def refusal(*named: str, state: str = "23505") -> DataRefusedError:
    return DataRefusedError("refused", state, None, frozenset(named))


def ids(incoming: Incoming) -> Sequence[object]:
    return TOUCHED.get(incoming.key, ())


def keys(batch: Sequence[Incoming]) -> list[str]:
    return [incoming.key for incoming in batch]


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ((), []),
        (("nobody",), []),
        (("a", "5"), ["a"]),
        (("c",), ["c", "c"]),
        (("row-2",), ["c", "c"]),
        (("row-1",), ["a", "b"]),
        (("7",), ["b"]),
        (("row-1", "b"), ["b"]),
    ],
)
def test_by_a_key_it_names_else_by_a_row_that_is_touched(named: tuple[str, ...], meant: list[str]) -> None:
    assert keys(implicated(read(*PLAIN), refusal(*named), ids)) == meant


def test_an_event_that_is_named_is_meant_and_not_the_others_of_its_key() -> None:
    batch = read(*PLAIN)

    assert implicated(batch, refusal("c", "row-1", str(batch[3].event_id)), ids) == [batch[3]]


@pytest.mark.parametrize("state", ["22021", "22P05"])
def test_a_nul_is_found_in_the_bytes_since_the_database_names_nobody(state: str) -> None:
    batch = [*read("a", "b"), *read("c", "d", words="\x00"), *read("e", words="u0000")]

    assert keys(implicated(batch, refusal(state=state), ids)) == ["c", "d"]


@pytest.mark.parametrize(
    ("amount", "meant"), [(2**63, ["big"]), (-(2**63), ["big"]), (10**25, ["big"]), (10**18 - 1, [])]
)
@pytest.mark.parametrize("state", ["22000", "22003"])
def test_a_number_beyond_64_bits_is_found_in_the_bytes(amount: int, meant: list[str], state: str) -> None:
    record = record_of(Counted(name="big", amount=1), offset=9)
    big = replace(from_record(record, CATALOGUE), record=replace(record, value=b'{"name":"big","n": %d}' % amount))
    batch = [*read("a", "1234567890123456789"), big]

    assert keys(implicated(batch, refusal(state=state), ids)) == meant


@pytest.mark.parametrize(
    ("batch", "error", "guilty"),
    [
        (read("a"), refusal(), ["a"]),
        ([command("a")], refusal(), ["a"]),
        (read(*PLAIN), refusal("a"), ["a"]),
        (read(*PLAIN), refusal("row-1"), []),
        (read(*PLAIN), refusal("c"), []),
        (read(*PLAIN), refusal(), []),
        (read("a", "b", words="\x00"), refusal(state="22021"), ["a", "b"]),
        ([command("a"), *read("b")], refusal("a"), []),
        ([command("a"), *read("b")], refusal("b"), ["b"]),
    ],
)
def test_nobody_is_blamed_on_a_guess_and_no_command_beside_others(
    batch: list[Incoming], error: DataRefusedError, guilty: list[str]
) -> None:
    assert keys(culprits(batch, error, ids)) == guilty


@pytest.mark.parametrize(
    ("names", "meant", "divided"),
    [
        ("abcd", "", [[0, 1], [2, 3]]),
        ("abcd", "b", [[0], [2, 3], [1]]),
        ("abab", "b", [[0, 2], [1, 3]]),
        ("aabbc", "", [[0, 1], [2, 3, 4]]),
        ("aaaa", "a", [[0, 1], [2, 3]]),
        ("ab", "ab", [[0], [1]]),
        ("ab", "a", [[1], [0]]),
        ("aab", "", [[0, 1], [2]]),
    ],
)
def test_a_batch_is_divided_by_key_with_the_suspects_apart(names: str, meant: str, divided: list[list[int]]) -> None:
    batch = read(*names)

    assert bisected(batch, [each for each in batch if each.key in meant]) == divided


def test_a_command_among_several_suspects_spares_them_all_and_a_record_without_a_value_is_none() -> None:
    batch = [*read("a"), command("a"), *read("b")]
    assert culprits(batch, refusal("a"), ids) == []
    record = ConsumerRecord("counts", 0, 7, b"a", None)
    empty = replace(read("a")[0], record=record)
    assert implicated([empty, *read("b", words="\x00")], refusal(state="22021"), ids) == read("b", words="\x00")
