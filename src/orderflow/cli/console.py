"""`orderflow console`: the page, as a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orderflow.cli.errors import CliError, UnreachableError
from orderflow.cli.session import (
    MARKER_NAME,
    as_running,
    home_option,
    load_settings,
    running_state,
    secrets_pipe_option,
    up_on,
)
from orderflow.settings import Settings

if TYPE_CHECKING:
    from orderflow.core.transport import Transport


@click.command(
    epilog="""\b
Examples:
  orderflow console                    for services that run elsewhere, or without `up`
  orderflow console --port 8080
  orderflow console --sign-in          a one-time link that lets your browser act
  ORDERFLOW_ORDER_URL=https://orders.example orderflow console

\b
Prints one JSON line once the page is up: service, port, pid. SIGTERM stops it.
Exit codes: 0 stopped cleanly; 1 the port is taken; 2 wrong usage or settings."""
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.  [default: 8000]")
@click.option("--sign-in", is_flag=True, help="Print a one-time link that signs a browser in to the running page.")
@home_option
@click.option("--control-pipe", is_flag=True, help="Stop when standard input closes, for supervisors.")
@secrets_pipe_option
def console(port: int | None, sign_in: bool, home: Path | None, control_pipe: bool, secrets_pipe: bool) -> None:
    """Serve the console page: Flow, Orders, Dead letters, Health.

    `orderflow up` serves it too, at http://127.0.0.1:8000. The page asks this home's services and reads the topics;
    it never connects to a service's database. It listens on this machine only, and asks nothing while nobody is
    looking. Anyone on this machine may look; to act, a browser signs in with a token.
    """
    from orderflow.cli.topic import open_log
    from orderflow.console import process
    from orderflow.console.asking import Services
    from orderflow.core.transport import TransportUnavailableError
    from orderflow.http.server import CannotListenError
    from orderflow.runtime.lifetime import announce_on_stdout

    settings = load_settings(home, secrets_pipe=secrets_pipe)
    if sign_in:
        click.echo(_link(settings))
        return
    services = Services(settings.home, lambda: as_running(settings))

    @asynccontextmanager
    async def log() -> AsyncIterator[Transport]:
        try:
            async with open_log(services.settings) as transport:
                yield transport
        except CliError as error:
            raise TransportUnavailableError(str(error)) from error

    wanted = settings.console_port if port is None else port

    def ready(served: int) -> None:
        announce_on_stdout({"ready": True, "service": "console", "port": served, "pid": os.getpid()})

    may_move = port is None and not settings.is_given("console_port")
    try:
        process.run(services, log, wanted, may_move=may_move, control_pipe=control_pipe, ready=ready)
    except CannotListenError as error:
        raise CliError(str(error)) from error


def _link(settings: Settings) -> str:
    """Raises CliError: the home has no token; UnreachableError: nobody knows of a page."""
    from orderflow.console.sessions import link
    from orderflow.local.home import own_token

    token = own_token(settings)
    if token is None:
        raise CliError(
            f"{settings.home} has no token, by which the link could be proved. `orderflow up` makes it at its first "
            "start; elsewhere name one in ORDERFLOW_TOKEN"
        )
    found = running_state(settings)
    if found is None and (settings.home / MARKER_NAME).is_file() and not settings.is_given("console_port"):
        raise UnreachableError(
            f"Nothing is running on {settings.home}. Start it with: {up_on(settings)}. "
            "(For a page that runs alone, set ORDERFLOW_CONSOLE_PORT)"
        )
    processes = () if found is None else found.processes
    page = next((each.address for each in processes if each.kind == "console"), None)
    return link(page or f"http://127.0.0.1:{settings.console_port}", token, time.time())
