from __future__ import annotations

import json

import pytest

from orderflow.core.kafka.membership import UNJOINED_PATIENCE_S, GroupState, MembershipWatch, MemberState

LOST_AFTER_S = 15.0


def verdicts(membership: MembershipWatch, seconds: int, *, start: int = 0, **seen: bool) -> list[MemberState]:
    """One look a second."""
    facts = {"joined": False, "answered": True, "holds": False} | seen
    return [membership.judge(float(start + second), **facts) for second in range(seconds)]


@pytest.mark.parametrize(
    ("state", "join_state", "joined"),
    [
        ("up", "steady", True),
        ("up", "wait-incr-unassign-to-complete", False),
        ("up", "wait-join", False),
        ("query-coord", "steady", False),
        ("wait-coord", "init", False),
    ],
)
def test_a_member_has_a_coordinator_and_an_assignment(state: str, join_state: str, joined: bool) -> None:
    statistics = {"name": "client", "brokers": {}, "cgrp": {"state": state, "join_state": join_state, "stateage": 1}}
    assert GroupState.of(json.dumps(statistics)).joined is joined


def test_a_client_that_is_not_in_the_group_yet_is_no_member() -> None:
    assert not GroupState.of('{"name": "client"}').joined


def test_a_member_is_well_however_long_it_has_no_partitions() -> None:
    assert set(verdicts(MembershipWatch(LOST_AFTER_S), 1000, joined=True)) == {MemberState.WELL}


def test_who_does_not_become_a_member_is_stuck_and_then_lost() -> None:
    found = verdicts(MembershipWatch(LOST_AFTER_S), 16)
    patience = int(UNJOINED_PATIENCE_S)
    assert found == [MemberState.WAITING] * patience + [MemberState.STUCK] * (15 - patience) + [MemberState.LOST]


def test_a_rebalance_that_leaves_the_partitions_in_place_is_no_trouble_before_it_is_lost() -> None:
    found = verdicts(MembershipWatch(LOST_AFTER_S), 16, holds=True)
    assert found == [MemberState.WAITING] * 15 + [MemberState.LOST]


def test_a_client_after_a_lost_one_has_twice_the_time_until_one_becomes_a_member() -> None:
    membership = MembershipWatch(LOST_AFTER_S)
    lost = [second for second, verdict in enumerate(verdicts(membership, 400)) if verdict is MemberState.LOST]
    assert lost == [15, 45, 105, 225, 345]
    membership.judge(400.0, joined=True, answered=True, holds=True)
    assert verdicts(membership, 15, start=401).count(MemberState.LOST) == 1


def test_while_the_brokers_do_not_answer_no_client_is_lost() -> None:
    membership = MembershipWatch(LOST_AFTER_S)
    assert set(verdicts(membership, 1000, answered=False)) == {MemberState.WAITING}
    assert verdicts(membership, 7, start=1000) == [MemberState.WAITING] * 7


def test_the_time_in_which_the_process_was_stopped_does_not_count() -> None:
    membership = MembershipWatch(LOST_AFTER_S)
    assert membership.judge(0.0, joined=False, answered=True, holds=False) is MemberState.WAITING
    assert membership.judge(1000.0, joined=False, answered=True, holds=False) is MemberState.WAITING
