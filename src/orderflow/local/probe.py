"""Asking a process of a run how it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from orderflow.local.state import Down, Running

DOWN = "process"


@dataclass(frozen=True, slots=True)
class Health:
    """`lag` is how many events its consumers have not settled; None for what consumes nothing, or is mute."""

    ready: bool
    problems: dict[str, str]
    lag: int | None = None

    @classmethod
    def of_down(cls, unit: Down) -> Health:
        return cls(False, {DOWN: unit.why})

    @property
    def state(self) -> str:
        """`ready`, `not ready`, or `down`: there is no process."""
        return "ready" if self.ready else "down" if DOWN in self.problems else "not ready"

    @property
    def words(self) -> str:
        """For people."""
        if DOWN in self.problems:
            return f"down: {self.problems[DOWN]}"
        if self.problems:
            return "; ".join(f"{name}: {problem}" for name, problem in self.problems.items())
        return "ready" if not self.lag else f"ready, {self.lag} events behind"


def probe(process: Running, timeout_s: float) -> Health:
    """PostgreSQL and Kafka by their process, a service by its own word."""
    if process.mark.find() is None:
        return Health(False, {DOWN: "it has ended"})
    if process.kind != "service":
        return Health(True, {})
    try:
        found = _get(f"{process.address}/health/ready", timeout_s)
        behind = _get(f"{process.address}/ops/lag", timeout_s)
    except (OSError, ValueError) as error:
        return Health(False, {"http": f"it does not answer ({error})"})
    problems = found.get("problems") or {}
    return Health(bool(found.get("ready")), {str(k): str(v) for k, v in problems.items()}, _total(behind))


def _total(answer: Any) -> int | None:
    """The sum of every `lag` in the answer."""
    if isinstance(answer, dict):
        own = answer.get("lag")
        if isinstance(own, int):
            return own
        answer = list(answer.values())
    if not isinstance(answer, list):
        return None
    return sum(found for each in answer if (found := _total(each)) is not None)


def _get(url: str, timeout_s: float) -> Any:
    # A proxy of the surroundings is for the world outside, not for this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        # Not ready is 503 with a body that says why.
        return json.load(error)
