"""What becomes of the messages of a batch that cannot go on: they fail, are held behind one that did, are given up,
or are deferred, which writes nothing. And how many of them may be.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from orderflow.messaging.clock import Clock
from orderflow.messaging.dead_letters import dead_letter
from orderflow.messaging.failures import PERMANENT, describe
from orderflow.messaging.flow import FLOW_STATUS, Dead, FlowEvent, Parked, Reopened
from orderflow.messaging.handling import attempts_of, intent_of
from orderflow.messaging.inbox import Failure, InboxState, ParkedEvent
from orderflow.messaging.incoming import Incoming, to_park
from orderflow.messaging.notes import close_intent, mark
from orderflow.messaging.policy import Policy, Terms
from orderflow.messaging.publisher import Publisher
from orderflow.messaging.result import Result
from orderflow.messaging.signals import Outcome
from orderflow.messaging.store import Changes, Snapshot, Store
from orderflow.messaging.transport import ConsumerRecord

LOOK_S = 30.0
LOOK_WHEN_FULL_S = 1.0


class Parking:
    """One fold's part of it. `closed` are keys with something parked, `stuck` those of which a parked event cannot
    go on, `deferred` those of which a new event was left to a later time: what comes behind it is left too.
    """

    def __init__(
        self,
        service: str,
        source: str,
        snapshot: Snapshot,
        policy: Policy,
        terms: Terms,
        publisher: Publisher,
        changes: Changes,
    ) -> None:
        self.closed = set(snapshot.depth)
        self.stuck: set[str] = set()
        self.deferred: set[str] = set()
        self._service = service
        self._source = f"{source}/flow"
        self._policy = policy
        self._terms = terms
        self._publisher = publisher
        self._changes = changes
        self._keys_left = terms.keys_left
        self._depth = dict(snapshot.depth)

    def fail(self, incoming: Incoming, record: ConsumerRecord, error: Exception) -> Result:
        """Park the message for another try, or give it up."""
        failure, before = describe(error), attempts_of(incoming)
        if failure.kind == PERMANENT:
            return self.bury(incoming, record, failure)
        if incoming.event_type in self._terms.spared:
            return self.defer(incoming, failure)
        attempts, delay = self._next_try(incoming, before)
        if delay is None:
            return self.bury(incoming, record, failure)
        if not self._has_room(incoming):
            return self.defer(incoming, failure, crowded=True)
        self._park(incoming, record, InboxState.PARKED, attempts, failure, delay)
        if not before:
            self._flow(Parked, incoming, {"error": failure.error})
        return Result(incoming, Outcome.PARKED, failure=failure, attempts=attempts)

    def bury(self, incoming: Incoming, record: ConsumerRecord, failure: Failure) -> Result:
        """Give the message up."""
        if not self._has_room(incoming):
            return self.defer(incoming, failure, crowded=True)
        attempts = attempts_of(incoming) + 1
        self._park(incoming, record, InboxState.DEAD, attempts, failure, 0)
        if record.topic:
            policy, consumer = self._policy, self._changes.consumer
            service, slots, release = self._service, policy.slots, policy.release
            letter = dead_letter(incoming, record, failure, attempts, consumer, service, slots, release)
            self._changes.outbox.append(letter)
        self._flow(Dead, incoming, {"error": failure.error, "attempts": attempts})
        return Result(incoming, Outcome.DEAD, failure=failure, attempts=attempts)

    def hold(self, incoming: Incoming, record: ConsumerRecord) -> Result:
        """Park the message behind what is parked of its key, without a try."""
        if not self._has_room(incoming):
            return self.defer(incoming, crowded=True)
        self._park(incoming, record, InboxState.PARKED, 0, None, 0)
        return Result(incoming, Outcome.HELD)

    def defer(self, incoming: Incoming, failure: Failure | None = None, *, crowded: bool = False) -> Result:
        """Write nothing of the message. `failure` if it was tried, `crowded` if it finds no room."""
        (self.deferred if incoming.parked is None else self.stuck).add(incoming.key)
        return Result(incoming, Outcome.DEFERRED, failure=failure, crowded=crowded)

    def reopen(self, last: Incoming) -> None:
        """Say that the key of `last` has nothing parked any more."""
        self._flow(Reopened, last, {})

    def _next_try(self, incoming: Incoming, before: int) -> tuple[int, int | None]:
        """How many attempts are used up now, and when the next is, in ms; None: there is none."""
        policy = self._policy
        if incoming.name in self._terms.free:
            return max(1, before), policy.away.longest_ms(policy.chance)
        return before + 1, policy.retry.again_in_ms(before + 1, policy.chance)

    def _has_room(self, incoming: Incoming) -> bool:
        if incoming.parked is not None:
            return True
        if incoming.key in self.closed:
            return self._depth.get(incoming.key, 0) < self._terms.depth_max
        return self._keys_left > 0

    def _park(
        self,
        incoming: Incoming,
        record: ConsumerRecord,
        state: InboxState,
        attempts: int,
        failure: Failure | None,
        delay_ms: int,
    ) -> None:
        event = ParkedEvent(
            key=incoming.key,
            identity=incoming.identity,
            event_id=incoming.event_id,
            event_type=incoming.event_type,
            record=to_park(incoming, record),
            state=state,
            attempts=attempts,
            failure=failure,
            delay_ms=delay_ms,
            intent=intent_of(incoming),
        )
        if incoming.parked is None:
            close_intent(self._changes, incoming)
            self._changes.parked.append(event)
            self._count(incoming.key)
        else:
            self._changes.reparked.append(replace(event, position=incoming.parked.position))
        if attempts:
            self.stuck.add(incoming.key)
        self.closed.add(incoming.key)
        mark(self._changes, incoming, state)

    def _count(self, key: str) -> None:
        self._depth[key] = self._depth.get(key, 0) + 1
        if key not in self.closed:
            self._keys_left -= 1

    def _flow(self, event_type: type[FlowEvent], incoming: Incoming, facts: dict[str, Any]) -> None:
        """Say what is stuck. A reader of these notices does not give notice of itself: it would be its own reader."""
        if incoming.record is not None and incoming.record.topic == FLOW_STATUS:
            return
        event = event_type(
            subject_key=incoming.key,
            consumer=self._changes.consumer,
            event_id=str(incoming.event_id),
            event_type=incoming.event_type,
            **facts,
        )
        self._publisher.publish(event, msgspec.json.encode(event), self._source, incoming)


class ParkingQuota:
    """How many keys may be parked at one consumer, so that it stays a number that people can look at.

    Counts what this process parks, and looks into the database now and then: others park there and take out too.

    So the bound is kept to within a batch of each process. Nothing is asked of the database while nothing is parked.
    """

    def __init__(self, consumer: str, store: Store, keys_max: int, clock: Clock) -> None:
        self._consumer = consumer
        self._store = store
        self._keys_max = keys_max
        self._clock = clock
        self._parked = 0
        self._look_at = 0.0

    @property
    def left(self) -> int:
        """So many more keys may be parked."""
        return max(0, self._keys_max - self._parked)

    async def look(self) -> None:
        """Count anew if it is time. Raises StoreUnavailableError."""
        if self._parked and self._clock.monotonic() >= self._look_at:
            self._parked = await self._store.parked_keys(self._consumer, self._keys_max)
            self._look_at = self._clock.monotonic() + (LOOK_S if self.left else LOOK_WHEN_FULL_S)

    def took(self, changes: Changes, *, holding: bool) -> None:
        """This has been written. Unless a fold was `holding`, what it held was behind a parked event: no new key."""
        keys = {event.key for event in changes.parked if event.attempts or holding}
        if keys and not self._parked:
            self._look_at = 0.0
        self._parked += len(keys)
        if not self.left:
            self._look_at = min(self._look_at, self._clock.monotonic() + LOOK_WHEN_FULL_S)
