"""What a consumer says of its own stuck keys, on the topic `flow-status`."""

from __future__ import annotations

from typing import ClassVar

from orderflow.messaging.message import Event

FLOW_STATUS = "flow-status"


class FlowEvent(Event, frozen=True, kw_only=True):
    """`subject_key` is stuck (or free again) at `consumer`, because of the event `event_id` of `event_type`."""

    TOPIC: ClassVar[str] = FLOW_STATUS

    subject_key: str
    consumer: str
    event_id: str
    event_type: str

    @property
    def key(self) -> str:
        return self.subject_key


class Parked(FlowEvent, frozen=True, kw_only=True):
    """The event failed and will be tried again; the later events of its key wait behind it."""

    TYPE: ClassVar[str] = "orderflow.Parked"

    error: str


class Dead(FlowEvent, frozen=True, kw_only=True):
    """The event was given up after `attempts` and is on the dead-letter topic; its key stays closed."""

    TYPE: ClassVar[str] = "orderflow.Dead"

    error: str
    attempts: int


class Reopened(FlowEvent, frozen=True, kw_only=True):
    """The key flows again. The event named is the last one that had to wait."""

    TYPE: ClassVar[str] = "orderflow.Reopened"


FLOW_EVENTS: tuple[type[FlowEvent], ...] = (Parked, Dead, Reopened)
