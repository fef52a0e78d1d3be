"""`orderflow migrate`."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from orderflow.cli.options import home_option, json_option, load_settings, take_over_option
from orderflow.cli.output import Output
from orderflow.registry import service_names


@click.command(
    epilog="""\b
Examples:
  orderflow migrate --database-url postgresql://admin:secret@db:5432
  orderflow migrate --print-sql > for-the-administrator.sql
  ORDERFLOW_ORDER_DATABASE_URL=... orderflow migrate

\b
Exit codes: 0 up to date; 1 refused, unreachable, or a right is missing (then standard output has the SQL
for an administrator; run `orderflow migrate` again after it); 2 wrong usage or settings."""
)
@click.option("--database-url", metavar="URL", help="The server, with a user who may make roles and databases.")
@click.option("--print-sql", is_flag=True, help="Change nothing: print the SQL for roles and databases that lack.")
@take_over_option
@home_option
@json_option
def migrate(
    database_url: str | None, print_sql: bool, take_over_topics: bool, home: Path | None, as_json: bool
) -> None:
    """Make databases, roles and tables on a server that exists, where they are missing.

    Each service, the log and the bank have a database of their own, orderflow_<name>, and an owner role of
    the same name with the password of the URL. Without any database setting: the embedded server of this home.
    The databases get one identity, by which a service knows its installation's topics from those of another.
    """
    from orderflow.cli.bars import heartbeat
    from orderflow.local import migration
    from orderflow.local.provision import MissingRightsError
    from orderflow.messaging import crash_points

    settings = load_settings(home, {"database_url": database_url})
    crash_points.arm(crash_points.parse(settings.crash_at, service_names()).get("", {}))
    try:
        if print_sql:
            sys.stdout.writelines(f"{statement};\n" for statement in asyncio.run(migration.missing(settings)))
            return
        with heartbeat(lambda: "still at it: a large table may take long", hidden=as_json):
            applied = asyncio.run(migration.migrate(settings, take_over_topics=take_over_topics))
    except MissingRightsError as error:
        sys.stdout.writelines(f"{statement};\n" for statement in error.statements)
        raise
    if as_json:
        Output(as_json=True).document({"applied": [asdict(each) for each in applied]})
        return
    for each in applied:
        click.echo(f"{each.sequence} {each.number:04} {each.name}")
    click.echo(f"{len(applied)} migrations applied; everything is up to date")
