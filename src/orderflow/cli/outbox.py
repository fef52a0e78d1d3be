"""`orderflow outbox`: see what waits to be published, and publish again what the log has lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import NotFoundError, RequestRefusedError
from orderflow.cli.lazy import Group
from orderflow.cli.output import text
from orderflow.cli.session import Answers, Session, ask, session_options
from orderflow.cli.tables import duration, table, when
from orderflow.cli.values import instant, order_id
from orderflow.registry import service_names

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.group(cls=Group)
def outbox() -> None:
    """Show events waiting to be published, and republish what the log has lost.

    \b
    orderflow outbox status
    orderflow outbox republish --topic order-events --from 2h --rehearse
    """


@outbox.command()
@session_options
def status(session: Session) -> None:
    """Show how many events each service has still to publish, and how old the oldest is.

    A count that does not fall, or an age that grows, means that the log cannot be reached or the relay is not
    running. Exit code 3 if a service did not answer.

    \b
    orderflow outbox status
    orderflow outbox status --json | jq '[.services[].unsent] | add'
    """
    answers = ask(session, lambda client: client.get("/ops/outbox"))
    session.answer(answers, {"services": answers.found}, _parts_of_status(answers.found))


def _parts_of_status(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    rows = [
        (name, backlog["unsent"], duration(backlog["oldest_ms"]) if backlog["unsent"] else "-")
        for name, backlog in found.items()
    ]
    yield table(("service", "unsent", "oldest"), rows, right=("unsent", "oldest"))


@outbox.command()
@click.option("--topic", help="Only events sent to this topic.")
@click.option("--order", "key", type=order_id, metavar="ORDER_ID", help="Only events of this order.")
@click.option("--from", "from_ms", type=instant, metavar="TIME", help="Only events written at this time or later.")
@click.option("--to", "to_ms", type=instant, metavar="TIME", help="Only events written before this time.")
@click.option("--all", "everything", is_flag=True, help="Everything the outbox still has.")
@click.option("--service", type=click.Choice(service_names()), help="Only events of this service.  [default: all]")
@click.option("--rehearse", is_flag=True, help="Change nothing; show what would be republished.")
@click.option("--yes", is_flag=True, help="Confirm.")
@click.option("--reason", metavar="TEXT", default="", help="Why; recorded in the operators' log.")
@session_options
def republish(
    session: Session,
    topic: str | None,
    key: str | None,
    from_ms: int | None,
    to_ms: int | None,
    everything: bool,
    service: str | None,
    rehearse: bool,
    yes: bool,
    reason: str,
) -> None:
    """Republish what the log has lost: a deleted topic, or records that expired before they were read.

    Events keep their ids and, for each order, their sequence. Consumers drop those they have handled, so
    republishing too many does no harm. The outbox keeps published events for ORDERFLOW_OUTBOX_KEEP_HOURS. A TIME is
    like 2026-05-12T08:00, or how long ago: 10m, 2h, 1d.

    Exit code: 0 done, 3 a service did not answer (the others did it), 4 there is no such event, 5 not confirmed.

    \b
    orderflow outbox republish --topic order-events --from 2h --rehearse
    orderflow outbox republish --topic order-events --from 2h --yes --reason "the topic was deleted, ticket 4711"
    orderflow outbox republish --order 01981c5e-7a40-7000-8000-0123456789ab --yes --reason "lost at the broker"
    """
    given = {"topic": topic, "key": key, "from_ms": from_ms, "to_ms": to_ms}
    wanted = {name: value for name, value in given.items() if value is not None}
    if bool(wanted) == everything:
        raise click.UsageError("Say what to republish: --all, or any of --topic, --order, --from and --to")
    answers = ask(session, lambda client: client.get("/ops/outbox/published", wanted), service)
    _require_meant(answers, meant=rehearse or (yes and bool(reason.strip())))
    done = {} if rehearse else _republish(session, answers, {**wanted, "reason": reason, "confirmed": yes})
    told = {"rehearsed": rehearse, "published": answers.found, "republished": done}
    session.answer(answers, told, _parts_of_republish(answers, done, rehearsed=rehearse))


def _require_meant(answers: Answers, *, meant: bool) -> None:
    """Raises NotFoundError, RefusedError."""
    total = sum(rows["count"] for _, rows in answers.each())
    if not total and not answers.away:
        raise NotFoundError(
            f"The outbox of {', '.join(answers.found)} has no published event of that kind. Has it expired? See "
            "how long events are kept with: orderflow settings"
        )
    if not meant:
        raise RequestRefusedError(
            f"This publishes {total} events again, for every consumer. To see them, add: --rehearse. To "
            "confirm, add: --yes --reason TEXT"
        )


def _republish(session: Session, answers: Answers, body: Mapping[str, Any]) -> Mapping[str, int]:
    """By service how many events are published again."""
    done = {}
    for name, found in answers.found.items():
        if found:
            with session.client(name) as client:
                done[name] = act(client, "POST", "/ops/outbox/republish", body)["republished"]
    return done


def _parts_of_republish(answers: Answers, done: Mapping[str, int], *, rehearsed: bool) -> Iterator[RenderableType]:
    rows = [
        (name, rows["topic"], rows["count"], when(rows["oldest"]), when(rows["newest"]))
        for name, rows in answers.each()
    ]
    yield table(("service", "topic", "events", "from", "to"), rows, right=("events",))
    if rehearsed:
        yield text("Nothing was changed. To publish them again, replace --rehearse with: --yes --reason TEXT")
    else:
        yield text(f"{sum(done.values())} events are being published again. See: orderflow outbox status")
