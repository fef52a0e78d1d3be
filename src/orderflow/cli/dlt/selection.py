"""Which dead events a command means (by id, a whole group, or all), and how the services are asked for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import join
from typing import Any, NoReturn

import click
from msgspec import Struct, to_builtins

from orderflow.cli.errors import NotFoundError, RequestRefusedError
from orderflow.cli.http import ServiceClient
from orderflow.cli.session import Answers, Session, ask, service_option
from orderflow.cli.values import ShortEvent, event_or_position
from orderflow.core.operations.model import DeadLetter, DeadLetterDetails, DeadLetterPage

PAGE = 1000
PATH = "/ops/dead-letters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Exactly one of `events`, `group` and `everything` is given."""

    events: tuple[str, ...]
    group: str | None
    everything: bool
    service: str | None

    def with_ids(self, whole: Callable[[Any], Any]) -> Choice:
        """The same with the whole id for each short one."""
        return replace(self, events=whole(self.events))

    def rehearsal(self, session: Session) -> str:
        """The command that rehearses these events, to be copied."""
        events = self.events or (("--all",) if self.group is None else ("--group", self.group))
        service = () if self.service is None else ("--service", self.service)
        return session.given.command(join(("dlt", "rehearse", *events, *service)))

    def filter(self) -> dict[str, Any]:
        """As the services read it."""
        if self.events:
            return {"events": [int(event) if event.isdigit() else event for event in self.events]}
        return {} if self.group is None else {"fingerprint": self.group}


def choice_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `EVENT_ID… | --group | --all` and --service, and hand the command its `choice`."""

    @functools.wraps(command)
    def with_choice(
        *, events: tuple[str, ...], group: str | None, everything: bool, service: str | None, **given: Any
    ) -> None:
        command(choice=chosen(events, group, everything, service), **given)

    decorators = (
        click.argument("events", type=event_or_position, metavar="[EVENT_ID]...", nargs=-1),
        click.option("--group", metavar="GROUP", help="All events of this group; `orderflow dlt groups` lists them."),
        click.option("--all", "everything", is_flag=True, help="All dead events."),
        service_option,
    )
    decorated: Callable[..., None] = with_choice
    for decorator in reversed(decorators):
        decorated = decorator(decorated)
    return decorated


def chosen(events: tuple[str, ...], group: str | None, everything: bool, service: str | None) -> Choice:
    """Raises click.UsageError."""
    if sum((bool(events), group is not None, everything)) != 1:
        raise click.UsageError("Name the events in one way: EVENT_ID..., --group GROUP, or --all")
    require_service(events, service)
    return Choice(events=events, group=group, everything=everything, service=service)


def require_service(events: Sequence[str], service: str | None) -> None:
    """Raises click.UsageError: a position without its service."""
    positions = [event for event in events if event.isdigit() and not isinstance(event, ShortEvent)]
    if positions and service is None:
        raise click.UsageError(
            f"Position {positions[0]} counts within one service. Add --service NAME, or give an event's id"
        )


def read_letters(client: ServiceClient, wanted: Mapping[str, str | int], limit: int) -> list[DeadLetter]:
    """A service's dead letters by position, at most `limit`. `wanted` are the filters. Raises CliError."""
    letters: list[DeadLetter] = []
    after: int | None = 0
    while after is not None and len(letters) < limit:
        asked = {**wanted, "limit": min(PAGE, limit - len(letters)), "after": after}
        page = client.read(DeadLetterPage, PATH, asked)
        letters += page.dead_letters
        after = page.next
    return letters


def read_details(client: ServiceClient, event: str) -> DeadLetterDetails:
    """Raises CliError; NotFoundError: it waits no longer there, or never did."""
    return client.read(DeadLetterDetails, f"{PATH}/{event}")


def require_found(event: str, answers: Answers) -> NoReturn:
    """Raises NotFoundError when everybody was asked, UnreachableError when not."""
    answers.require_all()
    raise NotFoundError(
        f"No dead or parked event {event} at {', '.join(answers.found)}. See what there is with: orderflow dlt list"
    )


def of_service(service: str, told: Struct) -> dict[str, Any]:
    """What a service has told, for a program: with the service's name."""
    return {"service": service, **to_builtins(told)}


@dataclass(frozen=True, slots=True)
class Holder:
    """A service's part: `letters` are the first of such events; `confirm` says why acts on them must be confirmed."""

    letters: Sequence[DeadLetter]
    confirm: str


def holders(session: Session, choice: Choice, most: int = 1) -> tuple[Mapping[str, Holder], Answers]:
    """The services that have dead events of this choice (the first `most` of them), or any event of these ids.

    Raises CliError: none has.
    """
    answers = ask(session, lambda client: _held(client, choice, most), choice.service)
    found = {name: holder for name, holder in answers.found.items() if holder.letters}
    if not found:
        answers.require_all()
        what = ", ".join(choice.events) or ("at all" if choice.group is None else f"of group {choice.group}")
        raise NotFoundError(
            f"There is no dead event {what} at {', '.join(answers.found)}. See what there is with: orderflow dlt list"
        )
    return found, answers


def require_confirmed(
    session: Session, choice: Choice, held: Mapping[str, Holder], *, yes: bool, reason: str
) -> None:
    """Nothing is begun anywhere before. Raises RequestRefusedError: acts on these events must be confirmed."""
    causes = [f"{service} ({holder.confirm})" for service, holder in held.items() if holder.confirm]
    if causes and not (yes and reason.strip()):
        raise RequestRefusedError(
            f"This acts on events of {' and '.join(causes)}, so it must be confirmed, with a reason. To "
            f"confirm, add: --yes --reason TEXT. To see first what a replay would do: {choice.rehearsal(session)}"
        )


def _held(client: ServiceClient, choice: Choice, most: int) -> Holder:
    if not choice.events:
        page = client.read(DeadLetterPage, PATH, {**choice.filter(), "limit": most})
        return Holder(page.dead_letters, page.confirm)
    letters, confirm = [], ""
    for event in choice.events:
        try:
            found = read_details(client, event)
        except NotFoundError:
            continue
        letters.append(found.letter)
        confirm = found.confirm
    return Holder(letters, confirm)
