"""`orderflow dlt replay`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.dlt.acting import confirm_options
from orderflow.cli.dlt.choosing import Choice, choice_options
from orderflow.cli.errors import CliError, RefusedError
from orderflow.cli.session import Session, session_options

if TYPE_CHECKING:
    from orderflow.cli.dlt.choosing import Holder


def share(value: Any) -> float:
    """`5%` or `0.05`. Raises click.BadParameter."""
    if isinstance(value, float):
        return value
    words = str(value)
    try:
        number = float(words.removesuffix("%")) / (100 if words.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise click.BadParameter(f"{value!r} is no share. Wanted: 0% to 100%, or 0 to 1, for example 5% or 0.05")
    return number


@click.command()
@choice_options
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Events a second.  [default: as fast as it goes]"
)
@click.option(
    "--canary/--at-once",
    default=True,
    help="1, 2, 5, 10, ... at a time, the next step only when this one went well; "
    "or up to 200 before the first has its outcome.  [default: --canary]",
)
@click.option(
    "--max-failing",
    type=share,
    metavar="SHARE",
    default=0.05,
    help="Stop when more than this share has failed again.  [default: 5%]",
)
@click.option("--detach", is_flag=True, help="Do not wait; the services go on by themselves.")
@confirm_options
@session_options
def replay(
    session: Session,
    choice: Choice,
    rate: float | None,
    canary: bool,
    max_failing: float,
    detach: bool,
    yes: bool,
    reason: str,
) -> None:
    """Send dead events through the consumer that gave them up, and follow each to its real outcome.

    They keep their ids, so what was handled before has no second effect, and the events that waited behind go on
    in their order. It goes in small steps that grow, and stops by itself when too many fail again, or the consumer
    falls behind with live traffic: what was not sent by then stays dead. Ctrl-C holds it and says how to go on.
    Where money moves it wants --yes and --reason.

    Exit code: 0 all went through, 1 some failed again or it was stopped.

    \b
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt replay --group 3f2a9c41d0e7 --rate 50
    orderflow dlt replay 8ec9495d-610d-5954-a202-3d44caf9480b --yes --reason "release 1.4.3 reads it"
    orderflow dlt replay --all --detach --json | jq -r '.replays[].replay'
    """
    from orderflow.cli.dlt.acting import require_confirmed
    from orderflow.cli.dlt.choosing import holders
    from orderflow.cli.dlt.replaying import conclude

    found, asked = holders(session, choice)
    held = _dead_at(found)
    require_confirmed({name: holder.confirm for name, holder in held.items()}, yes=yes, reason=reason)
    body = {
        "filter": choice.filter(),
        "plan": {"rate_per_s": rate, "canary": canary, "failing_share_max": max_failing},
        "reason": reason,
        "confirmed": yes,
    }
    begun, refused = _begin(session, list(held), body)
    conclude(session, begun, {**asked.away, **refused}, detach=detach)


def _dead_at(found: Mapping[str, Holder]) -> Mapping[str, Holder]:
    """Raises RefusedError: what was named waits, but is not dead anywhere."""
    held = {name: each for name, each in found.items() if any(letter["state"] == "dead" for letter in each.letters)}
    if not held:
        first = next(letter for each in found.values() for letter in each.letters)
        raise RefusedError(
            "That is not dead: it is tried again by itself, or waits behind another event of its order. "
            f"If that one is dead, replay that. See both: orderflow dlt list --order {first['key']} --state all"
        )
    return held


def _begin(
    session: Session, services: list[str], body: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """By service its new replay, or the sentence why it did not begin one. Raises CliError: none was begun."""
    from orderflow.cli.dlt.acting import act

    begun: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for name in services:
        try:
            with session.client(name) as client:
                begun[name] = act(client, "POST", "/ops/replays", body)
        except CliError as error:
            refused[name] = str(error)
            if name == services[-1] and not begun:
                raise
    return begun, refused
