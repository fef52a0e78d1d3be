"""One injection after the other: is what holds the order up named, and named first?"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.causes.injections import Injection
from tests.causes.stage import Stage
from tests.support.waiting import SLACK, eventually

NAMED_TIMEOUT_S = 45.0


@dataclass(slots=True)
class Verdict:
    """`first`: what `order explain` has named first, by the last look. `before`: what other causes earlier looks have
    named first. `seconds` from the fault to that; `in_stuck`: whether `orderflow stuck` names it too. `broken`: why
    it could not be tried to its end.
    """

    injection: Injection
    first: Mapping[str, Any] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    seconds: float = 0.0
    looks: int = 0
    in_stuck: bool = False
    broken: str = ""

    @property
    def is_right(self) -> bool:
        return self._fits(self.first) and not self.before and self.in_stuck and not self.broken

    def _fits(self, cause: Mapping[str, Any]) -> bool:
        wanted = self.injection
        if (cause.get("kind"), cause.get("service")) != (wanted.named, wanted.service):
            return False
        return re.search(wanted.says, f"{cause['component']}: {cause['why']}") is not None

    def see(self, causes: list[Mapping[str, Any]]) -> bool:
        """One look; whether the right cause is named first by now."""
        self.looks += 1
        if not causes:
            return False
        self.first = causes[0]
        if self._fits(self.first):
            return True
        if self.first["kind"] in self.injection.on_the_way:
            return False
        told = f"{self.first['kind']} at {self.first['service']} {self.first['component']}: {self.first['why']}"
        if not self.before or self.before[-1] != told:
            self.before.append(told)
        return False

    def __str__(self) -> str:
        took = f"{self.seconds:.1f} s, {self.looks} looks"
        if self.is_right:
            return f"{self.injection.name}: right ({took}): {self.first['why']}"
        wrong = self.broken or "; ".join(self.before) or ("not in `stuck`" if self.first else "no cause")
        return f"{self.injection.name}: WRONG ({took}): {wrong}"


async def tried(stage: Stage, injection: Injection, *, timeout_s: float = NAMED_TIMEOUT_S) -> Verdict:
    """Returns when the order has ended again, and all is well."""
    verdict = Verdict(injection)
    try:
        async with injection.inject(stage) as order_id:
            began = time.monotonic()
            deadline = began + timeout_s * SLACK
            while time.monotonic() < deadline:
                told = await stage.command("order", "explain", order_id, "--json")
                assert told.code in {0, 1}, told.stderr
                if verdict.see(json.loads(told.stdout)["causes"]):
                    break
            verdict.seconds = time.monotonic() - began
            verdict.in_stuck = not injection.listed or await _in_stuck(stage, verdict, order_id)
        if injection.ends:
            await stage.shop.end_of(order_id)
        for service in stage.services.values():
            await service.ready()
    except Exception as error:  # noqa: BLE001  (whatever it is, the others are tried)
        verdict.broken = f"{type(error).__name__}: {error}"
    return verdict


async def _in_stuck(stage: Stage, verdict: Verdict, order_id: str) -> bool:
    async def listed() -> bool:
        told = await stage.command("stuck", "--json")
        assert told.code in {0, 1}, told.stderr
        # When nobody can tell which orders are late, the group names none.
        found = [
            each for each in json.loads(told.stdout)["groups"] if order_id in each["orders"] or not each["orders"]
        ]
        return [each["cause"]["kind"] for each in found] == [verdict.first["kind"]]

    try:
        return bool(verdict.first) and await eventually(listed, every_s=0.1, timeout_s=10)
    except AssertionError:
        return False
