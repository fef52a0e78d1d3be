"""What befalls whom, and when."""

from __future__ import annotations

import itertools

import pytest

from orderflow.chaos import plan
from orderflow.chaos.plan import CLOCK, FREEZE, KAFKA_ONLY, KINDS, QUIET, TROUBLES, Planned
from orderflow.core.engine import EngineConfig

SEEDS = range(25)
TWO_MINUTES, AN_HOUR = 120.0, 3600.0


def planned(seed: int, seconds: float = TWO_MINUTES, *, kafka: bool = True, brokers: int = 1) -> list[Planned]:
    return plan.plan(seed, seconds, KINDS, kafka=kafka, brokers=brokers)


def test_the_same_seed_is_the_same_plan_and_another_seed_is_another() -> None:
    assert planned(7) == planned(7)
    assert planned(7) != planned(8)


@pytest.mark.parametrize("kafka", [True, False])
def test_every_kind_happens_in_two_minutes_where_the_log_knows_it(kafka: bool) -> None:
    wanted = set(KINDS) if kafka else set(KINDS) - KAFKA_ONLY

    assert [seed for seed in SEEDS if {each.kind for each in planned(seed, kafka=kafka)} != wanted] == []


def test_all_begin_within_the_load() -> None:
    for seconds in (TWO_MINUTES, AN_HOUR):
        assert [each for seed in SEEDS for each in planned(seed, seconds) if not 0 < each.at_s < seconds] == []


def test_the_broker_is_frozen_first_and_in_an_hour_for_two_minutes() -> None:
    first = {(each[0].kind, each[0].target, each[0].lasts_s) for seed in SEEDS if (each := planned(seed, AN_HOUR))}

    assert first == {(FREEZE, "broker", plan.LONGEST_S)}


def test_freezes_last_from_one_second_to_two_minutes_and_in_an_hour_everyone_is_frozen() -> None:
    freezes = [each for seed in SEEDS for each in planned(seed, AN_HOUR) if each.kind == FREEZE]

    assert all(plan.SHORTEST_S <= each.lasts_s <= plan.LONGEST_S for each in freezes)
    assert {each.target for each in freezes} >= {*plan.SERVICES, "postgres", "backend", "broker", "up"}


def test_what_wants_quiet_begins_when_all_others_have_ended() -> None:
    for seed in SEEDS:
        faults = planned(seed, AN_HOUR)
        for number, fault in enumerate(faults):
            if fault.kind in QUIET:
                assert all(each.at_s + each.lasts_s <= fault.at_s for each in faults[:number])


def test_some_faults_overlap() -> None:
    faults = planned(1, AN_HOUR)

    assert any(one.at_s + one.lasts_s > next_.at_s for one, next_ in itertools.pairwise(faults))


def test_the_network_is_troubled_in_every_way() -> None:
    found = {each.how for seed in SEEDS for each in planned(seed, AN_HOUR) if each.kind == plan.NETWORK}

    assert found == set(TROUBLES)


def test_of_several_brokers_each_has_its_turn() -> None:
    targets = {each.target for seed in SEEDS for each in planned(seed, AN_HOUR, brokers=3)}

    assert targets >= {"broker-1", "broker-2", "broker-3"}


def test_only_the_kinds_that_are_asked_for() -> None:
    faults = plan.plan(1, AN_HOUR, ["kill"], kafka=True)

    assert {each.kind for each in faults} == {"kill"}
    assert plan.plan(1, AN_HOUR, ["topics"], kafka=False) == []


def test_the_clocks_of_the_database_and_of_the_services_jump_farther_than_anything_waits() -> None:
    clocks = [each for seed in SEEDS for each in planned(seed, AN_HOUR) if each.kind == CLOCK]
    longest_s = EngineConfig().longest_wait_ms / 1000
    ahead = {each.target for each in clocks if each.amount > longest_s}
    back = {each.target for each in clocks if each.amount < -longest_s}
    assert ahead == back == {"services", plan.POSTGRES}
