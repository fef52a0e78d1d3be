"""Outage or poison: the judgement as a table, and what a process does by it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from orderflow.messaging.failures import PERMANENT
from orderflow.messaging.inbox import Failure
from orderflow.messaging.incoming import from_record
from orderflow.messaging.outage import Trial, judge
from orderflow.messaging.outage_watch import NEGLECTED_S, TRIALS_MAX, WINDOW_S, OutageWatch
from orderflow.messaging.result import Result
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import OutageJudged, OutageOver, Outcome, Signal, Signals
from tests.unit.messaging.still_clock import StillClock
from tests.unit.messaging.toy import Counted, Opened
from tests.unit.messaging.world import World, record_of


def failed(fingerprint: str) -> Failure:
    return Failure("unknown", "Boom", "no", fingerprint)


def trials(failing: int, fine: int, *, event_type: str = "t", fingerprint: str = "f", start: int = 0) -> list[Trial]:
    """`failing` keys that fail alike, then `fine` ones that do not."""
    bad = [Trial(event_type, f"k{start + n}", failed(fingerprint), 50.0 + n) for n in range(failing)]
    return bad + [Trial(event_type, f"k{start + failing + n}", None, 90.0) for n in range(fine)]


@pytest.mark.parametrize(
    ("tried", "outage"),
    [
        pytest.param(trials(1, 0), [], id="one event, alone"),
        pytest.param(trials(1, 499), [], id="an isolated poison event"),
        pytest.param(trials(5, 495), [], id="1 % poison in 500"),
        pytest.param(trials(150, 350), [], id="30 % share"),
        pytest.param(trials(250, 250), [], id="exactly half"),
        pytest.param(trials(251, 249), ["t"], id="more than half"),
        pytest.param(trials(7, 0), [], id="all of too few keys"),
        pytest.param(trials(8, 0), ["t"], id="all of just enough keys"),
        pytest.param(trials(8, 7), ["t"], id="just enough keys, just over half"),
        pytest.param(trials(8, 8), [], id="just enough keys, half"),
        pytest.param(
            trials(7, 0) + trials(7, 0, fingerprint="g", start=7), [], id="two failures, each of too few keys"
        ),
        pytest.param(
            trials(10, 0) + trials(10, 0, fingerprint="g", start=10), [], id="two failures, half of the keys each"
        ),
        pytest.param(trials(20, 0) + trials(8, 0, fingerprint="g", start=20), ["t"], id="two failures, one prevails"),
        pytest.param([*trials(1, 0)] * 30, [], id="one key, tried often"),
        pytest.param(trials(20, 0) + trials(0, 20), [], id="keys that failed and were handled since"),
        pytest.param(trials(0, 20) + trials(20, 0), ["t"], id="keys that were handled and have failed since"),
        pytest.param(trials(20, 0) + trials(0, 500, event_type="u"), ["t"], id="all keys of one of two types"),
        pytest.param(trials(20, 0) + trials(20, 0, event_type="u"), ["t", "u"], id="all keys of all types"),
    ],
)
def test_many_keys_that_fail_alike_are_an_outage_and_an_isolated_one_is_not(
    tried: Sequence[Trial], outage: Sequence[str]
) -> None:
    assert [evidence.event_type for evidence in judge(tried)] == outage


def test_the_verdict_comes_with_its_evidence() -> None:
    [evidence] = judge(trials(9, 3))

    assert (evidence.fingerprint, evidence.error) == ("f", "Boom: no")
    assert (evidence.failing, evidence.tried, evidence.since) == (9, 12, 50.0)


class Watched:
    """A watch over one consumer, on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.seen: list[Signal] = []
        self.world = World()
        chance = random.Random(1)
        self.watch = OutageWatch("s", "c", Backoff(100, 5_000), Signals([self.seen.append]), self.clock, chance)

    def results(
        self, outcome: Outcome, keys: Sequence[str], failure: Failure | None = None, *, opened: bool = False
    ) -> list[Result]:
        events = [Opened(name=key) if opened else Counted(name=key, amount=1) for key in keys]
        records = [record_of(event, offset=n) for n, event in enumerate(events)]
        return [Result(from_record(each, self.world.service.catalogue), outcome, failure=failure) for each in records]

    def judged(self, count: int = 10) -> None:
        """An outage of `toy.Counted.v1`."""
        assert self.watch.judge(self.results(Outcome.PARKED, keys(count), failed("f")))
        self.watch.learn(self.results(Outcome.DEFERRED, keys(count), failed("f")))


COUNTED = "toy.Counted.v1"


def keys(count: int, start: int = 0) -> list[str]:
    return [f"k{start + n}" for n in range(count)]


def test_what_fails_over_several_batches_is_judged_together() -> None:
    watched = Watched()
    for start in (0, 3):
        results = watched.results(Outcome.PARKED, keys(3, start), failed("f"))
        assert not watched.watch.judge(results)
        watched.watch.learn(results)

    assert watched.watch.judge(watched.results(Outcome.PARKED, keys(2, 6), failed("f")))

    assert watched.watch.paused == {COUNTED}
    assert watched.seen == [OutageJudged("s", "c", COUNTED, "f", "Boom: no", 8, 8)]


def test_what_failed_longer_ago_than_the_window_proves_nothing() -> None:
    watched = Watched()
    watched.watch.learn(watched.results(Outcome.PARKED, keys(7), failed("f")))
    watched.clock.now += WINDOW_S + 1

    assert not watched.watch.judge(watched.results(Outcome.PARKED, keys(7, 7), failed("f")))


def test_an_outage_that_begins_under_full_load_is_judged_after_so_many_failures() -> None:
    watched = Watched()
    for _ in range(20):
        watched.watch.learn(watched.results(Outcome.HANDLED, keys(500)))

    assert not watched.watch.judge(watched.results(Outcome.PARKED, keys(TRIALS_MAX, 1_000), failed("f")))
    assert watched.watch.judge(watched.results(Outcome.PARKED, keys(TRIALS_MAX + 1, 1_000), failed("f")))


def test_what_cannot_be_decoded_is_poison_however_much_there_is() -> None:
    watched = Watched()
    undecodable = Failure(PERMANENT, "UndecodableError", "no reader", "u")

    assert not watched.watch.judge(watched.results(Outcome.DEAD, keys(500), undecodable))


def test_one_may_probe_when_it_is_time_and_a_failed_probe_waits_longer_up_to_the_ceiling() -> None:
    watched = Watched()
    watched.judged()
    waits: list[float] = []

    for n in range(12):
        waits.append(watched.watch.probe_in_s(COUNTED))
        assert not watched.watch.may_probe(COUNTED)
        watched.clock.now += waits[-1]
        assert watched.watch.may_probe(COUNTED)
        assert not watched.watch.may_probe(COUNTED)
        watched.watch.learn(watched.results(Outcome.DEFERRED, [f"k{n}"], failed("f")))

    assert 0.05 <= waits[0] <= 0.1
    assert waits[3] > 2 * waits[0]
    assert all(2.5 <= wait <= 5 for wait in waits[-3:])


def test_a_probe_that_succeeds_ends_the_outage_and_what_was_tried_before_is_forgotten() -> None:
    watched = Watched()
    watched.judged()
    watched.clock.now += 7
    assert watched.watch.may_probe(COUNTED)

    watched.watch.learn(watched.results(Outcome.HANDLED, ["k1"]))

    assert watched.watch.paused == set()
    assert watched.watch.problem == ""
    assert watched.seen[-1] == OutageOver("s", "c", COUNTED, 7.0)
    assert not watched.watch.judge(watched.results(Outcome.PARKED, keys(7), failed("f")))


def test_what_succeeds_in_the_judged_batch_is_no_probe() -> None:
    watched = Watched()
    watched.judged()

    watched.watch.learn(watched.results(Outcome.HANDLED, ["other"]))

    assert watched.watch.paused == {COUNTED}


def test_a_probe_that_told_nothing_is_followed_by_another_at_once() -> None:
    watched = Watched()
    watched.judged()
    watched.clock.now += 1
    assert watched.watch.may_probe(COUNTED)

    watched.watch.learn(watched.results(Outcome.DUPLICATE, ["k1"]))

    assert watched.watch.probe_in_s(COUNTED) == 0


def test_the_other_types_are_not_concerned() -> None:
    watched = Watched()
    fine = watched.results(Outcome.HANDLED, keys(50), opened=True)

    assert watched.watch.judge([*fine, *watched.results(Outcome.PARKED, keys(20), failed("f"))])

    assert watched.watch.paused == {COUNTED}


def test_the_verdict_is_told_in_one_sentence_with_its_evidence() -> None:
    watched = Watched()
    watched.judged(12)
    watched.clock.now += 30

    assert watched.watch.problem == (
        "toy.Counted.v1 waits for 30 s: 12 of 12 keys failed alike with Boom: no (f); so it is an outage and not the "
        "events, one of which is tried again in 0.0 s; the others keep their place"
    )


def test_a_probe_that_fails_otherwise_is_told_too() -> None:
    watched = Watched()
    watched.judged()

    watched.watch.learn(watched.results(Outcome.DEFERRED, ["k1"], Failure("unknown", "Bang", "why", "g")))

    assert "failed alike with Boom: no (f), lately with Bang: why; so" in watched.watch.problem


def test_an_outage_that_nobody_probes_is_neglected_after_a_while() -> None:
    watched = Watched()
    watched.judged()
    assert not watched.watch.is_neglected(COUNTED)

    watched.clock.now += 0.1 + NEGLECTED_S

    assert watched.watch.is_neglected(COUNTED)


def test_a_probe_that_succeeds_in_a_batch_where_another_fails_ends_the_outage() -> None:
    watched = Watched()
    watched.judged()
    watched.clock.now += 1
    assert watched.watch.may_probe(COUNTED)

    watched.watch.learn(
        [
            *watched.results(Outcome.DEFERRED, ["k1"], failed("f")),
            *watched.results(Outcome.HANDLED, ["k2"]),
        ]
    )

    assert watched.watch.paused == set()
