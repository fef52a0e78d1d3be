"""What is shown of replays: while they run, and of how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.dlt.following import ReplayName, Replays, follow
from orderflow.cli.errors import ExitCode, UnreachableError

if TYPE_CHECKING:
    from orderflow.cli.session import Session
    from orderflow.cli.tables import Fitted

STYLES = MappingProxyType({"running": "cyan", "paused": "yellow", "stopped": "bold red", "done": "green"})
COUNTS = ("waiting", "under_way", "succeeded", "failed_again", "discarded", "gone")
FAILED_SHOWN = 20


def conclude(session: Session, begun: Mapping[str, Any], away: Mapping[str, str], *, detach: bool) -> None:
    """Follow what was begun (by service) to its end, show it, and end with its exit code.

    `away`: by service, the sentence why nothing was begun there. Raises UnreachableError: there is one.
    """
    names = [ReplayName(service, replay["number"]) for service, replay in begun.items()]
    found: Replays = {str(name): begun[name.service] for name in names} if detach else follow(session, names)
    failed = [] if detach else _failed_again(session, names, found)
    if session.out.as_json:
        replays = [{"replay": str(name), "service": name.service, **found[str(name)]} for name in names]
        session.out.document({"replays": replays, "failed_again": failed, "unreachable": dict(away)})
    else:
        _show(session, found, failed, detach=detach)
    if away:
        raise UnreachableError(f"Not everything was replayed: {'; '.join(away.values())}")
    if not detach and any(each["state"] != "done" or each["progress"]["failed_again"] for each in found.values()):
        raise click.exceptions.Exit(ExitCode.FAILED)


def show_replays(session: Session, found: Replays) -> None:
    """How they stand, and for each that is held: why, and how to go on."""
    from orderflow.cli.output import text

    session.out.show(_table_of(found))
    for name, each in found.items():
        if each["state"] in {"stopped", "paused"}:
            why = f": {each['why']}" if each["why"] else ""
            session.out.show("", text(f"{name} was {each['state']}{why}", "bold red"))
            session.out.show(text(f"Once that is mended, go on with: orderflow dlt resume {name}"))


def _table_of(found: Replays) -> Fitted:
    """One line a replay."""
    from orderflow.cli.output import text
    from orderflow.cli.tables import table, when

    return table(
        ("replay", "state", *(name.replace("_", " ") for name in COUNTS), "begun", "by", "reason"),
        [
            (
                text(name, "bold"),
                text(each["state"], STYLES.get(each["state"], "")),
                *(each["progress"][count] for count in COUNTS),
                when(each["created_at"]),
                each["who"],
                each["reason"],
            )
            for name, each in found.items()
        ],
        right=tuple(name.replace("_", " ") for name in COUNTS),
        drop=("reason", "by", "gone", "discarded", "begun", "under way", "waiting"),
    )


def _failed_again(session: Session, names: Sequence[ReplayName], found: Replays) -> list[dict[str, Any]]:
    """Those replayed events that have failed since the replay began."""
    from datetime import datetime

    from orderflow.cli.dlt.letters import read_letters

    failed: list[dict[str, Any]] = []
    for name in names:
        if not found[str(name)]["progress"]["failed_again"]:
            continue
        since = datetime.fromisoformat(found[str(name)]["created_at"])
        with session.client(name.service) as client:
            letters = read_letters(client, {"state": "dead"}, 1000)
        failed += [
            {"service": name.service, **letter}
            for letter in letters
            if letter["replays"]
            and letter["last_failed_at"]
            and datetime.fromisoformat(letter["last_failed_at"]) >= since
        ]
    return failed


def _show(session: Session, found: Replays, failed: Sequence[Mapping[str, Any]], *, detach: bool) -> None:
    from orderflow.cli.dlt import letter_view
    from orderflow.cli.output import text

    show_replays(session, found)
    if failed:
        session.out.show("", text("Failed again:", "bold red"), *letter_view.listed(failed[:FAILED_SHOWN]))
    if len(failed) > FAILED_SHOWN:
        session.out.show(f"and {len(failed) - FAILED_SHOWN} more: orderflow dlt list")
    if detach:
        session.out.show("", "The services go on by themselves. See how it stands with: orderflow dlt replays")
