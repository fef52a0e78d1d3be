"""What a deployment needs before its services run: `credentials` and `grant`."""

from __future__ import annotations

from pathlib import Path

import click

from orderflow.cli.output import Output
from orderflow.cli.session import home_option, json_option, load_settings
from orderflow.cli.values import FilledPath


@click.command(
    epilog="""\b
Examples:
  orderflow credentials credentials
  docker compose --env-file credentials/compose.env up --build
  orderflow credentials credentials --host orders.example

\b
Exit codes: 0 everything is there; 1 the folder cannot be written."""
)
@click.argument("folder", type=FilledPath(file_okay=False))
@click.option("--host", "hosts", metavar="NAME", multiple=True, help="Another name under which services are reached.")
@json_option
def credentials(folder: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Create the passwords, certificates and first tokens for a deployment in containers, one file each.

    Existing files stay, except certificates that expire within 60 days, which are renewed. Services reload theirs by
    themselves; restart PostgreSQL and Kafka. Only the folder's owner can enter it; its files can be read by the
    containers that get them. Keep a copy with your backups: databases and topics outlive the folder, and still
    expect these passwords.
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
Exit codes: 0 done; 1 Kafka refuses it; 2 wrong usage or settings, such as a service without a password."""
)
@click.option(
    "--admin-options",
    type=FilledPath(dir_okay=False, exists=True),
    help="How to connect to Kafka as an administrator: librdkafka options, one name=value per line.",
)
@click.option("--print", "only_print", is_flag=True, help="Change nothing; print who would get which rights.")
@home_option
@json_option
def grant(admin_options: Path | None, only_print: bool, home: Path | None, as_json: bool) -> None:
    """Create users and access rights on an existing Kafka: each service writes its topics and reads what it needs.

    Names and passwords come from the settings: ORDERFLOW_<NAME>_KAFKA_USERNAME and _PASSWORD for each service,
    ORDERFLOW_KAFKA_USERNAME and _PASSWORD for operators, who create topics and read them. Passwords are set as
    SCRAM-SHA-512; rights that these users do not need are revoked.
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
