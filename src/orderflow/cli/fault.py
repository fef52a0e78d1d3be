"""`orderflow fault`: make events fail on purpose, on a game day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from orderflow.cli.acting import OPERATOR
from orderflow.cli.errors import NotFoundError, RequestRefusedError
from orderflow.cli.http import ServiceClient
from orderflow.cli.lazy import Group
from orderflow.cli.output import text
from orderflow.cli.session import Answers, Session, ask, service_option, session_options
from orderflow.cli.tables import table
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType


KINDS = ("permanent", "infrastructure", "hang")
CONFIRM_S = 15.0
NO_GAME_DAY = (
    "This system was not started for a game day, so it accepts no faults. Start it with: orderflow up --game-day"
)
_NAME = re.compile(r"^([a-z][a-z0-9]*)-([1-9][0-9]{0,17})$")


class Match(NamedTuple):
    """Events with this value in a field of this name, anywhere in the payload."""

    field: str
    value: str


class FaultName(NamedTuple):
    """`payment-3`: the service, and its number there."""

    service: str
    number: int


def match(value: Any) -> Match:
    """`FIELD=VALUE`. Raises click.BadParameter."""
    if isinstance(value, Match):
        return value
    field, _, wanted = str(value).partition("=")
    if not field or not wanted:
        raise click.BadParameter(f"{value!r} matches nothing. Expected: FIELD=VALUE, for example sku=SKU-MILK-JUG")
    return Match(field, wanted)


def share(value: Any) -> float:
    """A part of all keys. Raises click.BadParameter."""
    try:
        part = float(value)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise click.BadParameter(f"{value!r} is not a share. Expected: a number above 0 and up to 1, for example 0.3")
    return part


def fault_name(value: Any) -> FaultName:
    """The id of a fault as it is listed. Raises click.BadParameter."""
    if isinstance(value, FaultName):
        return value
    found = _NAME.match(str(value))
    if found is None or found[1] not in service_names():
        raise click.BadParameter(
            f"{value!r} is not a fault. Expected: SERVICE-NUMBER such as payment-3; `orderflow fault list` "
            "shows the ids"
        )
    return FaultName(found[1], int(found[2]))


@click.group(cls=Group)
def fault() -> None:
    """Make events fail on purpose, for exercises, demonstrations and tests.

    Only in a system started with --game-day. A fault stays set when a process restarts; the logs repeat it every 10
    s, and `orderflow health` shows it.

    \b
    orderflow up --game-day
    orderflow fault add payment --event OrderPlaced --match sku=SKU-MILK-JUG --error permanent
    orderflow fault list
    orderflow fault clear --all
    """


@fault.command()
@click.argument("service", type=click.Choice(service_names()))
@click.option(
    "--event", required=True, metavar="TYPE", help="Fail events of this type: OrderPlaced, orderflow.OrderPlaced."
)
@click.option(
    "--match", "matched", required=True, type=match, metavar="FIELD=VALUE", help="Only those with this value."
)
@click.option("--error", required=True, type=click.Choice(KINDS), help="How they fail.")
@click.option("--share", "part", type=share, default=1.0, show_default=True, help="Share of the keys that fail.")
@session_options
def add(session: Session, service: str, event: str, matched: Match, error: str, part: float) -> None:
    """Set a fault; returns once every living process of SERVICE applies it.

    FIELD is a name anywhere in the payload, such as sku or order_id. permanent: the event fails at every try, so it
    is parked and given up. infrastructure: it fails as if the database were down, so the consumer waits and no
    attempt is used up. hang: the consumer stalls.

    \b
    orderflow fault add payment --event OrderPlaced --match sku=SKU-MILK-JUG --error permanent
    orderflow fault add inventory --event PaymentSucceeded --match currency=EUR --error hang --share 0.3
    """
    wanted = {
        "event_type": event,
        "field": matched.field,
        "value": matched.value,
        "error": error,
        "share": part,
    }
    with session.client(service) as client:
        require_game_day(client)
        done = _act(client, "POST", "/ops/faults", wanted)
    found = named(service, done["faults"][0])
    processes = "1 process" if done["confirmed_by"] == 1 else f"{done['confirmed_by']} processes"
    shown = (
        text(f"{found['id']} is set, confirmed by {processes}.", "bold magenta"),
        f"Clear it with: orderflow fault clear {found['id']}",
    )
    session.out.answer({"fault": found, "confirmed_by": done["confirmed_by"]}, shown)


@fault.command(name="list")
@service_option
@session_options
def list_faults(session: Session, service: str | None) -> None:
    """List the faults that are set.

    \b
    orderflow fault list
    orderflow fault list --json | jq -r '.faults[].id'
    """
    answers = ask(session, lambda client: client.get("/ops/faults"), service)
    found = _found(answers)
    session.answer(answers, {"faults": found}, _parts(found))


@fault.command()
@click.argument("name", type=fault_name, metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every fault of every service.")
@session_options
def clear(session: Session, name: FaultName | None, everything: bool) -> None:
    """Clear a fault, or with --all every one; returns once no living process applies it.

    \b
    orderflow fault clear payment-3
    orderflow fault clear --all
    """
    if (name is None) != everything:
        raise click.UsageError("Which fault? Give its id, such as payment-3, or --all")
    if name is None:
        answers = ask(session, _clear_all)
    else:
        with session.client(name.service) as client:
            require_game_day(client)
            done = _act(client, "DELETE", f"/ops/faults/{name.number}")
        answers = Answers({name.service: done}, {})
    found = _found(answers)
    shown = f"Cleared: {', '.join(each['id'] for each in found)}." if found else "No fault was set."
    session.answer(answers, {"cleared": found}, [shown])


def _clear_all(client: ServiceClient) -> Any:
    client.get("/ops/faults")
    return _act(client, "DELETE", "/ops/faults")


def _act(client: ServiceClient, method: str, path: str, body: object = None) -> Any:
    from orderflow.local.home import person_here

    return client.ask(method, path, body=body, headers={OPERATOR: person_here()}, wait_s=CONFIRM_S).body


def require_game_day(client: ServiceClient) -> None:
    """Raises RequestRefusedError."""
    try:
        client.get("/ops/faults")
    except NotFoundError as error:
        raise RequestRefusedError(NO_GAME_DAY) from error


def _found(answers: Answers) -> list[dict[str, Any]]:
    """The faults in the answers, each with its service. Raises RequestRefusedError: nobody is on a game day."""
    told = {name: answer for name, answer in answers.found.items() if answer is not None}
    if not told:
        raise RequestRefusedError(NO_GAME_DAY)
    return [named(name, fault) for name, answer in told.items() for fault in answer["faults"]]


def named(service: str, fault: Mapping[str, Any]) -> dict[str, Any]:
    """A fault as a service tells it, by the id that commands take: its number counts within its service."""
    return {**fault, "service": service, "id": f"{service}-{fault['id']}"}


def _parts(found: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    columns, rows = ("fault", "error", "events", "with", "share"), [_row(each) for each in found]
    yield table(columns, rows, right=("share",), drop=("share",)) if rows else "No fault is set."


def _row(fault: Mapping[str, Any]) -> tuple[object, ...]:
    matched = f"{fault['field']}={fault['value']}"
    return text(fault["id"], "bold"), fault["error"], fault["event_type"], matched, f"{fault['share']:.3g}"
