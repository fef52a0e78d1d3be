"""What a process does by its judgement of outages: who waits, who may be tried, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orderflow.core.circuit_breaker import (
    CONTRADICTED_S,
    GONE_S,
    NEGLECTED_S,
    REFUSALS_MAX,
    UNTRIED_EVERY_S,
    CircuitBreakers,
    admitted,
)
from orderflow.core.envelopes import Incoming, Result, from_parked, from_record
from orderflow.core.failures import PERMANENT, REMEMBERED_S, TRIALS_MAX, Verdict
from orderflow.core.inbox import Failure, ParkedEvent
from orderflow.core.retry import Backoff
from orderflow.core.telemetry import OutageJudged, OutageOver, Outcome, Signal, Signals
from tests.unit.core.still_clock import StillClock
from tests.unit.core.toy import Counted, Opened
from tests.unit.core.world import World, command, record_of

COUNTED = "toy.Counted.v1"
FAILED = Failure("unknown", "Boom", "no", "f")


def keys(count: int, start: int = 0) -> list[str]:
    return [f"k{start + n}" for n in range(count)]


class Watched:
    """A watch over one consumer, on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.seen: list[Signal] = []
        self.world = World()
        rng = random.Random(1)
        self.breakers = CircuitBreakers("s", "c", Backoff(100, 5_000), Signals([self.seen.append]), self.clock, rng)

    def incoming(self, key: str, *, opened: bool = False) -> Incoming:
        event = Opened(name=key) if opened else Counted(name=key, amount=1)
        return from_record(record_of(event, offset=0), self.world.service.catalogue)

    def results(
        self, outcome: Outcome, keys: Sequence[str], failure: Failure | None = None, *, opened: bool = False
    ) -> list[Result]:
        return [Result(self.incoming(key, opened=opened), outcome, failure=failure) for key in keys]

    def judged(self, count: int = 10) -> None:
        """An outage of `toy.Counted.v1`."""
        assert self.breakers.weigh(self.results(Outcome.PARKED, keys(count), FAILED)) is not None
        self.fail(*keys(count))

    def fail(self, *keys: str) -> None:
        self.breakers.learn(self.results(Outcome.DEFERRED, keys, FAILED))

    def succeed(self, *keys: str) -> None:
        self.breakers.learn(self.results(Outcome.HANDLED, keys))

    def probe(self) -> int:
        """Wait until it is time for a round; returns how many keys it may have."""
        self.clock.now += self.breakers.open[COUNTED].probe_in_s
        width = self.breakers.open[COUNTED].width
        assert [self.breakers.probe(COUNTED) for _ in range(width + 1)] == [True] * width + [False]
        return width


def test_an_outage_of_which_nothing_comes_up_any_more_is_over() -> None:
    """Another process has handled what failed here; nobody would ever say so."""
    watched = Watched()
    watched.judged()
    watched.clock.now += GONE_S - 1
    watched.breakers.nothing_left(COUNTED)
    assert COUNTED in watched.breakers.paused
    watched.clock.now += 2
    watched.breakers.nothing_left(COUNTED)
    assert watched.breakers.problem == ""
    assert [type(signal) for signal in watched.seen] == [OutageJudged, OutageOver]


def test_an_outage_that_an_operator_has_declared_does_not_end_by_silence() -> None:
    watched = Watched()
    watched.judged()
    watched.breakers.overrule({COUNTED: Verdict.OUTAGE})
    watched.clock.now += 2 * GONE_S
    watched.breakers.nothing_left(COUNTED)
    assert COUNTED in watched.breakers.paused


def test_what_fails_over_several_batches_is_judged_together() -> None:
    watched = Watched()
    for start in (0, 3):
        results = watched.results(Outcome.PARKED, keys(3, start), FAILED)
        watched.breakers.weigh(results)
        watched.breakers.learn(results)
    assert watched.breakers.paused == set()

    watched.breakers.weigh(watched.results(Outcome.PARKED, keys(2, 6), FAILED))

    assert watched.breakers.paused == {COUNTED}
    assert watched.seen == [OutageJudged("s", "c", COUNTED, "f", "Boom: no", 8, 8)]


def test_an_event_that_fails_alone_uses_up_its_attempt_and_two_that_fail_alike_do_not() -> None:
    watched = Watched()
    alone = watched.results(Outcome.PARKED, keys(1), FAILED)
    assert watched.breakers.weigh(alone) is None
    watched.breakers.learn(alone)

    other = watched.results(Outcome.PARKED, keys(1, 1), FAILED)
    assert watched.breakers.weigh(other) == frozenset({other[0].incoming.name})


@pytest.mark.parametrize("error", ["UndecodableError", "IllegalTransitionError"])
def test_what_is_certain_to_fail_again_is_poison_however_much_there_is(error: str) -> None:
    watched = Watched()
    certain = Failure(PERMANENT, error, "no reader", "u")

    assert watched.breakers.weigh(watched.results(Outcome.DEAD, keys(500), certain)) is None
    assert watched.breakers.paused == set()


def test_a_round_of_those_that_failed_waits_longer_each_time_up_to_the_ceiling() -> None:
    watched = Watched()
    watched.judged()
    waits: list[float] = []

    for n in range(12):
        waits.append(watched.breakers.open[COUNTED].probe_in_s)
        assert watched.probe() == 1
        watched.fail(f"k{n % 10}")

    assert waits[0] <= 0.1
    assert waits[4] > 2 * waits[1]
    assert all(2.5 <= wait <= 5 for wait in waits[-3:])


def test_while_they_succeed_rounds_double_and_then_it_is_over_and_all_before_is_forgotten() -> None:
    watched = Watched()
    watched.judged(30)
    watched.clock.now += 7
    widths: list[int] = []

    while watched.breakers.paused:
        width = watched.probe()
        watched.succeed(*keys(width, start=sum(widths)))
        widths.append(width)

    assert widths == [1, 2, 4, 8]
    assert watched.breakers.problem == ""
    assert watched.seen[-1] == OutageOver("s", "c", COUNTED, 7.0)
    assert not watched.breakers.is_troubled
    watched.breakers.weigh(watched.results(Outcome.PARKED, keys(7), FAILED))
    assert watched.breakers.paused == set()


def test_a_round_that_fails_begins_with_one_again() -> None:
    watched = Watched()
    watched.judged(30)
    watched.probe()
    watched.succeed("k0")
    assert watched.probe() == 2
    watched.fail("k1", "k2")

    assert watched.probe() == 1


def test_a_round_of_which_most_succeed_goes_on_although_some_are_poison() -> None:
    watched = Watched()
    watched.judged(30)
    watched.probe()
    watched.succeed("k0")
    watched.probe()
    watched.succeed("k1", "k2")
    assert watched.probe() == 4
    watched.breakers.learn(
        [
            *watched.results(Outcome.DEFERRED, ["k3"], FAILED),
            *watched.results(Outcome.HANDLED, ["k4", "k5", "k6"]),
        ]
    )

    assert watched.probe() == 8


def test_it_is_over_when_no_key_that_failed_is_left() -> None:
    watched = Watched()
    watched.judged(8)

    watched.succeed(*keys(8))

    assert watched.breakers.paused == set()


def test_what_was_tried_and_told_nothing_is_followed_by_another_at_once() -> None:
    watched = Watched()
    watched.judged()
    watched.probe()

    watched.breakers.learn(watched.results(Outcome.DUPLICATE, ["k1"]))

    assert watched.breakers.open[COUNTED].probe_in_s == 0


def test_a_key_that_has_not_failed_may_always_go_and_one_that_has_when_it_is_its_turn() -> None:
    watched = Watched()
    watched.judged()
    watched.fail("k0")
    assert watched.breakers.open[COUNTED].probe_in_s > 0

    assert watched.breakers.may_go(watched.incoming("new"))
    assert watched.breakers.may_go(watched.incoming("k1", opened=True))
    assert not watched.breakers.may_go(watched.incoming("k1"))
    watched.clock.now += watched.breakers.open[COUNTED].probe_in_s
    assert watched.breakers.may_go(watched.incoming("k1"))
    assert not watched.breakers.may_go(watched.incoming("k2"))


def test_when_others_succeed_those_that_failed_are_tried_at_once_and_in_the_end_they_are_poison() -> None:
    watched = Watched()
    watched.judged()
    watched.fail("k0")

    watched.succeed("other")
    assert watched.breakers.open[COUNTED].probe_in_s == 0
    watched.probe()
    watched.fail("k1")
    assert (
        "other keys succeed: unless one of these does within 30 s, they are treated as poison"
        in watched.breakers.problem
    )
    watched.clock.now += CONTRADICTED_S
    watched.fail("k2")

    assert watched.breakers.paused == set()
    assert watched.seen[-1] == OutageOver("s", "c", COUNTED, CONTRADICTED_S, poison=10)
    assert watched.breakers.weigh(watched.results(Outcome.PARKED, keys(10), FAILED)) is None
    assert watched.breakers.paused == set()


def test_a_key_that_heals_meanwhile_gives_the_others_time() -> None:
    watched = Watched()
    watched.judged(30)
    watched.succeed("other")
    watched.clock.now += CONTRADICTED_S - 1
    watched.succeed("k0")
    watched.clock.now += 2

    watched.fail("k1")

    assert watched.breakers.paused == {COUNTED}


def test_the_other_types_are_not_concerned() -> None:
    watched = Watched()
    handled = watched.results(Outcome.HANDLED, keys(50), opened=True)

    watched.breakers.weigh([*handled, *watched.results(Outcome.PARKED, keys(20), FAILED)])

    assert watched.breakers.paused == {COUNTED}


def test_the_verdict_is_told_in_one_sentence_with_its_evidence() -> None:
    watched = Watched()
    watched.judged(12)
    watched.clock.now += 30

    assert watched.breakers.problem == (
        "outage of toy.Counted.v1 for 30 s: 12 of 12 keys failed alike with Boom: no (group f); their events wait, "
        "and 1 of them is tried again in 0.0 s; other keys are processed as usual"
    )


def test_how_many_are_tried_next_is_told() -> None:
    watched = Watched()
    watched.judged(12)
    watched.probe()
    watched.succeed("k0")

    assert "their events wait, and 2 of them are tried again in 0.0 s" in watched.breakers.problem


def test_a_retry_that_fails_otherwise_is_told_too() -> None:
    watched = Watched()
    watched.judged()

    watched.fail("k1")
    assert "lately" not in watched.breakers.problem
    watched.breakers.learn(watched.results(Outcome.DEFERRED, ["k1"], Failure("unknown", "Bang", "why", "g")))

    assert "failed alike with Boom: no (group f), lately with Bang: why; their" in watched.breakers.problem


def test_an_outage_that_nobody_probes_is_neglected_after_a_while() -> None:
    watched = Watched()
    watched.judged()
    assert not watched.breakers.is_neglected(COUNTED)

    watched.clock.now += 0.1 + NEGLECTED_S

    assert watched.breakers.is_neglected(COUNTED)


def test_where_the_database_refuses_much_untried_keys_wait_a_moment_and_then_go() -> None:
    watched = Watched()
    watched.judged()
    new = watched.incoming("new")
    for _ in range(REFUSALS_MAX):
        assert watched.breakers.may_go(new)
        watched.breakers.refused([new])

    assert not watched.breakers.may_go(new)
    assert watched.breakers.open[COUNTED].untried_in_s == UNTRIED_EVERY_S
    watched.clock.now += UNTRIED_EVERY_S
    assert watched.breakers.may_go(new)
    watched.clock.now += 10
    assert watched.breakers.open[COUNTED].untried_in_s == 0.0


def test_an_operator_says_that_it_is_poison() -> None:
    watched = Watched()
    watched.judged()

    watched.breakers.overrule({COUNTED: Verdict.POISON})

    assert watched.breakers.paused == set()
    assert watched.seen[-1] == OutageOver("s", "c", COUNTED, 0.0, poison=10)
    assert watched.breakers.weigh(watched.results(Outcome.PARKED, keys(50, 50), FAILED)) is None
    assert watched.breakers.paused == set()


def test_an_operator_says_that_it_is_an_outage() -> None:
    watched = Watched()
    watched.breakers.overrule({COUNTED: Verdict.OUTAGE})
    assert watched.breakers.paused == set()

    watched.breakers.weigh(watched.results(Outcome.PARKED, keys(1), FAILED))
    watched.fail("k0")
    watched.succeed("other")
    watched.clock.now += 10 * CONTRADICTED_S
    watched.fail("k0")

    assert watched.breakers.paused == {COUNTED}
    assert "no (group f); an operator declared it an outage; their" in watched.breakers.problem
    assert "poison" not in watched.breakers.problem


def test_what_is_judged_and_what_is_in_doubt_is_listed() -> None:
    watched = Watched()
    watched.judged()
    watched.breakers.learn(watched.results(Outcome.PARKED, keys(3), FAILED, opened=True))
    watched.clock.now += 3

    outage, doubt = watched.breakers.standings()

    assert (outage.event_type, outage.evidence.failing, outage.for_s) == (COUNTED, 10, 3.0)
    assert (doubt.event_type, doubt.evidence.failing, doubt.for_s) == ("toy.Opened.v1", 3, None)
    assert watched.breakers.is_troubled


def test_one_that_fails_alone_is_not_listed() -> None:
    watched = Watched()
    watched.breakers.learn(watched.results(Outcome.PARKED, keys(1), FAILED))

    assert watched.breakers.standings() == []
    assert watched.breakers.is_troubled


OPENED = "toy.Opened.v1"


def test_two_outages_are_told_one_after_the_other() -> None:
    watched = Watched()
    watched.judged()
    watched.breakers.weigh(watched.results(Outcome.PARKED, keys(8), FAILED, opened=True))

    assert watched.breakers.paused == {COUNTED, OPENED}
    assert (
        "; other keys are processed as usual; outage of toy.Opened.v1 for 0 s: 8 of 8 keys"
        in watched.breakers.problem
    )


def test_it_is_troubled_while_an_outage_lasts_however_long_nothing_was_tried() -> None:
    watched = Watched()
    assert not watched.breakers.is_troubled
    watched.judged()
    watched.clock.now += REMEMBERED_S + 1

    assert watched.breakers.is_troubled


def test_it_is_troubled_when_one_of_several_types_fails() -> None:
    watched = Watched()
    watched.breakers.learn(watched.results(Outcome.HANDLED, keys(3), opened=True))
    assert not watched.breakers.is_troubled
    watched.fail("k0")

    assert watched.breakers.is_troubled


def test_two_that_fail_alike_are_listed_until_something_of_the_type_succeeds() -> None:
    watched = Watched()
    watched.fail("k0", "k1")
    assert [(each.event_type, each.evidence.failing) for each in watched.breakers.standings()] == [(COUNTED, 2)]

    watched.succeed("other")
    assert watched.breakers.standings() == []


def test_where_all_goes_well_nothing_is_listed() -> None:
    watched = Watched()
    watched.succeed("k0")
    assert watched.breakers.standings() == []


def test_an_operator_may_say_that_it_is_poison_before_anything_is_judged() -> None:
    watched = Watched()
    watched.breakers.overrule({COUNTED: Verdict.POISON})
    assert (watched.breakers.paused, watched.seen) == (set(), [])


def test_an_outage_by_an_operators_word_begins_with_something_that_fails() -> None:
    watched = Watched()
    watched.fail("k0")
    watched.breakers.overrule({COUNTED: Verdict.OUTAGE})

    assert watched.breakers.weigh(watched.results(Outcome.HANDLED, ["other"])) is None
    assert watched.breakers.paused == set()
    assert watched.breakers.weigh(watched.results(Outcome.PARKED, ["k1"], FAILED)) is not None
    assert watched.breakers.paused == {COUNTED}


def test_a_failure_at_the_front_of_a_large_batch_is_remembered_and_so_is_a_success() -> None:
    watched = Watched()
    many = watched.results(Outcome.HANDLED, keys(TRIALS_MAX, 100))
    watched.breakers.learn([*watched.results(Outcome.PARKED, ["k0"], FAILED), *many])
    assert watched.breakers.is_troubled

    watched.breakers.learn([*watched.results(Outcome.HANDLED, ["k0"]), *many])
    assert not watched.breakers.is_troubled


def test_successes_before_anything_failed_count_among_what_was_tried() -> None:
    watched = Watched()
    watched.succeed(*keys(8, 100))
    watched.breakers.weigh(watched.results(Outcome.PARKED, keys(8), FAILED))
    assert watched.breakers.paused == set()


def test_of_more_failing_keys_than_are_remembered_those_are_in_doubt_that_failed_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orderflow.core.failures.FAILING_MAX", 2)
    watched = Watched()
    results = watched.results(Outcome.PARKED, keys(3), FAILED)

    assert watched.breakers.weigh(results) == frozenset(each.incoming.name for each in results[1:])


def test_only_what_has_failed_with_a_type_in_outage_waits_for_its_end() -> None:
    watched = Watched()
    watched.fail("k0")
    assert not watched.breakers.waits(watched.incoming("k0"))
    watched.judged()
    assert watched.breakers.waits(watched.incoming("k0"))
    assert not watched.breakers.waits(watched.incoming("other"))


def test_before_its_time_no_key_that_failed_may_be_tried() -> None:
    watched = Watched()
    watched.judged()
    watched.fail("k0")
    assert not watched.breakers.probe(COUNTED)
    watched.clock.now += watched.breakers.open[COUNTED].probe_in_s
    assert watched.breakers.probe(COUNTED)


def test_where_no_outage_is_nothing_is_left_to_end() -> None:
    watched = Watched()
    watched.breakers.nothing_left(COUNTED)
    assert watched.seen == []


def test_with_nothing_left_to_probe_it_ends_when_others_succeed_or_after_so_long() -> None:
    contradicted, silent = Watched(), Watched()
    for watched in (contradicted, silent):
        watched.judged()
        watched.breakers.nothing_left(COUNTED)
        assert watched.breakers.paused == {COUNTED}
    contradicted.succeed("other")
    contradicted.breakers.nothing_left(COUNTED)
    assert contradicted.breakers.paused == set()
    silent.clock.now += silent.breakers.open[COUNTED].probe_in_s + GONE_S
    silent.breakers.nothing_left(COUNTED)
    assert silent.breakers.paused == set()


def test_what_is_gone_and_never_failed_here_begins_no_round() -> None:
    watched = Watched()
    watched.judged()
    watched.fail("k0")
    wait_s = watched.breakers.open[COUNTED].probe_in_s

    watched.breakers.learn(watched.results(Outcome.DUPLICATE, ["stranger"]))

    assert watched.breakers.open[COUNTED].probe_in_s == wait_s > 0


def test_what_is_dead_casts_no_doubt_on_what_fails_alike() -> None:
    watched = Watched()
    watched.fail("k0", "k1")
    assert len(watched.breakers.standings()) == 1
    watched.breakers.learn(watched.results(Outcome.DEAD, ["k1"], FAILED))
    assert watched.breakers.standings() == []


def test_another_key_that_succeeds_beside_one_that_fails_again_speaks_against_it_and_one_that_heals_does_not() -> (
    None
):
    healing, others = Watched(), Watched()
    for watched in (healing, others):
        watched.judged(30)
        good = "k0" if watched is healing else "other"
        watched.breakers.learn(
            [*watched.results(Outcome.HANDLED, [good]), *watched.results(Outcome.DEFERRED, ["k1", "k2"], FAILED)]
        )
    assert "other keys succeed" not in healing.breakers.problem
    assert "other keys succeed" in others.breakers.problem


@pytest.mark.parametrize("outcome", [Outcome.DUPLICATE, Outcome.DEAD, Outcome.IGNORED])
def test_it_is_over_when_all_that_failed_is_gone(outcome: Outcome) -> None:
    watched = Watched()
    watched.judged(8)
    watched.breakers.learn(watched.results(outcome, keys(8)))
    assert watched.breakers.paused == set()


def test_what_was_not_tried_tells_nothing() -> None:
    watched = Watched()
    watched.fail("k0", "k1")
    watched.breakers.learn(watched.results(Outcome.HELD, ["other"]))
    assert len(watched.breakers.standings()) == 1


def test_a_command_tells_nothing_of_outages() -> None:
    watched = Watched()
    commands = [command(key) for key in keys(3)]
    watched.breakers.learn([Result(each, Outcome.REFUSED, failure=FAILED) for each in commands])
    assert not watched.breakers.is_troubled


def retried(watched: Watched, key: str, replays: int = 0) -> Incoming:
    """The same event, parked, and tried again."""
    first = watched.incoming(key)
    assert first.record is not None
    parked = ParkedEvent(
        key=key,
        identity=first.identity,
        event_id=first.event_id,
        event_type=first.event_type,
        record=first.record,
        attempts=1,
        replays=replays,
    )
    return from_parked(parked, watched.world.service.catalogue)


def test_retries_that_fail_while_others_succeed_are_no_outage_however_many() -> None:
    watched = Watched()
    watched.fail(*keys(7))
    watched.clock.now += 60
    watched.succeed("other")

    again = [Result(retried(watched, key), Outcome.PARKED, failure=FAILED) for key in keys(7)]
    watched.breakers.weigh([*again, *watched.results(Outcome.PARKED, ["k7"], FAILED)])

    assert watched.breakers.paused == set()


@pytest.mark.parametrize(("replays", "troubled"), [(0, True), (1, False)])
def test_a_retry_that_fails_is_remembered_and_an_operators_replay_is_not(replays: int, troubled: bool) -> None:
    watched = Watched()
    watched.breakers.learn([Result(retried(watched, "k0", replays), Outcome.PARKED, failure=FAILED)])
    assert watched.breakers.is_troubled is troubled


def test_what_is_certain_to_fail_again_is_not_remembered() -> None:
    watched = Watched()
    watched.breakers.learn(watched.results(Outcome.DEAD, keys(3), Failure(PERMANENT, "FinalError", "never", "f")))
    assert not watched.breakers.is_troubled


def test_of_what_is_in_doubt_only_what_failed_uses_up_no_attempt() -> None:
    watched = Watched()
    failed = watched.results(Outcome.PARKED, keys(2), FAILED)
    behind = watched.results(Outcome.HELD, ["k0"])
    free = watched.breakers.weigh([*failed, *behind])
    assert free == frozenset(each.incoming.name for each in failed)


def test_of_a_batch_those_may_be_tried_that_do_not_wait_behind_another_of_their_key() -> None:
    watched = Watched()
    watched.judged()
    watched.fail("k0")
    batch = [
        watched.incoming("k0"),
        watched.incoming("k0", opened=True),
        watched.incoming("before", opened=True),
        watched.incoming("new"),
        command("k0"),
    ]
    behind = {"before"}

    assert admitted(batch, watched.breakers, behind) == [3, 4]
    assert behind == {"before", "k0"}
