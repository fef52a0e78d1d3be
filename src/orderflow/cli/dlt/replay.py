"""`orderflow dlt rehearse`, `replay`, `replays`, `pause` and `resume`: what a replay would do, and doing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import click

from orderflow.cli.acting import act, confirm_options
from orderflow.cli.dlt import views
from orderflow.cli.dlt.selection import (
    Choice,
    Holder,
    choice_options,
    holders,
    of_service,
    read_letters,
    require_confirmed,
)
from orderflow.cli.errors import CliError, ExitCode, RequestRefusedError, UnreachableError, printable
from orderflow.cli.http import ServiceClient
from orderflow.cli.output import make_console, text
from orderflow.cli.session import Session, ask, service_option, session_options
from orderflow.cli.tables import bars, heartbeat
from orderflow.core.operations.model import DeadLetter, Rehearsed, Replay
from orderflow.registry import service_names

REHEARSAL_WAIT_S = 120.0
POLL_S = 0.3
TOLD_MAX = 100
FAILED_MAX = 1000
FAILED_SHOWN = 20
GOOD = ("succeeds", "duplicate")
REPLAYS = "/ops/replays"


class ReplayName(NamedTuple):
    """A replay's number counts within its service."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}-{self.number}"


Replays = dict[ReplayName, "Replay"]
Tell = Callable[[Replays], None]


def replay_name(value: Any) -> ReplayName:
    """`payment-3`. Raises click.BadParameter."""
    if isinstance(value, ReplayName):
        return value
    service, _, number = str(value).rpartition("-")
    if service not in service_names() or not (number.isascii() and number.isdigit() and len(number) <= 15):
        raise click.BadParameter(
            f"{value!r} is not a replay. Expected: SERVICE-NUMBER such as payment-3; "
            "`orderflow dlt replays` shows them"
        )
    return ReplayName(service, int(number))


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
        raise click.BadParameter(f"{value!r} is not a share. Expected: 0% to 100%, or 0 to 1, for example 5% or 0.05")
    return number


@click.command()
@choice_options
@click.option(
    "--limit", type=click.IntRange(1, 999), default=100, show_default=True, help="Maximum number per service."
)
@session_options
def rehearse(session: Session, choice: Choice, limit: int) -> None:
    """Show what a replay would do with today's code and data: verdict, changes, and what would be published.

    Runs the real code in a transaction that is rolled back: no row changes, nothing is published, no bank is called.
    The events of an order are rehearsed in sequence, including those held behind.

    \b
    succeeds   it would be handled now
    duplicate  it was handled before; a replay changes nothing
    illegal    the order's state does not allow it
    fails      it would fail again; shows how
    held       it would keep waiting behind one that fails
    busy       live traffic is working on that order: try again

    Exit code: 0 all would succeed, 1 some would not, 3 a service did not answer.

    \b
    orderflow dlt rehearse 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt rehearse --all --service payment --json | jq '.rehearsed[] | select(.verdict != "succeeds")'
    """
    held, searched = holders(session, choice, limit + 1)
    with heartbeat(lambda: f"{', '.join(held)} at rehearsal", hidden=session.out.as_json):
        answers = ask(session, lambda client: _rehearsed(client, choice, limit), held).beside(searched)
    found = list(answers.each())
    is_cut = any(len(holder.letters) > limit for holder in held.values())
    more = [f"There are more: these are the first {limit} per service. For more, use --limit N"] if is_cut else []
    told = {"rehearsed": [of_service(*each) for each in found]}
    session.answer(answers, told, chain(views.rehearsals(found), more))
    if any(each.verdict not in GOOD for _, each in found):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _rehearsed(client: ServiceClient, choice: Choice, limit: int) -> list[Rehearsed]:
    asked = {"filter": choice.filter(), "limit": limit}
    answer = client.ask("POST", "/ops/rehearsals", body=asked, wait_s=REHEARSAL_WAIT_S)
    return client.decoded(list[Rehearsed], answer.body)


@click.command()
@choice_options
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Events per second.  [default: as fast as possible]"
)
@click.option(
    "--canary/--at-once",
    default=True,
    help="1, 2, 5, 10, ... at a time, each step only if the last went well; or up to 200 at once.  "
    "[default: --canary]",
)
@click.option(
    "--max-failing",
    type=share,
    metavar="SHARE",
    default=0.05,
    help="Stop when more than this share has failed again.  [default: 5%]",
)
@click.option("--detach", is_flag=True, help="Do not wait; the services carry on by themselves.")
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
    """Send dead events back through the consumer that gave them up, and follow each to its outcome.

    Events keep their ids, so nothing already handled takes effect twice, and events held behind them follow in
    order. A replay takes small, growing steps and stops by itself if too many events fail again or the consumer
    falls behind with live traffic; events not sent by then stay dead. Ctrl-C pauses it and says how to resume. Where
    money moves, it needs --yes and --reason.

    Exit code: 0 all went through, 1 some failed again or it was stopped.

    \b
    orderflow dlt rehearse --group 3f2a9c41d0e7
    orderflow dlt replay --group 3f2a9c41d0e7 --rate 50
    orderflow dlt replay 8ec9495d-610d-5954-a202-3d44caf9480b --yes --reason "release 1.4.3 reads it"
    orderflow dlt replay --all --detach --json | jq -r '.replays[].replay'
    """
    found, asked = holders(session, choice)
    held = _dead_at(found)
    require_confirmed(session, choice, held, yes=yes, reason=reason)
    body = {
        "filter": choice.filter(),
        "plan": {"rate_per_s": rate, "canary": canary, "failing_share_max": max_failing},
        "reason": reason,
        "confirmed": yes,
    }
    begun, refused = _begin(session, list(held), body)
    conclude(session, begun, {**asked.away, **refused}, detach=detach)


def _dead_at(found: Mapping[str, Holder]) -> Mapping[str, Holder]:
    """Raises RequestRefusedError: what was named waits, but is not dead anywhere."""
    held = {name: each for name, each in found.items() if any(letter.state == "dead" for letter in each.letters)}
    if not held:
        first = next(letter for each in found.values() for letter in each.letters)
        raise RequestRefusedError(
            "That event is not dead: it is retried by itself, or waits behind another event of its order. If "
            f"the other one is dead, replay that. See both: orderflow dlt list --order {first.key} --state all"
        )
    return held


def _begin(session: Session, services: list[str], body: Mapping[str, Any]) -> tuple[Replays, Mapping[str, str]]:
    """Each new replay, and by service the sentence why it did not begin one. Raises CliError: none was begun."""
    begun: Replays = {}
    refused: dict[str, str] = {}
    for name in services:
        try:
            begun |= _told(session, name, "POST", REPLAYS, body)
        except CliError as error:
            refused[name] = str(error)
            if name == services[-1] and not begun:
                raise
    return begun, refused


def _told(session: Session, service: str, method: str, path: str, body: object) -> Replays:
    """The replay that the service's answer to an act tells of. Raises CliError."""
    with session.client(service) as client:
        replay = client.decoded(Replay, act(client, method, path, body))
    return {ReplayName(service, replay.number): replay}


@click.command()
@service_option
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number per service."
)
@session_options
def replays(session: Session, service: str | None, limit: int) -> None:
    """Show recent replays, latest first.

    waiting: not sent yet. under way: sent, no outcome yet. gone: no longer dead when its turn came.

    \b
    orderflow dlt replays
    orderflow dlt replays --json | jq '.replays[] | select(.state != "done")'
    """
    answers = ask(session, lambda client: client.read(list[Replay], REPLAYS, {"limit": limit}), service)
    told = [(ReplayName(name, each.number), each) for name, each in answers.each()]
    found = dict(sorted(told, key=lambda each: each[1].created_at, reverse=True))
    session.answer(answers, {"replays": _listed(found)}, views.replays(found) if found else ["No replays."])


def _listed(found: Replays) -> list[dict[str, Any]]:
    """For a program."""
    return [{"replay": str(name), **of_service(name.service, each)} for name, each in found.items()]


@click.command()
@click.argument("name", type=replay_name, metavar="REPLAY")
@click.option("--reason", metavar="TEXT", default="", help="Why; recorded in the operators' log.")
@session_options
def pause(session: Session, name: ReplayName, reason: str) -> None:
    """Pause a replay: events under way finish, nothing more is sent.

    \b
    orderflow dlt pause payment-3
    """
    held = _told(session, name.service, "POST", f"{REPLAYS}/{name.number}/pause", {"reason": reason})
    session.out.answer(_listed(held)[0], [f"{name} is paused. Resume it with: orderflow dlt resume {name}"])


@click.command()
@click.argument("name", type=replay_name, metavar="REPLAY")
@click.option("--detach", is_flag=True, help="Do not wait; the service carries on by itself.")
@confirm_options
@session_options
def resume(session: Session, name: ReplayName, detach: bool, yes: bool, reason: str) -> None:
    """Resume a replay that was paused or stopped by itself, and follow it to its end.

    Exit code: 0 all went through, 1 some failed again or it was stopped.

    \b
    orderflow dlt resume payment-3
    orderflow dlt resume payment-3 --detach --yes --reason "the bank is back"
    """
    body = {"reason": reason, "confirmed": yes}
    resumed = _told(session, name.service, "POST", f"{REPLAYS}/{name.number}/resume", body)
    conclude(session, resumed, {}, detach=detach)


def conclude(session: Session, begun: Replays, away: Mapping[str, str], *, detach: bool) -> None:
    """Follow what was begun to its end, show it, and end with its exit code.

    `away`: by service, the sentence why nothing was begun there. Raises UnreachableError: there is one.
    """
    found = begun if detach else follow(session, begun)
    failed = [] if detach else _failed_again(session, found)
    if session.out.as_json:
        again = [of_service(*each) for each in failed]
        session.out.document({"replays": _listed(found), "failed_again": again, "unreachable": dict(away)})
    else:
        _show(session, found, failed, detach=detach)
    if away:
        raise UnreachableError(f"Not everything was replayed: {'; '.join(away.values())}")
    if not detach and any(each.state != "done" or each.progress.failed_again for each in found.values()):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _failed_again(session: Session, found: Replays) -> list[tuple[str, DeadLetter]]:
    """Those replayed events that have failed since the replay began."""
    failed: list[tuple[str, DeadLetter]] = []
    for name, replay in found.items():
        if not replay.progress.failed_again:
            continue
        with session.client(name.service) as client:
            letters = read_letters(client, {"state": "dead"}, FAILED_MAX)
        failed += [
            (name.service, letter)
            for letter in letters
            if letter.replays and letter.last_failed_at and letter.last_failed_at >= replay.created_at
        ]
    return failed


def _show(session: Session, found: Replays, failed: Sequence[tuple[str, DeadLetter]], *, detach: bool) -> None:
    session.out.show(*views.replays(found))
    if failed:
        session.out.show("", text("Failed again:", "bold red"), *views.letters(failed[:FAILED_SHOWN]))
    if len(failed) > FAILED_SHOWN:
        session.out.show(f"and {len(failed) - FAILED_SHOWN} more: orderflow dlt list")
    if detach:
        session.out.show("", "The services carry on by themselves. Follow the replay with: orderflow dlt replays")


def follow(session: Session, begun: Replays) -> Replays:
    """Each replay as it stands once none is running.

    Interrupted, it holds those that are running, says how to go on, and raises KeyboardInterrupt. A service that
    does not answer for a while is asked again. Raises CliError.
    """
    found = dict(begun)
    try:
        with telling(hidden=session.out.as_json) as tell:
            while True:
                answered = _asked(session, begun)
                found |= answered
                tell(found)
                if len(answered) == len(begun) and not any(each.state == "running" for each in found.values()):
                    return found
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        _hold(session, found)
        raise


def _asked(session: Session, begun: Replays) -> Replays:
    found: Replays = {}
    for name in begun:
        try:
            with session.client(name.service) as client:
                found[name] = client.read(Replay, f"{REPLAYS}/{name.number}")
        except UnreachableError:
            continue
    return found


def _hold(session: Session, found: Replays) -> None:
    said = make_console(to_errors=True)
    for name in [name for name, each in found.items() if each.state == "running"]:
        try:
            with session.client(name.service) as client:
                act(client, "POST", f"{REPLAYS}/{name.number}/pause", {"reason": "interrupted"})
        except CliError as error:
            said.print(text(f"{name} could not be paused: {error}", "red"))
        else:
            said.print(text(f"{name} is paused. Resume it with: orderflow dlt resume {name}"))


@contextmanager
def telling(*, hidden: bool) -> Iterator[Tell]:
    """Yields what is to be told of the replays."""
    with bars(16, hidden=hidden) as show:

        def tell(found: Replays) -> None:
            for name, replay in found.items():
                show(str(name), replay.progress.ended, replay.progress.total, _beside(replay))

        yield tell


def _beside(replay: Replay) -> str:
    """What stands beside its bar: how many failed again, and what it waits for."""
    failed = replay.progress.failed_again
    parts = [f"{failed} failed again" if failed else "", replay.why]
    return printable("; ".join(part for part in parts if part))[:TOLD_MAX]
