"""JSON bodies: one meaning only, and the field named."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.http.problems import ProblemError
from orderflow.http.validation import Raw, StrictDecoder
from tests.support.frame import GOOD, Basket


class Optional(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    a: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    b: str | None = None


class Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    n: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    share: float = 0.0


class Said(msgspec.Struct, forbid_unknown_fields=True):
    value: Raw
    topic: str = ""


class Heard(msgspec.Struct, forbid_unknown_fields=True):
    said: list[Said]


class Open(msgspec.Struct):
    a: int


def refusal(decoder: StrictDecoder[Any], content: bytes) -> tuple[int, str | None]:
    with pytest.raises(ProblemError) as caught:
        decoder.decode(content)
    problem = caught.value.problem
    return problem.status, problem.errors[0].pointer if problem.errors else None


LINE = b'{"sku":"a","quantity":1}'


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"\xef\xbb\xbf{}", 400, None),
        (b"NaN", 400, None),
        (b"[" * 100_000, 422, ""),
        (b'{"customer_id":' + b"[" * 60_000, 422, "/customer_id"),
        (b'{"customer_id":"c","items":[' + LINE + b"]} x", 400, None),
        (b'{"customer_id":"\xff","items":[' + LINE + b"]}", 400, "/customer_id"),
        (b'{"customer_id":"c","items":[{"sku":"\xc3(","quantity":1}]}', 400, "/items/0/sku"),
        (b'{"customer_id":"c","\xff":1,"items":[' + LINE + b"]}", 400, "/\\udcff"),
        (b'{"customer_id":"c",\xff"items":[' + LINE + b"]}", 400, None),
        (b"[]", 422, ""),
        (b'{"items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"c","items":[]}', 422, "/items"),
        (b'{"customer_id":"c","items":[' + LINE + b'],"total":1}', 422, "/total"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":1,"a/b~c":2}]}', 422, "/items/0/a~1b~0c"),
        (b'{"customer_id":"c","items":[' + LINE + b',{"sku":"a","quantity":0}]}', 422, "/items/1/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":1.5}]}', 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":true}]}', 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":"1"}]}', 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":' + b"9" * 5000 + b"}]}", 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":1e999}]}', 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"' + b"a" * 11 + b'","quantity":1}]}', 422, "/items/0/sku"),
        (b'{"customer_id":null,"items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"a\\u0000b","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"a\\u0085","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"a\xc2\x85","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"a\\u202eb","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"a\xe2\x80\xaeb","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"c","items":[{"sku":"a\x7f","quantity":1}]}', 422, "/items/0/sku"),
        (b'{"customer_id":"c","items":[{"sku":"\\ud83f\\udffe","quantity":1}]}', 422, "/items/0/sku"),
        (b'{"customer_id":"\\ud800","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"\\udc00x","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"c","items":[{"sku":"\\ud800\\u0041","quantity":1}]}', 422, "/items/0/sku"),
        (b'{"customer_id":"c","customer_id":"d","items":[' + LINE + b"]}", 422, "/customer_id"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":1,"quantity":2}]}', 422, "/items/0/quantity"),
        (b'{"customer_id":"c","items":[{"sku":"a","quantity":1,"\\u0073ku":"b"}]}', 422, "/items/0/sku"),
        (b'{"customer_id" :"c","customer_id" :"d","items":[' + LINE + b"]}", 422, "/customer_id"),
    ],
)
def test_what_is_wrong_is_refused_with_the_field_named(content: bytes, status: int, pointer: str | None) -> None:
    assert refusal(StrictDecoder(Basket), content) == (status, pointer)


def test_names_given_twice_are_found_where_fields_may_be_left_out() -> None:
    decoder = StrictDecoder(Optional)
    assert decoder.decode(b"{}") == Optional()
    assert refusal(decoder, b'{"a":1,"a":2}') == (422, "/a")


def test_an_empty_body_is_said_to_be_empty() -> None:
    with pytest.raises(ProblemError, match="the body is empty"):
        StrictDecoder(Basket).decode(b"")


def test_a_pattern_is_told_in_its_own_words() -> None:
    class Coded(msgspec.Struct, forbid_unknown_fields=True):
        codes: tuple[Annotated[str, msgspec.Meta(pattern="^[a-z]\\\\*$", description="small letters")], ...]
        plain: Annotated[str, msgspec.Meta(pattern="^x")] = "x"

    with pytest.raises(ProblemError, match=r"^/codes/1: expected small letters$"):
        StrictDecoder(Coded).decode(b'{"codes":["a","A"]}')
    with pytest.raises(ProblemError, match=r"^/plain: expected a text matching '\^x'$"):
        StrictDecoder(Coded).decode(b'{"codes":[],"plain":"y"}')


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "ab"}, "/name: expected a text of at least 3 characters"),
        ({"count": 0}, "/count: expected a whole number of at least 1"),
        ({"count": "1"}, "/count: expected a whole number, not a text"),
        ({"count": 1.5}, "/count: expected a whole number, not a number"),
        ({"share": 1}, "/share: expected a number of less than 1.0"),
        ({"names": ["a", "b"]}, "/names: expected a list of at most 1 item"),
        ({"names": {}}, "/names: expected a list, not an object"),
        ({"note": 1}, "/note: expected a text or null, not a whole number"),
        ({"id": "x"}, "/id: expected a UUID"),
        ({"at": "noon"}, "/at: expected a time (RFC 3339)"),
        ({"nome": "abc"}, "/nome: there is no such field"),
        ({"whole": {}}, "/whole/n: the field is missing"),
        ([], "the body: expected an object, not a list"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(body: object, said: str) -> None:
    class Named(msgspec.Struct, forbid_unknown_fields=True):
        name: Annotated[str, msgspec.Meta(min_length=3)] = "abc"
        count: Annotated[int, msgspec.Meta(ge=1)] = 1
        share: Annotated[float, msgspec.Meta(lt=1)] = 0.5
        names: Annotated[tuple[str, ...], msgspec.Meta(max_length=1)] = ()
        whole: Whole | None = None
        note: str | None = None
        id: UUID | None = None
        at: datetime | None = None

    with pytest.raises(ProblemError) as refused:
        StrictDecoder(Named).decode(json.dumps(body).encode())
    assert refused.value.problem.detail == said


def test_of_an_enumeration_the_values_are_told_if_there_is_one_only() -> None:
    class One(msgspec.Struct, forbid_unknown_fields=True):
        size: Literal["s", "m"] | None

    class Two(One, forbid_unknown_fields=True):
        state: Literal["on", "off"]

    with pytest.raises(ProblemError, match=r"^/size: invalid value 'x'; expected: m, s$"):
        StrictDecoder(One).decode(b'{"size":"x"}')
    with pytest.raises(ProblemError, match=r"^/size: invalid value 'x'$"):
        StrictDecoder(Two).decode(b'{"size":"x","state":"on"}')


def test_a_backslash_before_u0000_is_no_nul() -> None:
    body = {**GOOD, "customer_id": "a\\u0000"}
    assert StrictDecoder(Basket).decode(json.dumps(body).encode()).customer_id == "a\\u0000"


def test_a_raw_text_may_hold_what_others_may_not_but_nothing_that_cannot_be_stored() -> None:
    class Edit(msgspec.Struct, forbid_unknown_fields=True):
        value: Raw | None
        reason: str = ""

    decoder = StrictDecoder(Edit)
    assert decoder.decode(b'{"value":"{\\n\\u202e}"}').value == "{\n\u202e}"
    assert refusal(decoder, b'{"value":"a\\u0000"}') == (422, "/value")
    assert refusal(decoder, b'{"value":"a","reason":"a\\nb"}') == (422, "/reason")


def test_a_raw_text_in_a_list_is_one_at_every_place_and_its_neighbours_are_none() -> None:
    decoder = StrictDecoder(Heard)
    both = decoder.decode(b'{"said":[{"value":"a\\n"},{"value":"\\u0083"}]}')
    assert [each.value for each in both.said] == ["a\n", "\x83"]
    assert refusal(decoder, b'{"said":[{"value":"a"},{"value":"a\\u0000"}]}') == (422, "/said/1/value")
    assert refusal(decoder, b'{"said":[{"value":"a","topic":"a\\nb"}]}') == (422, "/said/0/topic")


def test_a_type_that_would_take_unknown_fields_is_a_defect() -> None:
    with pytest.raises(TypeError, match="Open"):
        StrictDecoder(Open)


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cn", "Cs", "Zl", "Zp"]), min_size=1, max_size=10)


@settings(deadline=None)
@given(TEXT, st.lists(st.tuples(TEXT, st.integers(1, 100)), min_size=1, max_size=20), st.booleans())
def test_every_sound_body_is_taken_whatever_its_texts(
    customer: str, lines: list[tuple[str, int]], ascii_only: bool
) -> None:
    body = {"customer_id": customer, "items": [{"sku": sku, "quantity": count} for sku, count in lines]}
    basket = StrictDecoder(Basket).decode(json.dumps(body, ensure_ascii=ascii_only).encode())
    assert basket.customer_id == customer
    assert [(line.sku, line.quantity) for line in basket.items] == lines


@pytest.mark.parametrize(
    ("spelling", "value"),
    [(b"5.0", 5), (b"1e2", 100), (b"-0.0", 0), (b"9.223372036854775807e18", 2**63 - 1), (b"-1.20E1", -12)],
)
def test_a_whole_number_may_be_written_with_a_fraction_of_zero(spelling: bytes, value: int) -> None:
    decoded = StrictDecoder(Whole).decode(b'{"share":2.0,"n":' + spelling + b"}")
    assert (decoded.n, type(decoded.n), decoded.share) == (value, int, 2.0)


@pytest.mark.parametrize(
    "spelling",
    [b"5.5", b"1e-1", b"1e999999999", b"1e-999999999", b"1e99999999999999999999", b"1e19", b'"5.0"', b"null"],
)
def test_what_is_no_whole_number_is_refused_however_it_is_written(spelling: bytes) -> None:
    assert refusal(StrictDecoder(Whole), b'{"n":' + spelling + b"}") == (422, "/n")


def test_a_name_given_twice_is_seen_beside_a_whole_number_with_a_fraction() -> None:
    assert refusal(StrictDecoder(Whole), b'{"n":5.0,"n":6}') == (422, "/n")
