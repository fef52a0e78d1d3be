"""`orderflow settings`: every setting, and where its value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.output import text
from orderflow.cli.session import Session, session_options
from orderflow.cli.tables import OneLine
from orderflow.settings import REMEMBERED, Settings

if TYPE_CHECKING:
    from rich.console import RenderableType

VALUE_WIDTH = 14
NOT_REGISTERED = "of a service that is not installed"


@click.command()
@click.option("--changed", is_flag=True, help="Only settings that differ from their default.")
@session_options
def settings(session: Session, changed: bool) -> None:
    """Show every setting, by subject: its value, where that comes from, and what it means. Passwords are hidden.

    Highest precedence first: the command line, the environment (ORDERFLOW_ and the name in capitals), the file
    orderflow.toml in the home, what the home runs on (`up --kafka` is remembered), the default.

    \b
    orderflow settings
    orderflow settings --changed
    ORDERFLOW_BATCH_MAX=200 orderflow settings --json | jq .batch_max
    """
    found = _with_remembered(session.given)
    known = found.meanings()
    others = [name for name in found.services if name not in known]
    shown, meanings = found.shown(), {**dict.fromkeys(others, NOT_REGISTERED), **known}
    names = [name for name in shown if not changed or found.sources[name] != "default"]
    if session.out.as_json:
        session.out.document(
            {name: {"value": shown[name], "source": found.sources[name], "meaning": meanings[name]} for name in names}
        )
        return
    if not names:
        session.out.show("Every setting is at its default.")
        return
    session.out.show(*_parts(found, [name for name in names if name in known], shown, meanings))
    if here := [name for name in names if name in others]:
        session.out.show(*_group("Services that are not installed", here, found, shown, meanings))


def _parts(
    found: Settings, names: Sequence[str], shown: Mapping[str, object], meanings: Mapping[str, str]
) -> Iterator[RenderableType]:
    for heading, every in found.groups().items():
        if here := [name for name in every if name in names]:
            yield from _group(heading, here, found, shown, meanings)


def _group(
    heading: str,
    names: Sequence[str],
    found: Settings,
    shown: Mapping[str, object],
    meanings: Mapping[str, str],
) -> Iterator[RenderableType]:
    """A line each: what is cut of it on a narrow terminal is its meaning, not its value."""
    yield OneLine(text(heading, "bold"))
    width = max(len(name) for name in found.sources) + 2
    for name in names:
        source = found.sources[name]
        style = "dim" if source == "default" else "bold"
        value = "(not set)" if shown[name] is None else str(shown[name])
        said = meanings[name] if source == "default" else f"({source}) {meanings[name]}"
        yield OneLine(text(f"  {name:<{width}}", style), text(f"{value:<{VALUE_WIDTH}}", style), text(said, "dim"))
    yield ""


def _with_remembered(settings: Settings) -> Settings:
    """As `up` without options would take them. Raises LocalError."""
    from orderflow.local.home import Home
    from orderflow.local.state import choose_event_log

    remembered = Home(settings.home).event_log()
    if remembered is None or choose_event_log(settings, remembered, own_broker=False) is not remembered:
        return settings
    known: dict[str, Any] = {"transport": remembered.transport}
    if remembered.bootstrap is not None:
        known["kafka_bootstrap"] = remembered.bootstrap
    return replace(settings, sources={**settings.sources, **dict.fromkeys(known, REMEMBERED)}, **known)
