"""Following replays to their end, telling how far each is, and holding them on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from orderflow.cli.bars import bars
from orderflow.cli.dlt.acting import act
from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.plain import printable

if TYPE_CHECKING:
    from orderflow.cli.session import Session

POLL_S = 0.3
TOLD_MAX = 100
FINISHED = ("succeeded", "failed_again", "discarded", "gone")

Replays = Mapping[str, Mapping[str, Any]]
Tell = Callable[[Replays], None]


class ReplayName(NamedTuple):
    """A replay's number counts within its service."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}-{self.number}"


def follow(session: Session, begun: Sequence[ReplayName]) -> Replays:
    """Each replay as it stands once none is running, by its name.

    Interrupted, it holds those that are running, says how to go on, and raises KeyboardInterrupt. A service that
    does not answer for a while is asked again. Raises CliError.
    """
    found: dict[str, Mapping[str, Any]] = {}
    try:
        with telling(hidden=session.out.as_json) as tell:
            while True:
                found |= _asked(session, begun)
                tell(found)
                if len(found) == len(begun) and not any(each["state"] == "running" for each in found.values()):
                    return found
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        _hold(session, begun, found)
        raise


def completed(progress: Mapping[str, int]) -> int:
    """How many have come to their end, whichever."""
    return sum(progress[name] for name in FINISHED)


def told(replay: Mapping[str, Any]) -> str:
    """What stands beside its bar: how many failed again, and what it waits for."""
    failed = replay["progress"]["failed_again"]
    parts = [f"{failed} failed again" if failed else "", replay["why"]]
    return printable("; ".join(part for part in parts if part))[:TOLD_MAX]


def _asked(session: Session, begun: Sequence[ReplayName]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name in begun:
        try:
            with session.client(name.service) as client:
                found[str(name)] = client.get(f"/ops/replays/{name.number}")
        except UnreachableError:
            continue
    return found


def _hold(session: Session, begun: Sequence[ReplayName], found: Replays) -> None:
    from orderflow.cli.output import make_console, text

    running = [name for name in begun if found.get(str(name), {}).get("state", "running") == "running"]
    said = make_console(to_errors=True)
    for name in running:
        try:
            with session.client(name.service) as client:
                act(client, "POST", f"/ops/replays/{name.number}/pause", {"reason": "interrupted"})
        except CliError as error:
            said.print(text(f"{name} could not be held: {error}", "red"))
        else:
            said.print(text(f"{name} is held. Go on with: orderflow dlt resume {name}"))


@contextmanager
def telling(*, hidden: bool) -> Iterator[Tell]:
    """Yields what is to be told of the replays."""
    with bars(16, hidden=hidden) as show:

        def tell(found: Replays) -> None:
            for name, replay in found.items():
                progress = replay["progress"]
                show(name, completed(progress), sum(progress.values()), told(replay))

        yield tell
