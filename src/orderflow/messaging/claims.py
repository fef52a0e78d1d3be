"""Whose topics and groups are: claims in the order in which a log took them, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

import msgspec

from orderflow.messaging.transport import Claim, ClaimedError


class Entry(msgspec.Struct, frozen=True):
    """A claim as it stands in a register."""

    owner: UUID
    names: tuple[str, ...]
    takes_over: bool = False


def entry_of(claim: Claim) -> Entry:
    return Entry(claim.owner, tuple(claim.names), claim.takes_over)


def encode(entry: Entry) -> bytes:
    return msgspec.json.encode(entry)


def decode(value: bytes | None) -> Entry | None:
    """None for what is no claim."""
    try:
        return msgspec.json.decode(value or b"", type=Entry)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def owners(entries: Iterable[Entry]) -> dict[str, UUID]:
    """Who has what. A claim that overlaps an earlier one of another counts for nothing, unless it takes over."""
    held: dict[str, UUID] = {}
    for entry in entries:
        if entry.takes_over or all(held.get(name, entry.owner) == entry.owner for name in entry.names):
            held.update(dict.fromkeys(entry.names, entry.owner))
    return held


def is_held(claim: Claim, held: Mapping[str, UUID]) -> bool:
    """Whether all of it is the claimant's already. Raises ClaimedError: some is another's, and is not taken over."""
    others = {name: held[name] for name in claim.names if held.get(name, claim.owner) != claim.owner}
    if others and not claim.takes_over:
        raise ClaimedError(others)
    return not others and held.keys() >= set(claim.names)
