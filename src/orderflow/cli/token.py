"""`orderflow token`: make, list and revoke the tokens by which callers prove who they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import CliError, NotFoundError, RequestRefusedError
from orderflow.cli.lazy import Group
from orderflow.cli.output import text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import moment, table

if TYPE_CHECKING:
    from orderflow.access.tokens import Token, TokensFile

ROLES = ("shop", "viewer", "operator", "approver")
UNITS = {"m": 60, "h": 3600, "d": 86_400}
LIFE_MAX_S = 3650 * UNITS["d"]


def lifetime(value: Any) -> timedelta:
    """`30d`, `12h`, `45m`. Raises click.BadParameter."""
    number, unit = str(value)[:-1], str(value)[-1:]
    seconds = int(number) * UNITS.get(unit, 0) if number.isdecimal() and len(number) < 9 else 0
    if not 0 < seconds <= LIFE_MAX_S:
        raise click.BadParameter(
            f"{value!r}: expected a number followed by d, h or m, such as 30d, and at most ten years"
        )
    return timedelta(seconds=seconds)


@click.group(cls=Group)
def token() -> None:
    """Create, list and revoke tokens. Callers send one as `Authorization: Bearer TOKEN`.

    Where only this machine can connect, reading and placing orders needs no token. `up` puts a token for the command
    line into its home; ORDERFLOW_TOKEN replaces it. Services see a change within two seconds.

    \b
    shop       places orders, and reads those of its own shop
    viewer     reads, but never sees customers' names
    operator   replays, edits and discards events, raises stock
    approver   settles payments, repairs, lowers stock

    \b
    orderflow token create anna --role operator --expires 30d
    orderflow token list
    orderflow token revoke anna
    """


@token.command()
@click.argument("name")
@click.option(
    "--role", "roles", type=click.Choice(ROLES), multiple=True, required=True, help="Role of the caller; repeatable."
)
@click.option("--shop", metavar="NAME", help="The shop whose orders it places and reads; for the role shop.")
@click.option("--expires", type=lifetime, metavar="DURATION", help="When it expires: 30d, 12h.  [default: never]")
@session_options
def create(session: Session, name: str, roles: tuple[str, ...], shop: str | None, expires: timedelta | None) -> None:
    """Create a token. It is shown only once: just its hash is kept.

    NAME tells in the operators' log who acted. Give each person and each program a token of its own.

    \b
    orderflow token create anna --role operator --role approver --expires 30d
    orderflow token create espresso --role shop --shop espresso
    orderflow token create grafana --role viewer --json | jq -r .token

    Exit codes: 0 created; 2 wrong usage; 5 refused: NAME has a token already, or a role lacks what it needs.
    """
    from orderflow.core.access import Role

    wanted = frozenset(Role(role) for role in roles)
    with _file(session) as file:
        made, shown = file.create(name, wanted, shop=shop, lifetime=expires)
    if session.out.as_json:
        session.out.document({**_row(made), "token": shown})
        return
    session.out.show(text(shown))
    if session.out.console.is_terminal:
        session.out.show(
            text("Keep it safe: it is not shown again, and whoever has it can do all that its roles may.", "dim")
        )


@token.command("list")
@click.option("--all", "every", is_flag=True, help="Include revoked and expired tokens.")
@session_options
def list_tokens(session: Session, every: bool) -> None:
    """List who has a token, with which roles, and until when. The tokens themselves are not stored.

    \b
    orderflow token list
    orderflow token list --all --json | jq -r '.tokens[] | select(.state == "revoked") | .name'
    """
    with _file(session) as file:
        rows = [row for row in map(_row, file.all()) if every or row["state"] == "good"]
    if session.out.as_json:
        session.out.document({"tokens": rows})
        return
    if not rows:
        session.out.show("Nobody has a token. Make one with: orderflow token create NAME --role ROLE")
        return
    shown = [
        (
            row["id"],
            text(row["name"]),
            ", ".join(row["roles"]),
            text(row["shop"] or "-"),
            moment(row["created"]),
            moment(row["expires"]) if row["expires"] else "never",
            row["state"],
        )
        for row in rows
    ]
    columns = ("id", "name", "roles", "shop", "created", "expires", "state")
    session.out.show(table(columns, shown, drop=("shop", "created")))


@token.command()
@click.argument("named", metavar="ID_OR_NAME")
@session_options
def revoke(session: Session, named: str) -> None:
    """Revoke a token: services refuse it within two seconds.

    \b
    orderflow token revoke anna
    orderflow token revoke 1f0c9b7a

    Exit codes: 0 revoked; 4 there is no such valid token.
    """
    with _file(session) as file:
        gone = file.revoke(named)
    told = [text(f"Revoked {each.id} of {each.name}") for each in gone]
    session.out.answer({"revoked": [_row(each) for each in gone]}, told)


@contextmanager
def _file(session: Session) -> Iterator[TokensFile]:
    """Raises CliError for what goes wrong with it."""
    from orderflow.access.tokens import NoSuchTokenError, TokenRefusedError, TokensFile, TokensFileError

    try:
        yield TokensFile(session.given.tokens_path)
    except TokenRefusedError as error:
        raise RequestRefusedError(f"{error}.") from error
    except NoSuchTokenError as error:
        raise NotFoundError(f"{error}. See all tokens with: orderflow token list") from error
    except TokensFileError as error:
        raise CliError(f"{error}.") from error


def _row(each: Token) -> dict[str, Any]:
    return {
        "id": each.id,
        "name": each.name,
        "roles": sorted(each.roles),
        "shop": each.shop,
        "created": each.created.isoformat(),
        "expires": each.expires.isoformat() if each.expires else None,
        "revoked": each.revoked.isoformat() if each.revoked else None,
        "state": each.state(datetime.now(UTC)).value,
    }
