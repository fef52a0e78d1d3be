"""Which messages of a batch may be tried now, and which wait for the end of an outage."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.outage_watch import OutageWatch


def sift(batch: Sequence[Incoming], watch: OutageWatch, behind: set[str]) -> list[int]:
    """The places of those that may be tried. The keys of the others are added to `behind`: what follows them waits.

    One message of a type in outage may be tried when it is time to probe.
    """
    places: list[int] = []
    for place, incoming in enumerate(batch):
        if incoming.record is None or (incoming.key not in behind and _may_go(incoming.event_type, watch)):
            places.append(place)
        else:
            behind.add(incoming.key)
    return places


def _may_go(event_type: str, watch: OutageWatch) -> bool:
    return event_type not in watch.paused or watch.may_probe(event_type)
