"""Who is let in: by name, page and rate. Over real sockets the same stands in tests/integration/test_access.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orderflow.core.access import ANONYMOUS, STRANGER, Caller, CannotVerifyError, InvalidTokenError, Role
from orderflow.http.gate import KEYS_MAX, Ends, Gate, RateLimit
from orderflow.http.problems import ProblemError

ANNA = Caller("anna", frozenset({Role.OPERATOR}))
HERE = Ends("127.0.0.1")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def verify(bearer: str) -> Caller:
    if bearer == "anna":
        return ANNA
    if bearer == "later":
        raise CannotVerifyError("the keys are being read")
    raise InvalidTokenError('This "token" is not known here.')


def gate(host: str = "127.0.0.1", **given: Any) -> Gate:
    return Gate(host, verify, Clock(), **given)


def refused(at: Gate, headers: Mapping[bytes, bytes], ends: Ends = HERE) -> ProblemError:
    with pytest.raises(ProblemError) as raised:
        at.admit(headers, ends)
    return raised.value


@pytest.mark.parametrize(
    ("host", "given", "caller"),
    [
        ("127.0.0.1", {}, ANONYMOUS),
        ("::1", {}, ANONYMOUS),
        ("localhost", {}, ANONYMOUS),
        ("127.0.0.1", {"anonymous": False}, STRANGER),
        ("0.0.0.0", {}, STRANGER),
        ("192.0.2.7", {}, STRANGER),
        ("0.0.0.0", {"insecure": True}, ANONYMOUS),
        ("0.0.0.0", {"insecure": True, "anonymous": False}, STRANGER),
    ],
)
def test_who_shows_no_token_is_anonymous_where_only_this_machine_comes_in(
    host: str, given: dict[str, bool], caller: Caller
) -> None:
    assert gate(host, **given).admit({b"host": b"localhost"}, HERE) == caller


def test_a_caller_is_told_by_its_token() -> None:
    assert gate().admit({b"authorization": b"Bearer anna"}, HERE) == ANNA
    assert gate().admit({b"authorization": b"bearer  anna "}, HERE) == ANNA
    unknown = refused(gate(), {b"authorization": b"Bearer other"})
    assert (unknown.problem.status, unknown.problem.type) == (401, "/docs/problems/unauthenticated")
    assert unknown.headers == (
        (
            b"www-authenticate",
            b'Bearer realm="orderflow", error="invalid_token", error_description="This token is not known here"',
        ),
    )
    for shown in (b"anna", b"Basic anna", b"", b"Bearer \xff", b"Bearer anna, Bearer anna"):
        assert refused(gate(), {b"authorization": shown}).problem.status == 401, shown
    later = refused(gate(), {b"authorization": b"Bearer later"})
    assert (later.problem.status, later.headers) == (503, ((b"retry-after", b"1"),))


@pytest.mark.parametrize("name", [b"10.0.0.5", b"10.0.0.5:8001", b"LOCALHOST", b"orders.example:443", b"[::1]:80"])
def test_the_names_of_this_machine_the_address_that_was_asked_and_those_allowed_are_served(name: bytes) -> None:
    gate("0.0.0.0", names=("orders.example",)).admit({b"host": name}, Ends("10.0.0.5"))


@pytest.mark.parametrize("name", [b"10.0.0.6", b"evil.example", b"orders.example.evil", b"[::2]", b"0.0.0.0.nip.io"])
def test_any_other_name_is_misdirected(name: bytes) -> None:
    problem = refused(gate("0.0.0.0", names=("orders.example",)), {b"host": name}, Ends("10.0.0.5")).problem
    assert (problem.status, problem.type) == (421, "/docs/problems/misdirected-request")


def test_an_address_of_ipv6_is_counted_with_its_network_and_loopback_only_if_somebody_says_so() -> None:
    assert gate().ends(("127.0.0.1", 1), ("127.0.0.1", 2)) == Ends("127.0.0.1")
    assert gate(address_rate=5).ends(("127.0.0.1", 1), ("127.0.0.1", 2)) == Ends("127.0.0.1", "127.0.0.1")
    assert gate("::").ends(("::1", 1, 0, 0), ("2001:db8::7:1", 2, 0, 0)) == Ends("::1", "2001:db8::/64")
    assert gate("::").ends(("::1", 1, 0, 0), ("::ffff:192.0.2.7", 2, 0, 0)) == Ends("::1", "192.0.2.7")
    assert gate().ends(None, "/a/socket") == Ends()


def test_beyond_loopback_an_address_has_a_bound_without_a_setting() -> None:
    door = gate("0.0.0.0")
    ends = door.ends(("10.0.0.5", 1), ("10.0.0.9", 2))
    for _ in range(1000):
        door.admit({b"host": b"localhost"}, ends)
    problem = refused(door, {b"host": b"localhost"}, ends)
    assert (problem.problem.status, problem.headers) == (429, ((b"retry-after", b"1"),))
    door.admit({b"host": b"localhost"}, door.ends(("10.0.0.5", 1), ("10.0.0.8", 2)))


def test_a_bucket_fills_again_as_time_passes_and_never_over() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert [limit.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    clock.now_s += 0.5
    assert [limit.wait_s("a") for _ in range(2)] == [0.0, 0.5]
    clock.now_s += 3600
    assert [limit.wait_s("a") for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limit.wait_s("b") == 0.0


def test_as_many_keys_as_may_come_take_bounded_memory() -> None:
    limit = RateLimit(1, Clock())
    limit.wait_s("kept")
    for number in range(KEYS_MAX + 100):
        assert limit.wait_s(f"key {number}") == 0.0
        assert limit.wait_s("kept") > 0
    assert len(limit) <= KEYS_MAX + 1
