"""What a client saw, in the manner of Jepsen: each request is invoked, and ends ok, failed or unknown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orderflow.chaos.shop import DECLINED, SOLD_OUT, Wanted

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"
RANKS: Final[Mapping[str, int]] = {"PENDING": 0, "PAID": 1, "COMPLETED": 2, "FAILED": 2}
LOST, DOUBLED, REORDERED, ADRIFT, STUCK = "lost", "doubled", "reordered", "adrift", "stuck"
VERDICTS: Final = (LOST, DOUBLED, REORDERED, ADRIFT, STUCK)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that must not be. `verdict` is one of `VERDICTS`."""

    verdict: str
    subject: str
    what: str


@dataclass(slots=True)
class Placing:
    """What is known of one wanted order: how its requests ended, its id, and the last status that was seen."""

    number: int
    kind: str
    customer: str
    currency: str
    total: int
    method: str
    has_key: bool
    outcome: str = FAILED
    order_id: str = ""
    status: str = ""

    @classmethod
    def of(cls, wanted: Wanted) -> Placing:
        body = wanted.body
        return cls(
            wanted.number,
            wanted.kind,
            wanted.customer,
            body["currency"],
            wanted.total,
            body["payment_method"],
            wanted.key is not None,
        )

    def sum_up(self, outcome: str) -> None:
        """One more request ended so: ok counts for ever, and what may have arrived is never taken back."""
        if self.outcome != OK and outcome != FAILED:
            self.outcome = outcome

    @property
    def ends(self) -> tuple[str, str]:
        """The status and the refund that it must have in the end."""
        if self.kind == DECLINED:
            return "FAILED", "none"
        return ("FAILED", "done") if self.kind == SOLD_OUT else ("COMPLETED", "none")

    def difference(self, view: Mapping[str, Any]) -> str:
        """What an answer shows otherwise than it was ordered; "" when nothing."""
        shown = (view["customer_id"], view["currency"], view["total"], view["payment_method"])
        asked = (self.customer, self.currency, self.total, self.method)
        return "" if shown == asked else f"{asked} was ordered, {shown} is shown"


class History:
    """Written to `path` as it happens, a JSON object a line, with seconds since the beginning (monotonic)."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)
        self._now = now
        self.placings: dict[int, Placing] = {}
        self.troubles: list[Trouble] = []
        self.counts: Counter[str] = Counter()

    def invoke(self, operation: str, number: int, **more: object) -> None:
        self.counts[f"{operation} invoked"] += 1
        self._write("invoke", operation, number, more)

    def end(self, outcome: str, operation: str, number: int, **more: object) -> None:
        """How a request ended: ok, failed (it had no effect) or unknown."""
        self.counts[f"{operation} {outcome}"] += 1
        self._write(outcome, operation, number, more)

    def placed(self, placing: Placing, view: Mapping[str, Any]) -> None:
        """A placement was answered with 2xx; every such answer to one key must name the same order."""
        order_id = str(view["id"])
        if placing.order_id and placing.order_id != order_id:
            what = f"one key was answered with {placing.order_id} and {order_id}"
            self.find(DOUBLED, f"order {placing.number}", what)
        placing.order_id = placing.order_id or order_id
        placing.sum_up(OK)
        self._compare(placing, view)

    def seen(self, placing: Placing, view: Mapping[str, Any]) -> None:
        """An answer shows the order as it stands: it must never go back."""
        status, before = str(view["status"]), placing.status
        self._compare(placing, view)
        if before and (RANKS[status] < RANKS[before] or (RANKS[before] == RANKS["FAILED"] and status != before)):
            self.find(ADRIFT, placing.order_id, f"it was {before}, and then {status}")
        placing.status = status

    def _compare(self, placing: Placing, view: Mapping[str, Any]) -> None:
        if difference := placing.difference(view):
            self.find(ADRIFT, placing.order_id, difference)

    def missing(self, placing: Placing) -> None:
        self.find(LOST, placing.order_id, f"it was accepted as order {placing.number}, and then answered 404")

    def find(self, verdict: str, subject: str, what: str) -> None:
        self.troubles.append(Trouble(verdict, subject, what))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: str, operation: str, number: int, more: Mapping[str, object]) -> None:
        line = {"t": round(self._now(), 4), "event": event, "op": operation, "order": number, **more}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
