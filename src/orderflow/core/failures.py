"""Failures: what a single one is (infrastructure, permanent, unknown), and what many of an event type mean together.

An event that fails while others of its type succeed is *poison*. When all events of a type fail alike, something that
they need is down: it is an *outage*, and the events are not to blame. In between is *doubt*: a few keys fail alike,
and none has succeeded since. They hold up only themselves, and use up no attempts until the doubt is resolved.

Everything here is pure. Descriptions of failures contain no secrets and no personal data.
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
    """The text with secrets and personal data replaced by ***.

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
"""How many first trials are remembered: enough to judge by, and few enough that an outage under full load is found
after about this many failures, not only when they outnumber all successes within WINDOW_S."""

REMEMBERED_S = 120.0
"""A failed key is forgotten after this time without a trial: no back-off is longer, so another process has it."""

FAILING_MAX = 10_000


class InfrastructureError(Exception):
    """Something that a decision depends on is unavailable. The message waits, and no attempt is counted."""


class FinalError(Exception):
    """The stored state rules the message out for ever: it is dead at its first try, and no evidence of an outage.

    A service's decisions raise this, or a subclass of their own, for what their model forbids.
    """


def describe(error: BaseException) -> Failure:
    """The failure that an error means: its class, a short redacted text, and a fingerprint that groups equal ones."""
    name = type(error).__name__
    if isinstance(error, UndecodableError):
        return Failure(PERMANENT, name, shown(error.detail), _digest(f"{name}:{error.reason}:{error.about}"))
    return Failure(_kind(error), name, shown(_said(error)), _digest(f"{name}:{_first_own_frame(error)}"))


def _said(error: BaseException) -> str:
    """The error's text, or a note that its `__str__` raises."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001  # a service's own code, which may raise whatever it likes
        return f"(its text cannot be had: {type(failed).__name__})"


def shown(text: str) -> str:
    """The text redacted, printable, and cut to 500 characters: safe to show and to store.

    Redaction reads further than the cut, so that a secret across it is recognised.
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
    """The file's name, and whether it belongs to the core."""
    return PurePath(path).name, "orderflow/core" in path.replace("\\", "/")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


class Verdict(StrEnum):
    """What failures of an event type are judged to be."""

    OUTAGE = "outage"
    POISON = "poison"


class Trial(msgspec.Struct, frozen=True):
    """A try of a message at `at` (monotonic, s). `failure` is None if it was handled; `first` is false for a retry.

    A permanent failure (undecodable, or ruled out by the model) is no trial: it is poison, however many there are.
    """

    key: str
    failure: Failure | None
    at: float
    first: bool = True


class Failing(msgspec.Struct, frozen=True):
    """A key whose last trial failed, at `at`. `since` is the number of the trial in which it first failed.

    `given_up`: its event is dead, so it is not tried again.
    """

    fingerprint: str
    error: str
    since: int
    at: float
    given_up: bool = False


class Evidence(msgspec.Struct, frozen=True):
    """Of the `tried` keys that are remembered, `failing` failed alike.

    `error` is the class and the redacted text of the latest of these failures.
    """

    fingerprint: str
    error: str
    failing: int
    tried: int


class TrialHistory:
    """A sliding window over the trials of one event type: its last TRIALS_MAX first trials, and its failing keys.

    `unanswered_only` is set when an outage was judged and turned out to be poison: from then on only keys that have
    failed since the type's last success count as evidence. At most FAILING_MAX failing keys are kept.
    """

    def __init__(self) -> None:
        self.failing: dict[str, Failing] = {}
        self.unanswered_only = False
        self._recent: deque[Trial] = deque(maxlen=TRIALS_MAX)
        self._number = 0
        self._succeeded = 0

    def after(self, trials: Iterable[Trial]) -> TrialHistory:
        """A copy with these trials added."""
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
        """Forget that the key fails: its event is settled without a trial."""
        self.failing.pop(key, None)

    def give_up(self, key: str) -> None:
        """The key's event is dead: it casts no doubt on later failures."""
        if key in self.failing:
            self.failing[key] = replace(self.failing[key], given_up=True)

    def blame_events(self) -> None:
        """The type is known to succeed for others: events that fail now are to blame themselves."""
        self._succeeded = self._number
        self.unanswered_only = True

    def is_doubtful(self, key: str, now: float) -> bool:
        """Whether another key fails alike, and nothing of the type has succeeded since both began to fail."""
        fingerprint = self.failing[key].fingerprint
        return any(other != key and name == fingerprint for other, name in self._unanswered(now))

    def is_failing(self, now: float) -> bool:
        """Whether any key has recently failed in its last trial."""
        return bool(self.failing) and next(reversed(self.failing.values())).at >= now - REMEMBERED_S

    def evidence(self, now: float, *, unanswered_only: bool = False) -> Evidence | None:
        """The evidence for an outage: the largest group of keys that fail alike; None if nothing fails.

        With `unanswered_only` only keys count that first failed after the type's last success.
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
        """The evidence, if it is an outage: at least FAILING_KEYS_MIN keys fail alike, and they are more than half.

        Counted are keys that were first tried within WINDOW_S, or first failed after the type's last success.
        """
        evidence = self.evidence(now, unanswered_only=self.unanswered_only)
        if evidence is None or evidence.failing < FAILING_KEYS_MIN or 2 * evidence.failing <= evidence.tried:
            return None
        return evidence

    def _unanswered(self, now: float) -> Iterable[tuple[str, str]]:
        """(key, fingerprint) of the keys that first failed after the type's last success."""
        return (
            (key, each.fingerprint)
            for key, each in self.failing.items()
            if each.since > self._succeeded and each.at >= now - REMEMBERED_S and not each.given_up
        )
