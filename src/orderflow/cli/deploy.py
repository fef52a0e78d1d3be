"""What a deployment needs before its services run: `credentials` and `grant`."""

from __future__ import annotations

from pathlib import Path

import click

from orderflow.cli.output import Output
from orderflow.cli.session import home_option, json_option, load_settings


@click.command(
    epilog="""\b
Examples:
  orderflow credentials credentials
  docker compose --env-file credentials/compose.env up --build
  orderflow credentials credentials --host orders.example

\b
Exit codes: 0 everything is there; 1 the folder cannot be written."""
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", "hosts", metavar="NAME", multiple=True, help="A name by which services are reached, too.")
@json_option
def credentials(folder: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make the passwords, certificates and first tokens of a deployment in containers, a file each.

    What is there stays, but for certificates that end within 60 days: they are made anew. Services read theirs again
    by themselves; restart PostgreSQL and Kafka then. The folder can be passed by its owner alone; its files can be
    read by the containers that they are given to. Keep a copy where backups are: databases and topics outlive it, and
    know these passwords.
    """
    from orderflow.local.credentials import make_credentials

    made = make_credentials(folder.absolute(), hosts)
    if as_json:
        Output(as_json=True).document({"folder": str(folder), "made": [str(path) for path in made]})
        return
    click.echo(f"{len(made)} files made in {folder}" if made else f"Everything is in {folder} already")


@click.command(
    epilog="""\b
Examples:
  orderflow grant --print
  ORDERFLOW_KAFKA_SECURITY_PROTOCOL=ssl ORDERFLOW_KAFKA_SSL_CERTIFICATE_FILE=admin.pem ... orderflow grant
  orderflow grant --admin-options admin.properties

\b
Exit codes: 0 done; 1 Kafka refuses it; 2 wrong usage or settings, or a service has no password."""
)
@click.option(
    "--admin-options",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="How an administrator comes to Kafka: options of librdkafka, a line name=value each.",
)
@click.option("--print", "only_print", is_flag=True, help="Change nothing: print who is to have which rights.")
@home_option
@json_option
def grant(admin_options: Path | None, only_print: bool, home: Path | None, as_json: bool) -> None:
    """Make users and rights on a Kafka that exists: each service writes its own topics and reads what it needs.

    Names and passwords are those of the settings: ORDERFLOW_<NAME>_KAFKA_USERNAME and _PASSWORD of each service,
    ORDERFLOW_KAFKA_USERNAME and _PASSWORD of operators, who make topics and read them. Passwords are set as
    SCRAM-SHA-512; rights of these users that are not needed are taken away.
    """
    from orderflow.local import kafka_rights

    settings = load_settings(home)
    users = kafka_rights.users(settings)
    if only_print:
        shown = {user.name: sorted(map(kafka_rights.in_words, user.rights)) for user in users}
        if as_json:
            Output(as_json=True).document(shown)
            return
        for name, rights in shown.items():
            click.echo("\n  ".join([name, *rights]))
        return
    changed = kafka_rights.grant(users, kafka_rights.of_administrator(settings, admin_options))
    if as_json:
        Output(as_json=True).document({"users": [user.name for user in users], "changed": changed})
        return
    click.echo(f"{len(users)} users have their passwords and rights; {changed} rights were changed")
