"""What every command is given: where it looks for its settings, where things are, and how it answers.

Where things are is as the settings say, or as `orderflow up` has noted it in its home. One question can go to every
service, side by side; one that does not answer is told, the others are still shown.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from orderflow.cli.errors import CliError, NotFoundError, UnreachableError
from orderflow.cli.http import ClientTls, ServiceClient, is_loopback
from orderflow.cli.output import Output, text
from orderflow.cli.values import FilledPath, resolved
from orderflow.diagnosis.side_by_side import side_by_side
from orderflow.registry import service_names
from orderflow.settings import Settings, SettingsError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from orderflow.local.state import RunState

MARKER_NAME = "home.json"


def as_running(settings: Settings) -> Settings:
    """The settings with the addresses of what runs on this home, where nobody has said another one.

    A home on which nothing runs changes nothing. Raises LocalError: its passwords cannot be read.
    """
    found = running_state(settings)
    if found is None:
        return settings
    from orderflow.local.state import joining

    ours = [
        process
        for process in reversed(found.processes)
        if process.kind == "service" and process.name in service_names() and _is_default(settings, process.name)
    ]
    urls = {f"{process.name}_url": process.address for process in ours}
    ops_urls = {f"{process.name}_ops_url": process.ops_address for process in ours if process.ops_address}
    return joining(settings, found).replaced(**{**ops_urls, **_given(settings), **urls})


def _given(settings: Settings) -> dict[str, str]:
    """Where somebody says that operators' endpoints are reached."""
    found = {f"{name}_ops_url": settings.given_ops_url(name) for name in service_names()}
    return {name: url for name, url in found.items() if url is not None}


def token_for(settings: Settings, url: str) -> str | None:
    """The token that the settings name; to this machine also the home's own, which goes nowhere else."""
    from orderflow.local.home import own_token

    return own_token(settings) if settings.token is not None or is_loopback(url) else None


def tls_of(settings: Settings) -> ClientTls:
    """By what the command line knows services that speak TLS, and what it shows them."""
    return ClientTls(
        ca=settings.tls_ca_file,
        certificate=settings.tls_client_certificate_file,
        key=settings.tls_client_key_file,
    )


def client_of(running: Settings, service: str, **options: Any) -> ServiceClient:
    """A client for a service of this home; the caller closes it. `running` is what `as_running` has returned.

    An address that somebody has said outright is taken at its word, and so is everything where there is no home.
    Raises UnreachableError: there is a home, on which nothing has run yet.
    """
    url, ops_url = running.service_url(service), running.service_ops_url(service)
    up = running.command("up")
    options |= {"token": token_for(running, ops_url), "tls": tls_of(running), "up": up}
    if running.is_given(f"{service}_url") or not (running.home / MARKER_NAME).is_file():
        return ServiceClient(service, url, ops_url, **options)
    from orderflow.local.home import Home

    installation, runs = Home(running.home).installation(), running_state(running) is not None
    if installation is None and runs:
        raise UnreachableError(
            f"What runs on {running.home} is still starting, or was started by an earlier release (if so, "
            f"restart it: {running.command('down')}, then {up})"
        )
    if installation is None:
        raise UnreachableError(f"Nothing is running on {running.home}. Start it with: {up}")
    stopped = None if runs else running.home
    return ServiceClient(service, url, ops_url, installation=installation, stopped=stopped, **options)


def running_state(settings: Settings) -> RunState | None:
    """What the supervisor of this home has noted, if it is alive."""
    if not (settings.home / "state.json").is_file():
        return None
    from orderflow.local.home import Home
    from orderflow.local.state import running

    return running(Home(settings.home))


def database_url(settings: Settings, name: str) -> str:
    """With its password, of a service, of `log` or of `bank`. Raises UnreachableError, SettingsError."""
    if settings.embedded:
        raise UnreachableError(
            f"No PostgreSQL is running on the home {settings.home}. Start it with: {settings.command('up')}. "
            "(To use a server of your own, set ORDERFLOW_DATABASE_URL)"
        )
    return settings.service_database_url(name)


def _is_default(settings: Settings, service: str) -> bool:
    return settings.given_url(service) is None


home_option = click.option(
    "--home",
    type=FilledPath(file_okay=False),
    help="Folder for data, logs and settings.  [default: ORDERFLOW_HOME, or .orderflow here]",
)
game_day_option = click.option(
    "--game-day",
    is_flag=True,
    default=None,
    help="Let `orderflow fault` set faults, for exercises; not for production.",
)
take_over_option = click.option(
    "--take-over-topics",
    is_flag=True,
    help="Take over topics and groups from another installation, which must be gone for good.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
service_option = click.option(
    "--service", type=click.Choice(service_names()), help="Only this service.  [default: all]"
)


secrets_pipe_option = click.option(
    "--secrets-pipe",
    is_flag=True,
    help="Read secret settings, a JSON object, from the first line of standard input, for supervisors.",
)


def load_settings(
    home: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    remember: bool = True,
    secrets_pipe: bool = False,
) -> Settings:
    """Of a home that exists, or of none. Raises SettingsError, also when a home is named that is none."""
    piped = _piped() if secrets_pipe else {}
    settings = Settings.load(environ=os.environ, home=home, overrides=overrides, remember=remember, piped=piped)
    _require_home(settings)
    return settings


def load_settings_for_up(
    home: Path | None, overrides: Mapping[str, object], *, secrets_pipe: bool = False
) -> Settings:
    """`up` makes a home where there is none, and may move one to another transport. Raises SettingsError."""
    piped = _piped() if secrets_pipe else {}
    return Settings.load(environ=os.environ, home=home, overrides=overrides, remember=False, piped=piped)


def _piped() -> dict[str, object]:
    """The first line of standard input, and nothing beyond it. Raises SettingsError."""
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 1)):
        line += more
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SettingsError("the first line of standard input is not a JSON object of secret settings")
    return found


def _require_home(settings: Settings) -> None:
    """Data or settings make a folder a home. A name with a typo must not lead to what listens on the usual ports."""
    named = settings.sources["home"].rpartition(" ")[2]
    path = settings.home
    if not settings.is_given("home") or any((path / name).is_file() for name in ("home.json", "orderflow.toml")):
        return
    why = "it holds neither home.json nor orderflow.toml" if path.is_dir() else "there is no such folder"
    raise SettingsError(
        f"{named} is {path}, which is not a home of Orderflow: {why}. Name another, or make this one a home "
        f"with: orderflow up --home {quote(str(path))}"
    )


P = ParamSpec("P")


class Session:
    """One run of a command. `settings` and `running` raise SettingsError when they are first asked for."""

    def __init__(self, home: Path | None, as_json: bool) -> None:
        self._home = home
        self.out = Output(as_json=as_json)

    @cached_property
    def given(self) -> Settings:
        """The settings, whatever the home runs on."""
        return load_settings(self._home, remember=False)

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self._home)

    @cached_property
    def running(self) -> Settings:
        """The settings, with the addresses of what runs on this home."""
        return as_running(self.settings)

    def client(self, service: str, **options: Any) -> ServiceClient:
        """The caller closes it. Raises UnreachableError: nothing has run on this home yet."""
        return client_of(self.running, service, **options)

    def answer(self, answers: Answers, document: Mapping[str, Any], parts: Iterable[RenderableType]) -> None:
        """The whole answer of several services, with who did not answer. Raises UnreachableError, if one did not."""
        self.out.answer({**document, "unreachable": answers.away}, chain(parts, answers.sentences()))
        answers.require_all()


def session_options(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Add --home and --json, and hand the command its session first."""

    @functools.wraps(command)
    def with_session(*, home: Path | None, as_json: bool, **given: Any) -> None:
        session = Session(home, as_json)
        # Whatever the command asks for: a home that is named must be one.
        _ = session.given
        whole = {name: resolved(session, value) for name, value in given.items()}
        command(session, **whole)  # type: ignore[call-arg]

    return home_option(json_option(with_session))


ALL_AWAY = "No service answers, for example: {}"
SOME_AWAY = "The answer is incomplete: {} did not answer"


@dataclass(frozen=True, slots=True)
class Answers:
    """By service: what it answered, or the sentence why it did not."""

    found: Mapping[str, Any]
    away: Mapping[str, str]

    def beside(self, earlier: Answers) -> Answers:
        """These answers, with those too that were away when they were asked `earlier`."""
        return Answers(self.found, {**earlier.away, **self.away})

    def each(self) -> Iterator[tuple[str, Any]]:
        """Of lists: each entry, with its service."""
        return ((name, entry) for name, entries in self.found.items() for entry in entries or ())

    def rows(self) -> list[dict[str, Any]]:
        """The same, for programs."""
        return [{"service": name, **entry} for name, entry in self.each()]

    def sentences(self) -> Iterator[Text]:
        """For people: who did not answer, and why."""
        return (text(sentence, "red") for sentence in self.away.values())

    def require_all(self) -> None:
        """Raises UnreachableError when a service did not answer. To be called after the others were shown."""
        if self.away:
            raise UnreachableError(SOME_AWAY.format(", ".join(self.away)))


def ask(
    session: Session, question: Callable[[ServiceClient], Any], services: str | Iterable[str] | None = None
) -> Answers:
    """Ask one service, these, or all. NotFoundError of one is the answer None.

    Raises UnreachableError: none answers.
    """
    names = list(chosen_services(services))
    for name in names:
        session.running.service_url(name)
    replies = side_by_side(lambda name: _ask_one(session, question, name), names)
    found = {name: reply for name, reply in zip(names, replies, strict=True) if not isinstance(reply, CliError)}
    away = {name: str(reply) for name, reply in zip(names, replies, strict=True) if isinstance(reply, CliError)}
    if not found:
        raise UnreachableError(away[names[0]] if len(names) == 1 else ALL_AWAY.format(away[names[0]]))
    return Answers(found, away)


def chosen_services(chosen: str | Iterable[str] | None) -> Iterable[str]:
    """One service, these, or all: what `service_option` gives is the first or the last."""
    if chosen is None:
        return service_names()
    return (chosen,) if isinstance(chosen, str) else chosen


def _ask_one(session: Session, question: Callable[[ServiceClient], Any], name: str) -> Any:
    try:
        with session.client(name) as client:
            return question(client)
    except NotFoundError:
        return None
    except CliError as error:
        return error
