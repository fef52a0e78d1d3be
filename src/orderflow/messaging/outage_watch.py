"""What one process knows of outages at one consumer: what was tried lately, which event types wait, who may probe."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orderflow.messaging.clock import Clock
from orderflow.messaging.failures import UNKNOWN
from orderflow.messaging.inbox import Failure
from orderflow.messaging.outage import Evidence, Trial, judge
from orderflow.messaging.result import Result
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import OutageJudged, OutageOver, Outcome, Signals

WINDOW_S = 10.0
TRIALS_MAX = 100
"""So many trials of a type are remembered: enough to judge by, and few enough that an outage which begins under full
load is judged after as many failures, not after half of all that WINDOW_S has seen."""

NEGLECTED_S = 5.0
TOLD_NOTHING = (Outcome.DUPLICATE, Outcome.HELD, Outcome.DEAD, Outcome.PASSED)


@dataclass(slots=True)
class Pause:
    """An event type that waits. From `probe_at` on (monotonic, s) one may be tried; `probing`: one is being tried."""

    evidence: Evidence
    began: float
    probe_at: float
    probing: bool = False
    failed: int = 0
    last_error: str = ""


class OutageWatch:
    """One per consumer. Failures of retries prove nothing here: only what comes for the first time is counted."""

    def __init__(
        self, service: str, consumer: str, backoff: Backoff, signals: Signals, clock: Clock, chance: random.Random
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._trials: dict[str, deque[Trial]] = {}
        self._pauses: dict[str, Pause] = {}

    @property
    def paused(self) -> AbstractSet[str]:
        """The event types that wait."""
        return self._pauses.keys()

    @property
    def problem(self) -> str:
        """What waits and why, with the evidence; "" when nothing does."""
        return "; ".join(map(self._told, self._pauses.values()))

    def judge(self, results: Sequence[Result]) -> bool:
        """Whether what a fold would park is an outage in truth: then the event types wait from now on."""
        failing = {result.incoming.event_type for result in results if result.failure is not None}
        suspects = sorted(failing - self._pauses.keys())
        if not suspects:
            return False
        now = self._clock.monotonic()
        since = now - WINDOW_S
        before = [trial for each in suspects for trial in self._trials.get(each, ()) if trial.at >= since]
        here = [trial for trial in _trials(results, now) if trial.event_type in suspects]
        verdicts = judge([*before, *here])
        for evidence in verdicts:
            self._pauses[evidence.event_type] = Pause(evidence, now, now)
            self._signals.emit(
                OutageJudged(
                    self._service,
                    self._consumer,
                    evidence.event_type,
                    evidence.fingerprint,
                    evidence.error,
                    evidence.failing,
                    evidence.tried,
                )
            )
        return bool(verdicts)

    def learn(self, results: Sequence[Result]) -> None:
        """These have been committed."""
        now = self._clock.monotonic()
        for trial in _trials(results[-TRIALS_MAX:], now):
            kept = self._trials.get(trial.event_type)
            if kept is None:
                kept = self._trials[trial.event_type] = deque(maxlen=TRIALS_MAX)
            kept.append(trial)
        if self._pauses:
            self._learn_of_probes(results, now)

    def may_probe(self, event_type: str) -> bool:
        """Whether one of a type that waits may be tried now; if so, the next may not, until its time comes."""
        pause, now = self._pauses[event_type], self._clock.monotonic()
        if now < pause.probe_at:
            return False
        pause.probing = True
        pause.probe_at = now + self._delay_s(pause)
        return True

    def is_neglected(self, event_type: str) -> bool:
        """Nobody has probed although it was time: what was deferred here is gone, or in other hands."""
        return self._clock.monotonic() >= self._pauses[event_type].probe_at + NEGLECTED_S

    def probe_in_s(self, event_type: str) -> float:
        """How long until the next of a type that waits may be tried."""
        return max(0.0, self._pauses[event_type].probe_at - self._clock.monotonic())

    def _learn_of_probes(self, results: Sequence[Result], now: float) -> None:
        failed: dict[str, Failure] = {}
        for result in results:
            event_type = result.incoming.event_type
            pause = self._pauses.get(event_type)
            if pause is None:
                continue
            if result.outcome is Outcome.HANDLED and pause.probing:
                self._resume(event_type, now)
            elif result.outcome is Outcome.DEFERRED and result.failure is not None:
                failed[event_type] = result.failure
            elif result.outcome in TOLD_NOTHING and pause.probing:
                pause.probing = False
                pause.probe_at = now
        for event_type, failure in failed.items():
            pause = self._pauses.get(event_type)
            if pause is None:
                continue
            pause.failed += 1
            pause.last_error = f"{failure.error}: {failure.message}"
            pause.probing = False
            pause.probe_at = now + self._delay_s(pause)

    def _resume(self, event_type: str, now: float) -> None:
        pause = self._pauses.pop(event_type)
        self._trials.pop(event_type, None)
        self._signals.emit(OutageOver(self._service, self._consumer, event_type, now - pause.began))

    def _delay_s(self, pause: Pause) -> float:
        return self._backoff.delay_ms(max(1, pause.failed), self._chance) / 1000

    def _told(self, pause: Pause) -> str:
        evidence, now = pause.evidence, self._clock.monotonic()
        lately = f", lately with {pause.last_error}" if pause.last_error not in ("", evidence.error) else ""
        return (
            f"{evidence.event_type} waits for {now - pause.began:.0f} s: {evidence.failing} of {evidence.tried} keys "
            f"failed alike with {evidence.error} ({evidence.fingerprint}){lately}; so it is an outage and not the "
            f"events, one of which is tried again in {self.probe_in_s(evidence.event_type):.1f} s; "
            "the others keep their place"
        )


def _trials(results: Iterable[Result], now: float) -> list[Trial]:
    """What the results say of events that came for the first time and were tried."""
    return [
        Trial(result.incoming.event_type, result.incoming.key, result.failure, now)
        for result in results
        if (result.outcome is Outcome.HANDLED or (result.failure is not None and result.failure.kind == UNKNOWN))
        and result.incoming.record is not None
        and result.incoming.parked is None
    ]
