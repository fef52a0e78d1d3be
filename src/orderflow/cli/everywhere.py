"""One question to every service, side by side; one that does not answer is told, the others are still shown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orderflow.cli.errors import CliError, NotFoundError, UnreachableError
from orderflow.cli.http import ServiceClient
from orderflow.cli.session import Session
from orderflow.registry import service_names

T = TypeVar("T")
U = TypeVar("U")

ALL_AWAY = "None of the services answers, for example: {}"
SOME_AWAY = "Not every service could be asked: {} did not answer, so the answer is not complete"


@dataclass(frozen=True, slots=True)
class Answers:
    """By service: what it answered, or the sentence why it did not."""

    found: Mapping[str, Any]
    away: Mapping[str, str]

    def beside(self, earlier: Answers) -> Answers:
        """These answers, with those too that were away when they were asked `earlier`."""
        return Answers(self.found, {**earlier.away, **self.away})

    def require_all(self) -> None:
        """Raises UnreachableError when a service did not answer. To be called after the others were shown."""
        if self.away:
            raise UnreachableError(SOME_AWAY.format(", ".join(self.away)))


def ask(session: Session, question: Callable[[ServiceClient], Any], services: Iterable[str] | None = None) -> Answers:
    """Ask these services, or all. NotFoundError of one is the answer None. Raises UnreachableError: none answers."""
    names = list(service_names() if services is None else services)
    for name in names:
        session.running.service_url(name)
    replies = side_by_side(lambda name: _ask_one(session, question, name), names)
    found = {name: reply for name, reply in zip(names, replies, strict=True) if not isinstance(reply, CliError)}
    away = {name: str(reply) for name, reply in zip(names, replies, strict=True) if isinstance(reply, CliError)}
    if not found:
        raise UnreachableError(away[names[0]] if len(names) == 1 else ALL_AWAY.format(away[names[0]]))
    return Answers(found, away)


def side_by_side(ask: Callable[[T], U], whom: Sequence[T]) -> list[U]:
    """`ask` of each, all at once. Raises what one of them raises. (A pool of threads would take long to load.)"""
    found: dict[int, U] = {}
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            found[number] = ask(whom[number])
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where it is waited for)
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(whom))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[number] for number in range(len(whom))]


def show_away(session: Session, answers: Answers) -> None:
    """For people: who did not answer, and why."""
    from orderflow.cli.output import text

    for sentence in answers.away.values():
        session.out.show(text(sentence, "red"))


def _ask_one(session: Session, question: Callable[[ServiceClient], Any], name: str) -> Any:
    try:
        with session.client(name) as client:
            return question(client)
    except NotFoundError:
        return None
    except CliError as error:
        return error
