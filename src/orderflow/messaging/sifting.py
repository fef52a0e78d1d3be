"""Which messages of a batch may be tried now, and which wait for the end of an outage."""

from __future__ import annotations

from collections.abc import Sequence

from orderflow.messaging.incoming import Incoming
from orderflow.messaging.outage_watch import OutageWatch


def sift(batch: Sequence[Incoming], watch: OutageWatch, behind: set[str]) -> list[int]:
    """The places of those that may be tried. The keys of the others are added to `behind`: what follows them waits.

    A key that has failed with an event of a type in outage may go when it is its turn to probe.
    """
    places: list[int] = []
    for place, incoming in enumerate(batch):
        if incoming.record is None or (incoming.key not in behind and watch.may_go(incoming)):
            places.append(place)
        else:
            behind.add(incoming.key)
    return places
