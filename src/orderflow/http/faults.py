"""`/ops/faults`: faults of a game day, set and cleared in every process of the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from orderflow.core.game_days.fault import Fault, FaultKind, FaultSet, FaultStore, NoTargetError, require_target
from orderflow.core.service import Service
from orderflow.core.timing import Clock
from orderflow.http import validation
from orderflow.http.operation import Operation, Parameter, Reply, Request, Response
from orderflow.http.operators.asking import NOT_THERE, act_of, operator, route
from orderflow.http.operators.examples import FAULT, FAULTS
from orderflow.http.problems import ProblemError

SILENT_MS = 5_000
LOOK_EVERY_S = 0.02

Text = Annotated[validation.Text, msgspec.Meta(min_length=1, max_length=200)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class FaultWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault at events of a type with that value in a field of that name, anywhere in the payload.

    `share` is the part of all keys that it strikes.
    """

    event_type: Text
    field: Text
    value: Text
    error: FaultKind
    share: Share = 1.0


class FaultList(msgspec.Struct, frozen=True, kw_only=True):
    """What is set, and how many processes of the service follow it."""

    faults: tuple[Fault, ...]
    processes: int


class FaultsChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What was set or cleared; that many processes, all that live, apply it so."""

    faults: tuple[Fault, ...]
    confirmed_by: int


_CHANGED = {"faults": FAULTS, "confirmed_by": 1}
_ALL = Response(200, "All of them", FaultList, example={"faults": FAULTS, "processes": 1})
_SET = Response(201, "Every process applies it", FaultsChanged, example=_CHANGED)
_CLEARED = Response(200, "No process applies it", FaultsChanged, example=_CHANGED)
_NO_TARGET = Response(422, "A field is not valid, or the service handles no such event or field; `detail` names it")


class Faults:
    """Answers from the service's database, where its processes share them. Only a process on a game day has this."""

    def __init__(self, service: Service, faults: FaultStore, clock: Clock) -> None:
        self._service = service
        self._faults = faults
        self._clock = clock

    async def listed(self, _: Request[None]) -> Reply:
        """The faults of a game day that are set.

        What fails on purpose, and how many processes follow it. Only a system started with `--game-day` has this.
        """
        found = await self._faults.current()
        readers = await self._faults.readers(SILENT_MS)
        return Reply(body=FaultList(faults=found.faults, processes=len(readers)))

    async def add(self, request: Request[FaultWanted]) -> Reply:
        """Make events fail on purpose, in every process of the service.

        Answers once every process applies it. Only a system started with `--game-day` has this.
        """
        act, wanted = act_of(request), request.body
        try:
            require_target(self._service, wanted.event_type, wanted.field)
        except NoTargetError as error:
            raise ProblemError(422, str(error)) from error
        fault = msgspec.convert(wanted, Fault, from_attributes=True)
        return await self._confirmed(201, await self._faults.add(fault, act))

    async def clear(self, request: Request[None]) -> Reply:
        """Clear one fault.

        Answers once no process applies it any longer.
        """
        act, number = act_of(request), request.values["id"]
        cleared = await self._faults.clear(number, act)
        if not cleared.faults:
            raise ProblemError(404, f"no fault {number} is set")
        return await self._confirmed(200, cleared)

    async def clear_all(self, request: Request[None]) -> Reply:
        """Clear every fault.

        Answers once no process applies it any longer.
        """
        return await self._confirmed(200, await self._faults.clear(None, act_of(request)))

    async def _confirmed(self, status: int, changed: FaultSet) -> Reply:
        """Once every process that lives applies it: one that does not say so falls silent, and counts as dead."""
        while True:
            readers = await self._faults.readers(SILENT_MS)
            if all(reader.revision >= changed.revision for reader in readers):
                return Reply(status, FaultsChanged(faults=changed.faults, confirmed_by=len(readers)))
            await self._clock.sleep(LOOK_EVERY_S)

    def operations(self) -> Sequence[Operation]:
        number = Parameter("id", "path", "The fault's id", Number)
        return (
            route("GET /ops/faults", self.listed, _ALL),
            route("POST /ops/faults", self.add, _SET, _NO_TARGET, parameters=[operator], example=FAULT),
            route("DELETE /ops/faults", self.clear_all, _CLEARED, parameters=[operator]),
            route("DELETE /ops/faults/{id}", self.clear, _CLEARED, NOT_THERE, parameters=[number, operator]),
        )
