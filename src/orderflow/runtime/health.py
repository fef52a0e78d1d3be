"""Whether a process is alive, and whether it is ready: what is wrong, by component."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from orderflow.messaging.clock import Clock
from orderflow.runtime.operation import Operation, Reply, Request, Response

PING_TIMEOUT_S = 2.0
FRESH_S = 1.0


class Readiness(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`problems` names each component that is not well, and why. Empty when ready.

    `alarms` name what does not hinder the service, and needs a person all the same: records that expired unread,
    retries that do not end, refunds that the bank refuses. `faults` of a game day are there while any is set; they
    alone make nothing unready.
    """

    ready: bool
    problems: dict[str, str]
    alarms: dict[str, str] = {}
    faults: tuple[str, ...] = ()


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The process runs and answers. `installation` is null until its database has been reached."""

    alive: bool = True
    service: str
    installation: UUID | None


@dataclass(slots=True)
class HealthCheck:
    """Gathers what the engine knows with a ping of each of `pings`, at most once a second."""

    clock: Clock
    pings: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    known: Callable[[], Mapping[str, str]] = dict
    alarms: Callable[[], Mapping[str, str]] = dict
    faults: Callable[[], Sequence[str]] = tuple
    process: str = "starting"
    service: str = ""
    installation: UUID | None = None
    _found: Mapping[str, str] = field(default_factory=dict)
    _found_at: float = float("-inf")

    async def problems(self) -> Mapping[str, str]:
        """By component; `process` says that this one is starting or stopping."""
        if self.clock.monotonic() - self._found_at > FRESH_S:
            found = await asyncio.gather(*(self._ping(name, ping) for name, ping in self.pings.items()))
            self._found = {name: problem for name, problem in zip(self.pings, found, strict=True) if problem}
            self._found_at = self.clock.monotonic()
        own = {"process": self.process} if self.process else {}
        return {**own, **self.known(), **self._found}

    @staticmethod
    async def _ping(name: str, ping: Callable[[], Awaitable[None]]) -> str:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await ping()
        except TimeoutError:
            return f"{name} does not answer within {PING_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001  (a probe tells what is wrong, whatever it is)
            return f"{type(error).__name__}: {error}"
        return ""


def health_operations(check: HealthCheck) -> Sequence[Operation]:
    """`/health/live` and `/health/ready`."""

    async def live(_: Request[None]) -> Reply:
        return Reply(body=Liveness(service=check.service, installation=check.installation))

    async def ready(_: Request[None]) -> Reply:
        problems = dict(await check.problems())
        alarms = dict(check.alarms())
        found = Readiness(ready=not problems, problems=problems, alarms=alarms, faults=tuple(check.faults()))
        return Reply(503 if problems else 200, found)

    return (
        Operation(
            method="GET",
            path="/health/live",
            summary="Whether the process is alive, and whose it is",
            tag="health",
            handler=live,
            responses=[Response(status=200, description="It is", type=Liveness)],
        ),
        Operation(
            method="GET",
            path="/health/ready",
            summary="Whether the service can do its work, and what hinders it",
            tag="health",
            handler=ready,
            responses=[
                Response(status=200, description="Ready", type=Readiness),
                Response(status=503, description="Not ready", type=Readiness),
            ],
        ),
    )
