"""Outage or poison: a memory of what was tried of one event type, and the judgement over it. All of it is pure.

An event that fails while others of its type succeed is poison. When all that comes fails alike, it is an outage, and
the events are not to blame. Between the two there is doubt: a few keys that fail alike with no success since. They
cost nobody anything but themselves, and until it is resolved they use up no attempts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from orderflow.messaging.inbox import Failure

FAILING_KEYS_MIN = 8
WINDOW_S = 10.0
TRIALS_MAX = 100
"""So many first trials are remembered: enough to judge by, and few enough that an outage which begins under full load
is judged after as many failures, not after half of all that WINDOW_S has seen."""

REMEMBERED_S = 120.0
"""A key that was not tried for so long went elsewhere: no retry is further away."""

FAILING_MAX = 10_000


class Verdict(StrEnum):
    """What failures of an event type are taken for."""

    OUTAGE = "outage"
    POISON = "poison"


class Trial(msgspec.Struct, frozen=True):
    """A message was tried at `at` (monotonic, s). `failure` is None if it was handled; `first`: it is no retry.

    What is certain to fail again (it cannot be decoded, the model rules it out) is no trial: that is poison, however
    much of it there is.
    """

    key: str
    failure: Failure | None
    at: float
    first: bool = True


class Failing(msgspec.Struct, frozen=True):
    """A key whose last trial failed, at `at`. `since`: the number of the trial that it failed in for the first time.

    `given_up`: it is not tried again, since nothing else failed alike for as long as it was.
    """

    fingerprint: str
    error: str
    since: int
    at: float
    given_up: bool = False


class Evidence(msgspec.Struct, frozen=True):
    """Of `tried` keys, `failing` failed alike, by what is remembered.

    `error` is the class and the redacted text of the latest of the failures.
    """

    fingerprint: str
    error: str
    failing: int
    tried: int


class Memory:
    """What was tried of one event type lately: no more than FAILING_MAX keys and TRIALS_MAX first trials.

    `doubts_shares`: its keys were taken for an outage before while others succeeded, and it was none. From then on
    only failures without any success since are taken for one.
    """

    def __init__(self) -> None:
        self.failing: dict[str, Failing] = {}
        self.doubts_shares = False
        self._recent: deque[Trial] = deque(maxlen=TRIALS_MAX)
        self._number = 0
        self._succeeded = 0

    def after(self, trials: Iterable[Trial]) -> Memory:
        """What it would be after these trials, all of them remembered; it stays as it is."""
        copy = Memory()
        copy.failing = dict(self.failing)
        copy.doubts_shares = self.doubts_shares
        copy._recent, copy._number, copy._succeeded = deque(self._recent), self._number, self._succeeded
        for trial in trials:
            copy.note(trial)
        return copy

    def note(self, trial: Trial) -> None:
        """Take note of the next trial."""
        self._number += 1
        if trial.first:
            self._recent.append(trial)
        before = self.failing.pop(trial.key, None)
        if trial.failure is None:
            self._succeeded = self._number
            self.doubts_shares &= bool(self.failing)
            return
        since = before.since if before else self._number
        error = f"{trial.failure.error}: {trial.failure.message}"
        self.failing[trial.key] = Failing(trial.failure.fingerprint, error, since, trial.at)
        if len(self.failing) > FAILING_MAX:
            del self.failing[next(iter(self.failing))]

    def forget(self, key: str) -> None:
        """What failed of the key is dealt with otherwise."""
        self.failing.pop(key, None)

    def give_up(self, key: str) -> None:
        """What failed of the key is dead: others that fail from here on are in no doubt for it."""
        if key in self.failing:
            self.failing[key] = replace(self.failing[key], given_up=True)

    def answer(self) -> None:
        """It is known from elsewhere that the type can succeed: what fails now is to blame itself."""
        self._succeeded = self._number
        self.doubts_shares = True

    def is_doubtful(self, key: str, now: float) -> bool:
        """Whether another key fails alike, and nothing of the type has succeeded since it began to."""
        fingerprint = self.failing[key].fingerprint
        return any(other != key and name == fingerprint for other, name in self._unanswered(now))

    def is_failing(self, now: float) -> bool:
        """Whether any key failed when it was tried last, lately."""
        return bool(self.failing) and next(reversed(self.failing.values())).at >= now - REMEMBERED_S

    def evidence(self, now: float, *, unanswered_only: bool = False) -> Evidence | None:
        """What speaks for an outage, if anything fails: the largest group of keys that fail alike.

        `unanswered_only`: of those that have failed for the first time since anything of the type succeeded.
        """
        recent = {trial.key for trial in self._recent if trial.at >= now - WINDOW_S}
        alike = Counter(self.failing[key].fingerprint for key in recent if key in self.failing)
        unanswered = dict(self._unanswered(now))
        groups = Counter(unanswered.values()) if unanswered_only else alike | Counter(unanswered.values())
        if not groups:
            return None
        fingerprint, failing = groups.most_common(1)[0]
        last = next(each for each in reversed(self.failing.values()) if each.fingerprint == fingerprint)
        return Evidence(fingerprint, last.error, failing, len(recent | unanswered.keys()))

    def outage(self, now: float) -> Evidence | None:
        """The evidence, if it is an outage: at least FAILING_KEYS_MIN keys fail alike, tried for the first time
        within WINDOW_S or with no success of the type since, and more than half of the keys that were tried.
        """
        evidence = self.evidence(now, unanswered_only=self.doubts_shares)
        if evidence is None or evidence.failing < FAILING_KEYS_MIN or 2 * evidence.failing <= evidence.tried:
            return None
        return evidence

    def _unanswered(self, now: float) -> Iterable[tuple[str, str]]:
        """(key, fingerprint) of what has failed for the first time since anything of the type succeeded."""
        return (
            (key, each.fingerprint)
            for key, each in self.failing.items()
            if each.since > self._succeeded and each.at >= now - REMEMBERED_S and not each.given_up
        )
