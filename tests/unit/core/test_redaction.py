"""What must not be stored, published or logged is taken out of a failure's text, and nothing else is."""

from __future__ import annotations

import re

import pytest

from orderflow.core.failures import DIGITS, PATTERNS, describe, redact
from tests.support.steps import Backtracker, lines_run

SECRETS = [
    ("connect to postgresql://me:geheim@db/orders", "connect to postgresql://me:***@db/orders"),
    ("postgresql://me:a@b@db/orders", "postgresql://me:***@db/orders"),
    ("redis://:geheim@cache", "redis://:***@cache"),
    ("host=db password=geheim user=me", "host=db password=*** user=me"),
    ("?token=geheim&page=2", "?token=***&page=2"),
    ("PGPASSWORD=geheim", "PGPASSWORD=***"),
    ("Server=db;Pwd=geheim;Timeout=3", "Server=db;Pwd=***;Timeout=3"),
    ("password='ge heim' user=me", "password='***' user=me"),
    ('{"client_secret": "ge heim", "id": 7}', '{"client_secret": "***", "id": 7}'),
    (r"{\"token\":\"geheim\",\"id\":7}", r'{\"token\":\"***",\"id\":7}'),
    ("api_key=geheim api-key: geheim apikey=geheim", "api_key=*** api-key: *** apikey=***"),
    ("secret='never closed", "secret='***"),
    ("Authorization: Bearer eyJhbGciOi.J9-_~+/=", "Authorization: Bearer ***"),
    ("{'Authorization': 'Basic bWU6Z2VoZWlt'}", "{'Authorization': 'Basic ***'}"),
    ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "signed with whsec_***"),
    ("key sk_test_51Abc refused", "key sk_*** refused"),
    ("write to jo.doe+shop@mail.example.com!", "write to ***!"),
    ("card 4242424242424242 declined", "card *** declined"),
    ("card 4242-4242-4242-4242, 12/26", "card ***, 12/26"),
    ("order 12 4242 4242 4242 4242 was paid", "order 12 *** was paid"),
    ("378282246310005/6011111111111117", "***/***"),
    ("4242 4242 4242 4242 006 has a card's number within", "*** has a card's number within"),
    ("a 19-digit one: 6304000000000000125", "a 19-digit one: ***"),
]
HARMLESS = [
    "orders: StockReserved cannot happen in state PENDING",
    "no payment of order 01981c5e-7a40-7000-8000-012345678901",
    "charged as ch_5f1d6cfc84c9e8d7 and as ch_0",
    "cannot connect to http://127.0.0.1:8001/orders",
    "2500 EUR are not 2600 EUR",
    "card 4242424242424241 has a wrong check digit",
    "424242424242 is too short, 42424242424242424242424242 too long",
    "the task_name is basic, the bearer left",
    "redis://cache@host.example/0 answers",
    "@ a@b @c.d. :// :@ tokens 5, secrets",
    "",
]


@pytest.mark.parametrize(("said", "shown"), SECRETS)
def test_a_secret_is_hidden_and_what_is_around_it_stays(said: str, shown: str) -> None:
    assert redact(said) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("said", HARMLESS)
def test_what_is_no_secret_stays(said: str) -> None:
    assert redact(said) == said


def steps_of(text: str) -> int:
    """What redacting costs: the steps of each pattern over what the ones before have left, and lines of Python."""
    steps = lines_run(lambda: redact(text))
    for pattern, hidden in (*PATTERNS, (DIGITS, r"\g<0>")):
        matcher = Backtracker(pattern)
        matcher.spans(text)
        steps += matcher.steps
        text = pattern.sub(hidden, text)
    return steps


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "1",
        "1 ",
        "4242 ",
        "a@",
        "a.",
        "a.b@c.",
        "://",
        "://a:",
        "password=",
        "password='",
        'token:"',
        "bearer ",
        "\\",
    ],
)
def test_hostile_text_takes_no_more_than_linear_time(part: str) -> None:
    short, long = (steps_of((part * length)[:length]) for length in (500, 2_000))

    assert long < 4.2 * short


def test_steps_are_counted_of_the_matches_that_re_finds() -> None:
    """Else the count would be of something else."""
    for said, _ in SECRETS:
        for pattern, _ in PATTERNS:
            assert Backtracker(pattern).spans(said) == [match.span() for match in pattern.finditer(said)]


def test_a_pattern_of_quadratic_time_is_seen() -> None:
    matchers = [Backtracker(re.compile(r"\w+@")) for _ in range(2)]
    for matcher, length in zip(matchers, (100, 400), strict=True):
        matcher.spans("a" * length)

    assert matchers[1].steps > 12 * matchers[0].steps


def test_a_failure_is_redacted_also_where_its_text_is_cut() -> None:
    filler = "x" * 470
    failures = [
        describe(ValueError("password=geheim")),
        describe(ValueError(f"{filler} postgresql://me:{'geheim' * 20}@db")),
        describe(ValueError(f"{filler} card 4242 4242 4242 4242 4242")),
    ]

    assert failures[0].message == "password=***"
    assert "geheim" not in failures[1].message
    assert "4242" not in failures[2].message.removesuffix("4242")
    assert all(len(failure.message) <= 500 for failure in failures)
