"""The circuit breaker of one event type in outage: when the keys that failed may be tried again, and when it is over.

Keys that have not failed are not its business: they are tried as they come. Of those that have, one is tried, then as
long as most of them succeed 2, 4, 8 at once, then all. While they fail, the next round waits with back-off.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from orderflow.messaging.outage import FAILING_KEYS_MIN, Evidence
from orderflow.messaging.retry import Backoff

CONTRADICTED_S = 30.0
"""So long others succeed while no key that failed does: then these are to blame, and it is no outage."""

REFUSALS_MAX = 32
UNTRIED_EVERY_S = 1.0
"""What the database refuses costs a transaction for each key at least, so no more are found out at a time."""


class Breaker:
    """Open while it exists. All times are monotonic, in s.

    `probe_at`: from then on a round of `width` keys may be tried. `contradicted_at`: since then other keys succeed.
    """

    def __init__(self, evidence: Evidence, now: float, backoff: Backoff, chance: random.Random) -> None:
        self.evidence = evidence
        self.began = now
        self.probe_at = now
        self.width = 1
        self.last_error = ""
        self.contradicted_at: float | None = None
        self.untried_at = now
        self._backoff = backoff
        self._chance = chance
        self._left = 0
        self._failed = 0
        self._refusals = 0

    @property
    def is_healed(self) -> bool:
        """Rounds of 1, 2, 4 and 8 keys went well."""
        return self.width > FAILING_KEYS_MIN

    @property
    def is_ramping(self) -> bool:
        """The last round went well."""
        return self.width > 1

    def is_contradicted(self, now: float) -> bool:
        """Others have succeeded for long enough while nothing that failed did."""
        return self.contradicted_at is not None and now - self.contradicted_at >= CONTRADICTED_S

    def may_probe(self, now: float) -> bool:
        """Whether one of the keys that failed may be tried now. If so, it is counted."""
        if now >= self.probe_at:
            self._left = self.width
            self.probe_at = now + self._delay_s()
        if not self._left:
            return False
        self._left -= 1
        return True

    def probed(self, healed: int, errors: Sequence[str], now: float) -> None:
        """So many keys that had failed were handled now; the others failed again, with these errors."""
        if healed > len(errors):
            self.width *= 2
            self._failed = 0
            self.contradicted_at = None
            self.probe_at = now
        else:
            self.width = 1
            self._failed += 1
            self.last_error = errors[-1] if errors else self.last_error
            self.probe_at = now + self._delay_s()
        self._left = 0

    def told_nothing(self, now: float) -> None:
        """What was tried said nothing: the next round may begin."""
        self._left = 0
        self.probe_at = now

    def contradicted(self, now: float) -> None:
        """A key that had not failed was handled: those that failed are tried at once, since it may be over."""
        if self.contradicted_at is None:
            self.contradicted_at = self.probe_at = now

    def refused(self, now: float) -> None:
        """The database has refused an event of the type."""
        self._refusals += 1
        if self._refusals >= REFUSALS_MAX:
            self._refusals = 0
            self.untried_at = now + UNTRIED_EVERY_S

    def _delay_s(self) -> float:
        return self._backoff.delay_ms(max(1, self._failed), self._chance) / 1000
