"""Failures: what one is (infrastructure, permanent, unknown), and what many of an event type mean taken together.

An event that fails while others of its type succeed is *poison*. When all that comes fails alike, something that
the type needs is down: an *outage*, and the events are not to blame. Between the two there is *doubt*: a few keys
that fail alike with no success since. They hold up only themselves, and use up no attempts until it is resolved.
All of it is pure. What is said of a failure has no secrets and personal data in it.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections import Counter, deque
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from pathlib import PurePath

import msgspec
from msgspec.structs import replace

from orderflow.core.inbox import Failure
from orderflow.core.messages import UndecodableError

HIDDEN = "***"
_CARD_MIN = 13
_CARD_MAX = 19

_NAMED = r"((?:password|passwd|pwd|secret|token|api[_-]?key)\\?[\"']?\s{0,3}[=:]\s{0,3}"
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(://[^\s:@/]*):[^\s/]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(_NAMED + r"\\?\")[^\"]*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(_NAMED + r"\\?')[^']*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(_NAMED + r")[^\s&;\"'\\][^\s&;\"']*", re.IGNORECASE), rf"\1{HIDDEN}"),
    (
        re.compile(r"(\bauthorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?basic\s{1,3})[\w+/=-]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(\bbearer\s{1,3})[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(whsec_|sk_)[\w+/=-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?<![\w.+%-])(?<!//)[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"), HIDDEN),
)
DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?![0-9A-Za-z])")


@lru_cache(maxsize=64)
def redact(text: str) -> str:
    """`text` with *** in place of what nobody but its owner may read.

    These are: the password in a URL; what follows `password`, `token`, `secret` or `api_key`; bearer tokens; keys
    that begin with `whsec_` or `sk_`; e-mail addresses; payment card numbers (13 to 19 digits whose last is the check
    digit of ISO/IEC 7812-1, also in groups).
    """
    for pattern, hidden in PATTERNS:
        text = pattern.sub(hidden, text)
    return _without_cards(text)


def _without_cards(text: str) -> str:
    groups = [match.span() for match in DIGITS.finditer(text)]
    parts: list[str] = []
    done = first = 0
    while first < len(groups):
        last = _card_from(text, groups, first)
        if last is None:
            first += 1
            continue
        parts += (text[done : groups[first][0]], HIDDEN)
        done, first = groups[last][1], last + 1
    return "".join((*parts, text[done:]))


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of the longest card number that begins with the group `first`."""
    found = None
    digits = ""
    for number in range(first, len(groups)):
        start, end = groups[number]
        if number > first and text[groups[number - 1][1] : start] not in (" ", "-"):
            break
        if len(digits) + end - start > _CARD_MAX:
            break
        digits += text[start:end]
        if len(digits) >= _CARD_MIN and _has_check_digit(digits):
            found = number
    return found


def _has_check_digit(digits: str) -> bool:
    """The Luhn formula (ISO/IEC 7812-1, annex B)."""
    numbers = [int(digit) for digit in reversed(digits)]
    doubled = (sum(divmod(2 * number, 10)) for number in numbers[1::2])
    return (sum(numbers[::2]) + sum(doubled)) % 10 == 0


MESSAGE_MAX = 500
READ_MAX = 2 * MESSAGE_MAX
INFRASTRUCTURE = "infrastructure"
PERMANENT = "permanent"
UNKNOWN = "unknown"


FAILING_KEYS_MIN = 8
WINDOW_S = 10.0
TRIALS_MAX = 100
"""So many first trials are remembered: enough to judge by, and few enough that an outage which begins under full load
is judged after as many failures, not after half of all that WINDOW_S has seen."""

REMEMBERED_S = 120.0
"""A key that was not tried for so long went elsewhere: no retry is further away."""

FAILING_MAX = 10_000


class InfrastructureError(Exception):
    """Something that a decision stands on is away. The message waits, and no attempt is counted."""


class FinalError(Exception):
    """What is stored rules the message out, now and later: it is given up at its first try, and says nothing about
    others of its type.

    A service's decisions raise this, or a class of their own made from it, for what their model forbids.
    """


def describe(error: BaseException) -> Failure:
    """The failure of a message: class, short printable text, and a fingerprint that groups equal ones."""
    name = type(error).__name__
    if isinstance(error, UndecodableError):
        return Failure(PERMANENT, name, shown(error.detail), _digest(f"{name}:{error.reason}:{error.about}"))
    return Failure(_kind(error), name, shown(_said(error)), _digest(f"{name}:{_first_own_frame(error)}"))


def _said(error: BaseException) -> str:
    """Its text. An error that cannot even say it is described all the same."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001  # a service's own code, which may raise whatever it likes
        return f"(its text cannot be had: {type(failed).__name__})"


def shown(text: str) -> str:
    """At most 500 characters without control characters and secrets: it may be shown and stored anywhere.

    More is read than is shown, so that a secret across the cut is still recognised.
    """
    redacted = redact(text[:READ_MAX])[:MESSAGE_MAX]
    if redacted.isprintable():
        return redacted
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in redacted)


def _kind(error: BaseException) -> str:
    if isinstance(error, InfrastructureError):
        return INFRASTRUCTURE
    return PERMANENT if isinstance(error, FinalError) else UNKNOWN


def _first_own_frame(error: BaseException) -> str:
    """Where the service's own code raised: the innermost frame that is not the core's."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = [code for code in codes if not _file(code.co_filename)[1]]
    code = own[-1] if own else (codes[-1] if codes else None)
    return f"{_file(code.co_filename)[0]}:{code.co_name}" if code else ""


@lru_cache(maxsize=1024)
def _file(path: str) -> tuple[str, bool]:
    """The file's name, and whether it is the core's."""
    return PurePath(path).name, "orderflow/core" in path.replace("\\", "/")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


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


class TrialHistory:
    """A sliding window over the trials of one event type: its last TRIALS_MAX first trials, FAILING_MAX failing keys.

    `unanswered_only`: its keys were taken for an outage before while others succeeded, and it was none. From then on
    only failures without any success since are taken for one.
    """

    def __init__(self) -> None:
        self.failing: dict[str, Failing] = {}
        self.unanswered_only = False
        self._recent: deque[Trial] = deque(maxlen=TRIALS_MAX)
        self._number = 0
        self._succeeded = 0

    def after(self, trials: Iterable[Trial]) -> TrialHistory:
        """What it would be after these trials, all of them remembered; it stays as it is."""
        ahead = TrialHistory()
        ahead.failing, ahead.unanswered_only = dict(self.failing), self.unanswered_only
        ahead._recent, ahead._number, ahead._succeeded = deque(self._recent), self._number, self._succeeded
        for trial in trials:
            ahead.record(trial)
        return ahead

    def record(self, trial: Trial) -> None:
        """Remember the next trial."""
        self._number += 1
        if trial.first:
            self._recent.append(trial)
        before = self.failing.pop(trial.key, None)
        if trial.failure is None:
            self._succeeded = self._number
            self.unanswered_only &= bool(self.failing)
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

    def blame_events(self) -> None:
        """It is known from elsewhere that the type can succeed: an event that fails now is itself to blame."""
        self._succeeded = self._number
        self.unanswered_only = True

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
        evidence = self.evidence(now, unanswered_only=self.unanswered_only)
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
