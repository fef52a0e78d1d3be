"""Circuit breakers: when all events of a type fail alike, they are not to blame, and wait until the outage is over.

Each process has one breaker per consumer and event type. *Closed*: an event that fails is poison; it is parked and
retried. Evidence of an outage (`failures.py`) *opens* the breaker: an event that fails then is deferred, so nothing
is written and no attempt is counted. Keys that have not failed are still tried as they come. *Half-open*: one failed
key is tried as a probe, then 2, 4 and 8 together as long as most of a round succeed; then the breaker closes. After a
failed round the next one follows with back-off.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orderflow.core.envelopes import Incoming, Result
from orderflow.core.failures import FAILING_KEYS_MIN, TRIALS_MAX, UNKNOWN, Evidence, Trial, TrialHistory, Verdict
from orderflow.core.retry import Backoff
from orderflow.core.telemetry import OutageJudged, OutageOver, Outcome, Signals
from orderflow.core.timing import Clock

CONTRADICTED_S = 30.0
"""When other keys have succeeded for this long and no failed key has, the failed ones are poison: it is no outage."""

REFUSALS_MAX = 32
UNTRIED_EVERY_S = 1.0
"""Each key that the database refuses costs at least one transaction: after REFUSALS_MAX of them untried keys wait."""

NEGLECTED_S = 5.0
GONE_S = 45.0
"""Longer than any back-off: a parked event that was not tried within this time is handled, or in another process."""

SETTLED = (Outcome.DUPLICATE, Outcome.DEAD, Outcome.IGNORED)
"""Outcomes of a message that is not tried again, and does not show whether its type can succeed."""

Names = frozenset[tuple[str, str]]


class CircuitBreaker:
    """The breaker of one event type at one consumer. All times are monotonic, in s.

    It is open while it has `evidence`, since `opened_at`, and half-open from `probe_at` on, when a round of `width`
    probes may begin. `contradicted_at` is when a key that had not failed succeeded. Before `untried_at` no such key
    is tried.
    """

    def __init__(self, backoff: Backoff, clock: Clock, rng: random.Random) -> None:
        self.history = TrialHistory()
        self._backoff = backoff
        self._clock = clock
        self._rng = rng
        self._reset(None)

    def _reset(self, evidence: Evidence | None) -> None:
        self.evidence = evidence
        self.opened_at = self.probe_at = self.untried_at = self._clock.monotonic()
        self.contradicted_at: float | None = None
        self.width = 1
        self.last_error = ""
        self._probes_left = 0
        self._failed_rounds = 0
        self._refusals = 0

    @property
    def is_open(self) -> bool:
        """Whether events of failed keys wait."""
        return self.evidence is not None

    @property
    def is_healed(self) -> bool:
        """Whether rounds of 1, 2, 4 and 8 probes succeeded, or no failed key is left."""
        return self.width > FAILING_KEYS_MIN or not self.history.failing

    @property
    def poison_in_s(self) -> float:
        """How long until the failed keys count as poison, if only others succeed; infinite while none does."""
        return math.inf if self.contradicted_at is None else self._left(self.contradicted_at + CONTRADICTED_S)

    @property
    def probe_in_s(self) -> float:
        """How long until a failed key may be tried."""
        return self._left(self.probe_at)

    @property
    def untried_in_s(self) -> float:
        """How long until a key that has not failed may be tried: 0, unless the database has refused many."""
        return self._left(self.untried_at)

    @property
    def idle_s(self) -> float:
        """For how long a probe has been due."""
        return self._clock.monotonic() - self.probe_at

    def open(self, evidence: Evidence) -> None:
        """Begin an outage. The first probe may go at once."""
        self._reset(evidence)

    def close(self, *, poison: bool) -> None:
        """End the outage: all waiting events are tried. With `poison` those that fail then are to blame; otherwise
        the history is cleared.
        """
        if poison:
            self.history.blame_events()
        else:
            self.history = TrialHistory()
        self._reset(None)

    def may_probe(self) -> bool:
        """Whether a failed key may be tried now. If so, it is counted as a probe."""
        if not self.probe_in_s:
            self._probes_left = self.width
            self.probe_at = self._after_backoff()
        if not self._probes_left:
            return False
        self._probes_left -= 1
        return True

    def record(self, trials: Sequence[Trial], settled: Iterable[str]) -> None:
        """Remember these trials; while the breaker is open, also judge them as probes.

        `settled` are keys of which a message is not tried again, without showing whether its type can succeed.
        """
        failing = self.history.failing
        retried = {trial.key: None for trial in trials if trial.key in failing}
        for trial in trials:
            self.history.record(trial)
        settled = [key for key in settled if key in failing]
        if not self.is_open:
            for key in settled:
                self.history.give_up(key)
            return
        now = self._clock.monotonic()
        if self.contradicted_at is None and any(not each.failure and each.key not in retried for each in trials):
            # Others succeed, so the outage may be over: probe at once.
            self.contradicted_at = self.probe_at = now
        errors = [failing[key].error for key in retried if key in failing]
        for key in settled:
            self.history.forget(key)
        if retried:
            self._end_round(len(retried) - len(errors), errors)
        elif settled:
            self._probes_left = 0
            self.probe_at = now

    def refused(self) -> None:
        """Count an event that the database has refused."""
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            self._refusals = 0
            self.untried_at = self._clock.monotonic() + UNTRIED_EVERY_S

    def _end_round(self, healed: int, errors: Sequence[str]) -> None:
        """Judge a round: `healed` failed keys were handled, and the others failed again, with these errors."""
        self._probes_left = 0
        if healed > len(errors):
            self.width *= 2
            self._failed_rounds = 0
            self.contradicted_at = None
            self.probe_at = self._clock.monotonic()
        else:
            self.width = 1
            self._failed_rounds += 1
            self.last_error = errors[-1]
            self.probe_at = self._after_backoff()

    def _after_backoff(self) -> float:
        return self._clock.monotonic() + self._backoff.delay_ms(max(1, self._failed_rounds), self._rng) / 1000

    def _left(self, until: float) -> float:
        return max(0.0, until - self._clock.monotonic())


@dataclass(frozen=True, slots=True)
class OutageStanding:
    """The judgement of an event type's failures: an outage that has lasted `for_s`, or a doubt (None)."""

    event_type: str
    evidence: Evidence
    for_s: float | None


class CircuitBreakers:
    """The breakers of one consumer. Replayed events are not judged: they have failed before."""

    def __init__(
        self, service: str, consumer: str, backoff: Backoff, signals: Signals, clock: Clock, rng: random.Random
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._rng = rng
        self.open: dict[str, CircuitBreaker] = {}
        self._all: dict[str, CircuitBreaker] = {}
        self._overruled: Mapping[str, Verdict] = {}

    @property
    def paused(self) -> AbstractSet[str]:
        """The event types in outage, as a live view."""
        return self.open.keys()

    @property
    def problem(self) -> str:
        """The outages with their evidence, in words; "" if there is none."""
        return "; ".join(self._describe(event_type, breaker) for event_type, breaker in self.open.items())

    @property
    def is_troubled(self) -> bool:
        """Whether any key is known to fail."""
        now = self._clock.monotonic()
        return bool(self.open) or any(breaker.history.is_failing(now) for breaker in self._all.values())

    def standings(self) -> Sequence[OutageStanding]:
        """The outages, and the doubts: types of which two or more keys fail alike."""
        now = self._clock.monotonic()
        outages = [
            OutageStanding(each, it.evidence, now - it.opened_at) for each, it in self.open.items() if it.evidence
        ]
        found = [(each, it.history.evidence(now, unanswered_only=True)) for each, it in self._all.items()]
        doubts = [
            OutageStanding(each, evidence, None)
            for each, evidence in found
            if each not in self.open and evidence is not None and evidence.failing > 1
        ]
        return outages + doubts

    def overrule(self, verdicts: Mapping[str, Verdict]) -> None:
        """Set the operators' verdicts, by event type, which take precedence over the judgement here."""
        self._overruled = verdicts
        for event_type, verdict in verdicts.items():
            if verdict is Verdict.POISON and event_type in self.open:
                self._close(event_type, poison=True)

    def weigh(self, results: Sequence[Result]) -> Names | None:
        """Judge the failures of a batch before it is committed.

        None: commit it as it is. Otherwise it has to be decided again, because a new outage pauses a type, or the
        failures of the messages returned are in doubt and use up no attempt.
        """
        now = self._clock.monotonic()
        failing = {each.incoming.event_type for each in results if _failed_in_doubt(each)} - self.paused
        free: set[tuple[str, str]] = set()
        opened = False
        for event_type in sorted(failing):
            mine = [each for each in results if each.incoming.event_type == event_type]
            history = self._breaker(event_type).history.after(_trials(mine, now))
            evidence = self._outage(event_type, history, now)
            if evidence is not None:
                self._trip(event_type, evidence)
                opened = True
            elif self._overruled.get(event_type) is not Verdict.POISON:
                free.update(each.incoming.name for each in mine if _is_in_doubt(each, history, now))
        return frozenset(free) if opened or free else None

    def learn(self, results: Sequence[Result]) -> None:
        """Learn from results that are committed."""
        now = self._clock.monotonic()
        if not self.is_troubled and not any(result.failure for result in results):
            results = results[-TRIALS_MAX:]
        by_type: dict[str, list[Result]] = {}
        for result in results:
            by_type.setdefault(result.incoming.event_type, []).append(result)
        for event_type, mine in by_type.items():
            trials = _trials(mine, now)
            if trials or event_type in self._all:
                settled = [each.incoming.key for each in mine if each.outcome in SETTLED]
                self._breaker(event_type).record(trials, settled)
                self._close_if_over(event_type)

    def refused(self, culprits: Iterable[Incoming]) -> None:
        """Count messages that the database has refused: finding each has cost transactions."""
        for incoming in culprits:
            if incoming.event_type in self.open:
                self.open[incoming.event_type].refused()

    def may_go(self, incoming: Incoming) -> bool:
        """Whether a message may be tried now. A failed key of a type in outage may as a probe, which is counted."""
        breaker = self.open.get(incoming.event_type)
        if breaker is None:
            return True
        return breaker.may_probe() if self.waits(incoming) else not breaker.untried_in_s

    def waits(self, incoming: Incoming) -> bool:
        """Whether a message waits for the end of an outage: its type is in one, and its key has failed with it."""
        breaker = self.open.get(incoming.event_type)
        return breaker is not None and incoming.key in breaker.history.failing

    def probe(self, event_type: str) -> bool:
        """Whether a failed key of a type in outage may be tried now; if so, it is counted as a probe."""
        return self.open[event_type].may_probe()

    def is_neglected(self, event_type: str) -> bool:
        """Whether a probe is long overdue: no deferred event is left in this process to probe with."""
        return self.open[event_type].idle_s >= NEGLECTED_S

    def nothing_left(self, event_type: str) -> None:
        """No failed key is left here to probe with: end the outage if the last round or other keys succeeded.

        It also ends if no failed key has come up for GONE_S, since another process must have handled them.
        """
        breaker = self.open.get(event_type)
        if breaker is None:
            return
        is_unseen = breaker.idle_s >= GONE_S and self._overruled.get(event_type) is not Verdict.OUTAGE
        if breaker.width > 1 or breaker.contradicted_at is not None or is_unseen:
            self._close(event_type)

    def _breaker(self, event_type: str) -> CircuitBreaker:
        breaker = self._all.get(event_type)
        if breaker is None:
            breaker = self._all[event_type] = CircuitBreaker(self._backoff, self._clock, self._rng)
        return breaker

    def _outage(self, event_type: str, history: TrialHistory, now: float) -> Evidence | None:
        match self._overruled.get(event_type):
            case Verdict.OUTAGE:
                return history.evidence(now)
            case Verdict.POISON:
                return None
            case None:
                return history.outage(now)

    def _trip(self, event_type: str, evidence: Evidence) -> None:
        breaker = self.open[event_type] = self._breaker(event_type)
        breaker.open(evidence)
        found = (evidence.fingerprint, evidence.error, evidence.failing, evidence.tried)
        self._signals.emit(OutageJudged(self._service, self._consumer, event_type, *found))

    def _close_if_over(self, event_type: str) -> None:
        breaker = self.open.get(event_type)
        if breaker is None:
            return
        if breaker.is_healed:
            self._close(event_type)
        elif not breaker.poison_in_s and self._overruled.get(event_type) is not Verdict.OUTAGE:
            self._close(event_type, poison=True)

    def _close(self, event_type: str, *, poison: bool = False) -> None:
        breaker = self.open.pop(event_type)
        lasted_s = self._clock.monotonic() - breaker.opened_at
        failing = len(breaker.history.failing) if poison else 0
        self._signals.emit(OutageOver(self._service, self._consumer, event_type, lasted_s, failing))
        breaker.close(poison=poison)

    def _describe(self, event_type: str, breaker: CircuitBreaker) -> str:
        evidence, now = breaker.evidence, self._clock.monotonic()
        assert evidence is not None
        lately = f", lately with {breaker.last_error}" if breaker.last_error not in ("", evidence.error) else ""
        declared = self._overruled.get(event_type) is Verdict.OUTAGE
        verdict = "; an operator declared it an outage" if declared else ""
        others = "other keys are processed as usual"
        if breaker.contradicted_at is not None and not declared:
            within = f"within {breaker.poison_in_s:.0f} s"
            others = f"other keys succeed: unless one of these does {within}, they are treated as poison"
        probes = "1 of them is" if breaker.width == 1 else f"{breaker.width} of them are"
        return (
            f"outage of {event_type} for {now - breaker.opened_at:.0f} s: {evidence.failing} of {evidence.tried} "
            f"keys failed alike with {evidence.error} (group {evidence.fingerprint}){lately}{verdict}; their events "
            f"wait, and {probes} tried again in {breaker.probe_in_s:.1f} s; {others}"
        )


def admitted(batch: Sequence[Incoming], breakers: CircuitBreakers, behind: set[str]) -> list[int]:
    """The indexes of the messages that may be tried now.

    The keys of the others are added to `behind`: their later messages wait too. Commands always go.
    """
    places: list[int] = []
    for place, incoming in enumerate(batch):
        if incoming.record is None or (incoming.key not in behind and breakers.may_go(incoming)):
            places.append(place)
        else:
            behind.add(incoming.key)
    return places


def _trials(results: Iterable[Result], now: float) -> list[Trial]:
    """The trials among the results: events that were handled, or failed for an unknown reason."""
    return [
        Trial(result.incoming.key, result.failure, now, first=result.incoming.parked is None)
        for result in results
        if _failed_in_doubt(result) or (result.outcome is Outcome.HANDLED and result.incoming.record is not None)
    ]


def _failed_in_doubt(result: Result) -> bool:
    """Whether an event failed for an unknown reason, and was not replayed by an operator."""
    failure, incoming = result.failure, result.incoming
    if failure is None or failure.kind != UNKNOWN or incoming.record is None:
        return False
    return incoming.parked is None or not incoming.parked.replays


def _is_in_doubt(result: Result, history: TrialHistory, now: float) -> bool:
    return (
        _failed_in_doubt(result)
        and result.incoming.key in history.failing
        and history.is_doubtful(result.incoming.key, now)
    )
