"""`orderflow settings`: every setting, and where its value came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from orderflow.cli.session import Session, session_options
from orderflow.settings import REMEMBERED, Settings

OF_ONES_OWN = "of a service of your own"


@click.command()
@click.option("--changed", is_flag=True, help="Only those that are not at their default.")
@session_options
def settings(session: Session, changed: bool) -> None:
    """Show every setting, its effective value, and where that came from. Passwords are hidden.

    The command line wins over the environment (ORDERFLOW_ and the name in capitals), that over the file
    orderflow.toml in the home, that over what the home runs on (`up --kafka` is remembered), that over the
    default.

    \b
    orderflow settings
    orderflow settings --changed
    ORDERFLOW_BATCH_MAX=200 orderflow settings --json | jq .batch_max
    """
    found = _with_remembered(session.given)
    shown, meanings = found.shown(), {**dict.fromkeys(found.own, OF_ONES_OWN), **found.meanings()}
    names = [name for name in shown if not changed or found.sources[name] != "default"]
    if session.out.as_json:
        session.out.document(
            {name: {"value": shown[name], "source": found.sources[name], "meaning": meanings[name]} for name in names}
        )
        return
    if not names:
        session.out.show("Every setting is at its default.")
        return
    from orderflow.cli.output import text
    from orderflow.cli.tables import table

    rows = []
    for name in names:
        style = "dim" if found.sources[name] == "default" else "bold"
        value = "(not set)" if shown[name] is None else str(shown[name])
        rows.append((text(name, style), text(value, style), text(found.sources[name]), text(meanings[name], "dim")))
    session.out.show(table(("setting", "value", "from", "meaning"), rows))


def _with_remembered(settings: Settings) -> Settings:
    """As `up` without options would take them. Raises LocalError."""
    from orderflow.local.carrier import choose
    from orderflow.local.home import Home

    remembered = Home(settings.home).carrier()
    if remembered is None or choose(settings, remembered, own_broker=False) is not remembered:
        return settings
    known: dict[str, Any] = {"transport": remembered.transport}
    if remembered.bootstrap is not None:
        known["kafka_bootstrap"] = remembered.bootstrap
    return replace(settings, sources={**settings.sources, **dict.fromkeys(known, REMEMBERED)}, **known)
