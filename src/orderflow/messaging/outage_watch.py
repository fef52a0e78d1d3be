"""What one process knows of outages at one consumer: what was tried lately, which types wait, who may be tried."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orderflow.messaging.breaker import CONTRADICTED_S, Breaker
from orderflow.messaging.clock import Clock
from orderflow.messaging.failures import UNKNOWN
from orderflow.messaging.incoming import Incoming
from orderflow.messaging.outage import TRIALS_MAX, Evidence, Memory, Trial, Verdict
from orderflow.messaging.result import Result
from orderflow.messaging.retry import Backoff
from orderflow.messaging.signals import OutageJudged, OutageOver, Outcome, Signals

NEGLECTED_S = 5.0
GONE_S = 45.0
"""Longer than any parked event waits for its next try: what has not come up by then is in other hands, or handled."""

GONE = (Outcome.DUPLICATE, Outcome.DEAD, Outcome.PASSED)
"""What becomes of a message that is not tried again, and does not tell whether its type can succeed."""

Names = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How failures of an event type stand: judged an outage for `for_s`, or in doubt (None)."""

    event_type: str
    evidence: Evidence
    for_s: float | None


class OutageWatch:
    """One per consumer. Events that an operator has replayed fail for themselves: they were given up before."""

    def __init__(
        self, service: str, consumer: str, backoff: Backoff, signals: Signals, clock: Clock, chance: random.Random
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._backoff = backoff
        self._signals = signals
        self._clock = clock
        self._chance = chance
        self._memories: dict[str, Memory] = {}
        self._breakers: dict[str, Breaker] = {}
        self._overruled: Mapping[str, Verdict] = {}

    @property
    def paused(self) -> AbstractSet[str]:
        """The event types in outage."""
        return self._breakers.keys()

    @property
    def problem(self) -> str:
        """What waits and why, with the evidence; "" when nothing does."""
        return "; ".join(self._told(event_type, breaker) for event_type, breaker in self._breakers.items())

    @property
    def is_troubled(self) -> bool:
        """Something fails, as far as is remembered."""
        now = self._clock.monotonic()
        return bool(self._breakers) or any(memory.is_failing(now) for memory in self._memories.values())

    def standings(self) -> Sequence[Standing]:
        """Outages, and what is in doubt: two keys or more of a type that fail alike."""
        now = self._clock.monotonic()
        found = [Standing(each, breaker.evidence, now - breaker.began) for each, breaker in self._breakers.items()]
        for event_type, memory in self._memories.items():
            evidence = memory.evidence(now, unanswered_only=True)
            if event_type not in self._breakers and evidence is not None and evidence.failing > 1:
                found.append(Standing(event_type, evidence, None))
        return found

    def overrule(self, verdicts: Mapping[str, Verdict]) -> None:
        """What operators say holds, by event type, instead of what is judged here."""
        now = self._clock.monotonic()
        self._overruled = verdicts
        for event_type, verdict in verdicts.items():
            if verdict is Verdict.POISON and event_type in self._breakers:
                self._close(event_type, now, poison=True)

    def weigh(self, results: Sequence[Result]) -> Names | None:
        """Judge what a fold would park. None: let it be so. Else it is to be folded again: the types in outage (there
        may be new ones) are spared, and the messages returned use up no attempt.
        """
        now = self._clock.monotonic()
        failing = {each.incoming.event_type for each in results if each.failure is not None} - self._breakers.keys()
        free: set[tuple[str, str]] = set()
        opened = False
        for event_type in sorted(failing):
            mine = [each for each in results if each.incoming.event_type == event_type]
            memory = self._memory(event_type).after(_trials(mine, now))
            evidence = self._outage(event_type, memory, now)
            if evidence is not None:
                self._open(event_type, evidence, now)
                opened = True
            elif self._overruled.get(event_type) is not Verdict.POISON:
                free.update(each.incoming.name for each in mine if _is_in_doubt(each, memory, now))
        return frozenset(free) if opened or free else None

    def learn(self, results: Sequence[Result]) -> None:
        """These have been committed."""
        now = self._clock.monotonic()
        if not self.is_troubled and not any(result.failure for result in results):
            results = results[-TRIALS_MAX:]
        by_type: dict[str, list[Result]] = {}
        for result in results:
            by_type.setdefault(result.incoming.event_type, []).append(result)
        for event_type, mine in by_type.items():
            self._learn(event_type, mine, now)

    def may_go(self, incoming: Incoming) -> bool:
        """Whether a message may be tried now. Of a type in outage, a key that has failed may when it is its turn; if
        so, that is counted.
        """
        breaker = self._breakers.get(incoming.event_type)
        if breaker is None:
            return True
        now = self._clock.monotonic()
        return breaker.may_probe(now) if self.waits(incoming) else now >= breaker.untried_at

    def waits(self, incoming: Incoming) -> bool:
        """Whether it waits for the end of an outage: its type is in one, and its key has failed with that type."""
        return incoming.event_type in self._breakers and incoming.key in self._memory(incoming.event_type).failing

    def probe(self, event_type: str) -> bool:
        """Whether a key of a type in outage that has failed may be tried now; if so, that is counted."""
        return self._breakers[event_type].may_probe(self._clock.monotonic())

    def probes(self, event_type: str) -> int:
        """How many keys of a type in outage that have failed may be tried now."""
        breaker = self._breakers[event_type]
        return breaker.width if self._clock.monotonic() >= breaker.probe_at else 0

    def probe_in_s(self, event_type: str) -> float:
        """How long until a key of a type in outage that has failed may be tried."""
        return max(0.0, self._breakers[event_type].probe_at - self._clock.monotonic())

    def untried_in_s(self, event_type: str) -> float:
        """How long until a key that has not failed may be tried: 0, except while the database refuses much."""
        breaker = self._breakers.get(event_type)
        return max(0.0, breaker.untried_at - self._clock.monotonic()) if breaker else 0.0

    def is_neglected(self, event_type: str) -> bool:
        """Nobody has probed although it was time: what was deferred here is gone, or in other hands."""
        return self._clock.monotonic() >= self._breakers[event_type].probe_at + NEGLECTED_S

    def nothing_left(self, event_type: str) -> None:
        """No key that has failed is left here to probe with. It is over if the last round went well, or others do; or
        if nothing came up for long: another process has handled what failed.
        """
        breaker, now = self._breakers.get(event_type), self._clock.monotonic()
        if breaker is None:
            return
        is_gone = now >= breaker.probe_at + GONE_S and self._overruled.get(event_type) is not Verdict.OUTAGE
        if breaker.is_ramping or breaker.contradicted_at is not None or is_gone:
            self._close(event_type, now)

    def refused(self, culprits: Iterable[Incoming]) -> None:
        """These the database has refused: to find them out, transactions were in vain."""
        for incoming in culprits:
            if incoming.event_type in self._breakers:
                self._breakers[incoming.event_type].refused(self._clock.monotonic())

    def _memory(self, event_type: str) -> Memory:
        return self._memories.setdefault(event_type, Memory())

    def _outage(self, event_type: str, memory: Memory, now: float) -> Evidence | None:
        match self._overruled.get(event_type):
            case Verdict.OUTAGE:
                return memory.evidence(now)
            case Verdict.POISON:
                return None
            case None:
                return memory.outage(now)

    def _learn(self, event_type: str, results: Sequence[Result], now: float) -> None:
        memory, breaker = self._memory(event_type), self._breakers.get(event_type)
        trials = _trials(results, now)
        had_failed = {trial.key for trial in trials if trial.key in memory.failing}
        for trial in trials:
            memory.note(trial)
        gone = [each.incoming.key for each in results if each.outcome in GONE and each.incoming.key in memory.failing]
        if breaker is None:
            for key in gone:
                memory.give_up(key)
            return
        if any(trial.failure is None and trial.key not in had_failed for trial in trials):
            breaker.contradicted(now)
        again = [memory.failing[key].error for key in had_failed if key in memory.failing]
        for key in gone:
            memory.forget(key)
        if had_failed:
            breaker.probed(len(had_failed) - len(again), again, now)
        elif gone:
            breaker.told_nothing(now)
        self._close_if_over(event_type, breaker, memory, now)

    def _close_if_over(self, event_type: str, breaker: Breaker, memory: Memory, now: float) -> None:
        if breaker.is_healed or not memory.failing:
            self._close(event_type, now)
        elif breaker.is_contradicted(now) and self._overruled.get(event_type) is not Verdict.OUTAGE:
            self._close(event_type, now, poison=True)

    def _open(self, event_type: str, evidence: Evidence, now: float) -> None:
        self._breakers[event_type] = Breaker(evidence, now, self._backoff, self._chance)
        found = (evidence.fingerprint, evidence.error, evidence.failing, evidence.tried)
        self._signals.emit(OutageJudged(self._service, self._consumer, event_type, *found))

    def _close(self, event_type: str, now: float, *, poison: bool = False) -> None:
        """All that waits is tried again. `poison`: who fails then has himself to blame. Else all is forgotten."""
        breaker, memory = self._breakers.pop(event_type), self._memory(event_type)
        failing = len(memory.failing) if poison else 0
        if poison:
            memory.answer()
        else:
            self._memories[event_type] = Memory()
        self._signals.emit(OutageOver(self._service, self._consumer, event_type, now - breaker.began, failing))

    def _told(self, event_type: str, breaker: Breaker) -> str:
        evidence, now = breaker.evidence, self._clock.monotonic()
        lately = f", lately with {breaker.last_error}" if breaker.last_error not in ("", evidence.error) else ""
        if self._overruled.get(event_type) is Verdict.OUTAGE:
            lately += "; an operator has said that it is an outage"
        doubt = breaker.contradicted_at
        others = "keys that have not failed go on"
        if doubt is not None:
            left = max(0.0, doubt + CONTRADICTED_S - now)
            others = f"other keys succeed: if none of these does within {left:.0f} s, they are poison"
        return (
            f"{event_type} waits for {now - breaker.began:.0f} s: {evidence.failing} of {evidence.tried} keys failed "
            f"alike with {evidence.error} ({evidence.fingerprint}){lately}; so it is an outage and not the events, "
            f"of which {breaker.width} are tried again in {max(0.0, breaker.probe_at - now):.1f} s; {others}"
        )


def _trials(results: Iterable[Result], now: float) -> list[Trial]:
    """What the results say of events that were tried."""
    return [
        Trial(result.incoming.key, result.failure, now, first=result.incoming.parked is None)
        for result in results
        if result.incoming.record is not None and (result.outcome is Outcome.HANDLED or _failed_in_doubt(result))
    ]


def _failed_in_doubt(result: Result) -> bool:
    """It failed, nobody knows yet by whose fault, and it was not replayed by an operator."""
    failure, parked = result.failure, result.incoming.parked
    return failure is not None and failure.kind == UNKNOWN and (parked is None or not parked.replays)


def _is_in_doubt(result: Result, memory: Memory, now: float) -> bool:
    return (
        _failed_in_doubt(result)
        and result.incoming.key in memory.failing
        and memory.is_doubtful(result.incoming.key, now)
    )
