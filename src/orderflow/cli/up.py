"""What starts and ends things: `up`, `down`, `reset`, `run` and `migrate`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from orderflow.cli.output import Output
from orderflow.cli.session import (
    Session,
    game_day_option,
    home_option,
    json_option,
    load_settings,
    load_settings_for_up,
    secrets_pipe_option,
    session_options,
    take_over_option,
)
from orderflow.cli.tables import heartbeat
from orderflow.registry import service_names, service_of

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
MARGIN_S = 60.0


def _require_one_broker(kafka: bool, kafka_bootstrap: str | None, secure: bool | None) -> None:
    if kafka and kafka_bootstrap is not None:
        raise click.UsageError("--kafka starts a broker, --kafka-bootstrap uses one that exists: give one of them")
    if secure is not None and not kafka:
        raise click.UsageError("--secure is for the broker that --kafka starts: give both")


def process_count(value: Any) -> tuple[str, int]:
    """`order=2`. Raises click.BadParameter."""
    service, _, count = str(value).partition("=")
    if service not in service_names() or not count.isdecimal() or not 1 <= int(count) <= 32:
        raise click.BadParameter(
            f"{value!r}: expected SERVICE=N with N from 1 to 32, SERVICE one of {', '.join(service_names())}"
        )
    return service, int(count)


def _port_options(command: Decorated) -> Decorated:
    for name in reversed(service_names()):
        shown = f"Port of the {name} service; 0 picks a free one."
        command = click.option(f"--{name}-port", type=click.IntRange(0, 65535), help=shown)(command)
    return command


@click.command(
    epilog="""\b
Examples:
  orderflow up                                 everything, data in .orderflow
  orderflow up --detach                        the same in the background
  orderflow up --kafka                         on a real Apache Kafka (Java 17 and Maven needed)
  orderflow up --kafka --secure                the same with TLS, and passwords and rights for each service
  orderflow up --kafka-bootstrap broker:9092   on an existing Kafka
  orderflow up --database-url postgresql://admin:secret@db:5432
  orderflow up --processes payment=2           two processes share the work
  orderflow up --drain                         finish the work under way, then stop
  orderflow up --game-day                      let `orderflow fault` set faults

\b
Exit codes: 0 stopped cleanly; 1 could not start or go on; 2 wrong usage or settings;
130 killed by a second Ctrl-C."""
)
@click.option("--detach", "-d", is_flag=True, help="Return once everything is ready; stop it with `orderflow down`.")
@click.option("--kafka", is_flag=True, help="Carry events on a local Apache Kafka, started here.")
@click.option(
    "--secure/--no-secure",
    default=None,
    help="With --kafka: TLS, and a password and access rights for each service. Remembered for later starts.",
)
@click.option("--kafka-bootstrap", metavar="HOST:PORT", help="Carry events on an existing Kafka.")
@click.option("--database-url", metavar="URL", help="Use an existing PostgreSQL server.")
@home_option
@_port_options
@click.option(
    "--processes",
    type=process_count,
    metavar="SERVICE=N",
    multiple=True,
    help="Run N processes of a service; repeatable.",
)
@click.option("--drain", is_flag=True, help="Finish the work under way, then stop.")
@game_day_option
@take_over_option
@click.option("--in-background", is_flag=True, hidden=True, help="It is what --detach has started: lines have times.")
@click.option("--secrets-pipe", is_flag=True, hidden=True)
def up(
    detach: bool,
    kafka: bool,
    secure: bool | None,
    kafka_bootstrap: str | None,
    database_url: str | None,
    home: Path | None,
    processes: tuple[tuple[str, int], ...],
    drain: bool,
    game_day: bool | None,
    take_over_topics: bool,
    in_background: bool,
    secrets_pipe: bool,
    **ports: int | None,
) -> int:
    """Start everything on this machine, and keep it running.

    PostgreSQL and each service run as separate processes; Ctrl-C stops them all in order. All data is in one folder.
    A process that dies is restarted.
    """
    from orderflow.local import reporter
    from orderflow.local.control import start_detached
    from orderflow.local.preparation import Preparation
    from orderflow.local.run import LocalRun
    from orderflow.local.supervisor import Fleet, UpOptions

    _require_one_broker(kafka, kafka_bootstrap, secure)
    given = {"database_url": database_url, "game_day": game_day, "kafka_bootstrap": kafka_bootstrap}
    given["transport"] = "kafka" if kafka or kafka_bootstrap is not None else None
    settings = load_settings_for_up(home, {**ports, **given}, secrets_pipe=secrets_pipe)
    options = UpOptions(
        own_broker=kafka, secure=secure, drain=drain, take_over=take_over_topics, processes=dict(processes)
    )
    with reporter.for_output(timed=in_background) as output:
        if detach:
            start_detached(settings, options, output)
            return 0
        return asyncio.run(LocalRun(settings, options, output, Preparation(), Fleet()).run())


@click.command(
    epilog="""\b
Examples:
  orderflow down
  orderflow down --home /srv/orderflow

\b
Exit codes: 0 nothing is running; 1 it did not stop in time."""
)
@session_options
def down(session: Session) -> None:
    """Stop what `up` started: drain the services, then end Kafka and PostgreSQL."""
    from orderflow.local import control
    from orderflow.local.home import Home

    settings = session.given
    limit_s = settings.drain_timeout_s + MARGIN_S
    with heartbeat(lambda: f"stopping; this may take up to {limit_s:.0f} s", hidden=session.out.as_json):
        stopped = control.stop(Home(settings.home), limit_s)
    if session.out.as_json:
        session.out.document({"stopped": stopped})
    else:
        click.echo("Stopped" if stopped else f"Nothing is running on {settings.home}")


@click.command(
    epilog="""\b
Examples:
  orderflow reset
  orderflow reset --yes --home /tmp/trial

\b
Exit codes: 0 deleted, or nothing was there; 1 it is running, or the folder is not a home; 130 not confirmed."""
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@session_options
def reset(session: Session, yes: bool) -> None:
    """Delete all data of a home: orders, payments, stock, events. Settings (orderflow.toml) stay."""
    from orderflow.local.control import erase, require_erasable
    from orderflow.local.home import Home

    home = Home(session.given.home)
    there = require_erasable(session.given)
    if there:
        if not yes:
            click.confirm(f"Delete all orders and everything else in {home.path}?", abort=True, err=True)
        erase(home)
    if session.out.as_json:
        session.out.document({"deleted": there, "home": str(home.path)})
    else:
        click.echo(f"Deleted what was in {home.path}" if there else f"There is nothing in {home.path}")


@click.command(
    epilog="""\b
Examples:
  orderflow run order                     on its configured port (8001)
  orderflow run payment --port 0          on any free port; shares the work with other processes
  ORDERFLOW_DATABASE_URL=postgresql://any:secret@db:5432 orderflow run order

\b
Prints one JSON line once the service is ready: service, port, pid. SIGTERM drains it.
Exit codes: 0 stopped cleanly; 1 failed, or the port is taken; 2 wrong usage or settings;
3 the schema is behind: run `orderflow migrate`; 86 died at the crash point that ORDERFLOW_CRASH_AT names."""
)
@click.argument("name", type=click.Choice(service_names()))
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@home_option
@click.option("--control-pipe", is_flag=True, help="Drain when standard input closes, for supervisors.")
@secrets_pipe_option
@game_day_option
def run(
    name: str, port: int | None, home: Path | None, control_pipe: bool, secrets_pipe: bool, game_day: bool | None
) -> int:
    """Run a single service, for deployments.

    Uses the database and log of the settings or, if `orderflow up` is running on this home, those of `up`. Events
    are carried by what the home runs on; a setting that says otherwise is refused.
    """
    from orderflow.local.state import attached
    from orderflow.runtime.process import run_process

    settings = attached(load_settings(home, {"game_day": game_day}, secrets_pipe=secrets_pipe))
    return int(run_process(service_of(name), settings, port=port, control_pipe=control_pipe))


@click.command(
    epilog="""\b
Examples:
  orderflow migrate --database-url postgresql://admin:secret@db:5432
  orderflow migrate --topics                    topics too, where services may not create them
  orderflow migrate --print-sql > for-the-administrator.sql
  ORDERFLOW_ORDER_DATABASE_URL=... orderflow migrate

\b
Exit codes: 0 up to date; 1 refused, unreachable, or a right is missing (then standard output has the SQL
for an administrator; run `orderflow migrate` again after it); 2 wrong usage or settings."""
)
@click.option("--database-url", metavar="URL", help="The server, with a user that may create roles and databases.")
@click.option("--topics", is_flag=True, help="Also create the topics and claim them for this installation.")
@click.option("--print-sql", is_flag=True, help="Change nothing; print the SQL for missing roles and databases.")
@take_over_option
@home_option
@json_option
def migrate(
    database_url: str | None,
    topics: bool,
    print_sql: bool,
    take_over_topics: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Create missing databases, roles and tables on an existing server.

    Each service, the log and the bank get a database of their own, orderflow_<name>, with an owner role of the same
    name and the URL's password. Without a database setting, this home's embedded server is used. The databases share
    one identity, which tells this installation's topics from another's.
    """
    from orderflow.core import crash_points
    from orderflow.local import preparation
    from orderflow.local.preparation import MissingRightsError

    settings = load_settings(home, {"database_url": database_url})
    crash_points.arm(crash_points.parse(settings.crash_at, service_names()).get("", {}))
    try:
        if print_sql:
            sys.stdout.writelines(
                f"{statement};\n" for statement in asyncio.run(preparation.missing_databases(settings))
            )
            return
        with heartbeat(lambda: "still migrating: a large table may take a while", hidden=as_json):
            applied = asyncio.run(preparation.migrate(settings, topics=topics, take_over_topics=take_over_topics))
    except MissingRightsError as error:
        sys.stdout.writelines(f"{statement};\n" for statement in error.statements)
        raise
    if as_json:
        Output(as_json=True).document({"applied": [asdict(each) for each in applied]})
        return
    for each in applied:
        click.echo(f"{each.sequence} {each.number:04} {each.name}")
    click.echo(f"{len(applied)} migrations applied; everything is up to date")
