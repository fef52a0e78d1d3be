"""What is due in the twin, and what is tried again and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from orderflow.messaging.inbox import InboxState
from orderflow.messaging.store import Due, Standing, Unending, WorkKind
from orderflow.messaging.stores.memory.state import DueTimes, State, Waiting

Place = tuple[WorkKind, str, str]


def heads(state: State, consumer: str) -> Mapping[str, Waiting]:
    """The head of each key that has something parked at the consumer."""
    found: dict[str, Waiting] = {}
    for waiting in sorted(state.parked.values(), key=lambda each: each.event.position):
        if waiting.consumer == consumer:
            found.setdefault(waiting.event.key, waiting)
    return found


def standing(
    state: State,
    consumers: Sequence[str],
    times: DueTimes,
    age_ms: int,
    acknowledged: Collection[int],
    process: object,
) -> Standing:
    """As `messaging.store.Store.standing` says, asked by that process."""
    now = times.now
    due: dict[Place, list[tuple[int, str, str]]] = defaultdict(list)
    old: dict[Place, list[tuple[int, str]]] = defaultdict(list)
    for number, slot in state.pending.items():
        if number in acknowledged:
            continue
        due[WorkKind.OUTBOX, "", str(slot)].append((number, "", str(number)))
    for consumer in consumers:
        for key, head in heads(state, consumer).items():
            event = head.event
            if event.state is InboxState.PARKED and head.next_attempt_at in times:
                name = f"{event.position}/{event.attempts}"
                due[WorkKind.RETRY, consumer, event.event_type].append((head.next_attempt_at, key, name))
            since = event.first_failed_at
            if event.state is InboxState.PARKED and since is not None and since <= now - age_ms:
                old[WorkKind.RETRY, consumer, ""].append((since, key))
    for key, asked in state.intents.items():
        kind, intent = asked.intent.intent.kind, asked.intent
        if asked.due_at in times:
            due[WorkKind.INTENT, "", kind].append((asked.due_at, key, f"{key}/{intent.attempts}"))
        if asked.created_at <= now - age_ms:
            old[WorkKind.INTENT, "", kind].append((asked.created_at, key))
    return Standing(
        [Due(*place, len(found), min(found)[2]) for place, found in due.items()],
        list(_unending(old, now)),
        sum(each.is_free_for(process, times) for each in state.replays.values()),
    )


def _unending(old: Mapping[Place, Sequence[tuple[int, str]]], now: int) -> Iterable[Unending]:
    for (kind, consumer, _), found in old.items():
        since, key = min(found)
        yield Unending(kind, consumer, len(found), now - since, key)
