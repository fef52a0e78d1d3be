"""Who asks, and what that one may do. How a caller proves who it is, is the business of the door it comes in by.

A role says what its holder may do, and nothing that another role says: one table, made of the permissions that use
cases declare, holds it all (docs/security.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

PERSONAL = msgspec.Meta(extra={"personal": True})
"""Marks a field of an answer that tells something of a customer. Who may not see that gets it empty."""


class Role(StrEnum):
    """SHOP places orders and reads its own. VIEWER reads, without personal data. OPERATOR replays, edits and
    discards. APPROVER decides about money, and lowers stock.
    """

    SHOP = "shop"
    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"


class Caller(msgspec.Struct, frozen=True):
    """Somebody who has proved to be `name`. `shop` is whose orders a caller with the role SHOP places and reads."""

    name: str
    roles: frozenset[Role] = frozenset()
    shop: str | None = None

    @property
    def is_anonymous(self) -> bool:
        return self == ANONYMOUS

    @property
    def has_shown_nothing(self) -> bool:
        return self in (ANONYMOUS, STRANGER)

    @property
    def reads_shop(self) -> str | None:
        """The one shop whose orders it reads; None: those of all. No order is of the shop ""."""
        return None if self.is_anonymous or not self.roles <= {Role.SHOP} else self.shop or ""

    @property
    def sees_personal_data(self) -> bool:
        """Whether it may read what a customer is called, of the orders that it reads."""
        is_in_the_house = self.is_anonymous or not self.roles.isdisjoint({Role.OPERATOR, Role.APPROVER})
        return is_in_the_house or Role.VIEWER not in self.roles

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(sorted(self.roles)) or 'no role'})"


ANONYMOUS = Caller("anonymous")
"""Who has shown no token, at a door that only this machine reaches."""

STRANGER = Caller("stranger")
"""Who has shown no token, at any other door."""

PLATFORM = Caller("orderflow", frozenset(Role))
"""The platform itself: what it does by its own design and nobody's wish."""

RESERVED_NAMES = frozenset({ANONYMOUS.name, STRANGER.name, PLATFORM.name})
"""No token is called so."""


class InvalidTokenError(Exception):
    """What was shown proves nothing: no token of ours, expired or revoked. The text is a sentence for the caller."""


class CannotVerifyError(Exception):
    """Whether what was shown is good cannot be told now: what it is checked against is away."""


class ForbiddenError(Exception):
    """The caller may not do this: none of its roles is among those `needed`. The text is a sentence for it."""

    def __init__(self, caller: Caller, needed: frozenset[Role]) -> None:
        who = "no one without a token may" if caller.has_shown_nothing else f"{caller} may not"
        super().__init__(f"{who} do this: it needs the role {' or '.join(sorted(needed))}")
        self.caller = caller
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Permission:
    """Which roles may do something, one of them being enough. `anonymous`: who has no token may, too, on loopback.
    `everybody`: it says nothing of anybody, so that no token is asked for anywhere.
    """

    roles: frozenset[Role]
    anonymous: bool = False
    everybody: bool = False

    def allows(self, caller: Caller) -> bool:
        if not self.roles.isdisjoint(caller.roles):
            return True
        return self.everybody or (self.anonymous and caller.is_anonymous)

    def require(self, caller: Caller) -> None:
        """Raises ForbiddenError."""
        if not self.allows(caller):
            raise ForbiddenError(caller, self.roles)


EVERYBODY = Permission(frozenset(Role), anonymous=True, everybody=True)
READ = Permission(frozenset({Role.VIEWER, Role.OPERATOR, Role.APPROVER}), anonymous=True)
INSPECT = Permission(frozenset({Role.OPERATOR, Role.APPROVER}), anonymous=True)
"""To read what cannot be told without personal data."""

OPERATE = Permission(frozenset({Role.OPERATOR}))
APPROVE = Permission(frozenset({Role.APPROVER}))
