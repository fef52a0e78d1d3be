"""Outage or poison: many keys that fail alike at once are an outage, an isolated one is poison. A pure judgement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from orderflow.messaging.inbox import Failure

FAILING_KEYS_MIN = 8


class Trial(msgspec.Struct, frozen=True):
    """A message of `event_type` was tried at `at` (monotonic, s). `failure` is None if it was handled.

    What is certain to fail again (it cannot be decoded) is no trial: that is poison, however much of it there is.
    """

    event_type: str
    key: str
    failure: Failure | None
    at: float


class Evidence(msgspec.Struct, frozen=True):
    """Why an outage was judged: of `tried` keys, `failing` failed alike, the first of them at `since` (monotonic, s).

    `error` is the class and the redacted text of one of the failures.
    """

    event_type: str
    fingerprint: str
    error: str
    failing: int
    tried: int
    since: float


def judge(trials: Iterable[Trial]) -> list[Evidence]:
    """The event types in outage: at least FAILING_KEYS_MIN keys of it failed with one fingerprint, and these are more
    than half of the keys of that type that were tried.

    A key counts by its last trial.
    """
    by_type: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        by_type.setdefault(trial.event_type, {})[trial.key] = trial
    found = (_evidence(event_type, last) for event_type, last in by_type.items())
    return [evidence for evidence in found if evidence is not None]


def _evidence(event_type: str, last: Mapping[str, Trial]) -> Evidence | None:
    alike: dict[str, list[Trial]] = {}
    for trial in last.values():
        if trial.failure is not None:
            alike.setdefault(trial.failure.fingerprint, []).append(trial)
    failing = max(alike.values(), key=len, default=[])
    if len(failing) < FAILING_KEYS_MIN or 2 * len(failing) <= len(last):
        return None
    failure = failing[0].failure
    assert failure is not None
    return Evidence(
        event_type=event_type,
        fingerprint=failure.fingerprint,
        error=f"{failure.error}: {failure.message}",
        failing=len(failing),
        tried=len(last),
        since=min(trial.at for trial in failing),
    )
