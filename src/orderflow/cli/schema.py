"""`orderflow schema`: the events as documents for other programs, and a gate for changes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orderflow import __version__
from orderflow.cli.errors import CliError, ExitCode
from orderflow.cli.lazy import Group
from orderflow.cli.output import Output, text
from orderflow.cli.session import json_option
from orderflow.registry import service_names, service_of

if TYPE_CHECKING:
    from orderflow.schema.compatibility import Break

DOCUMENT = "asyncapi.json"


@click.group(cls=Group)
def schema() -> None:
    """Export event schemas for other programs, and see what a change would break.

    \b
    orderflow schema export > asyncapi.json            one AsyncAPI 3 document of all topics
    orderflow schema export --into schemas             the same, and a JSON Schema of each event
    orderflow schema check --against released.json     can both releases read each other?
    """


@schema.command()
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Write {DOCUMENT} and a JSON Schema of each event into this folder.  [default: print the document only]",
)
@json_option
def export(into: Path | None, as_json: bool) -> None:
    """Write the AsyncAPI 3 document of all installed services, made from their declarations.

    It lists every topic, every event with its JSON Schema and headers, and who sends and reads it. Nothing needs to
    be running.

    \b
    orderflow schema export | jq '.channels | keys'
    orderflow schema export --into schemas
    """
    out, document = Output(as_json=as_json), current()
    if into is None:
        out.document(document)
        return
    from orderflow.schema.asyncapi import json_schemas_of

    schemas = {f"{name}.schema.json": each for name, each in json_schemas_of(document).items()}
    into.mkdir(parents=True, exist_ok=True)
    for name, content in {DOCUMENT: document, **schemas}.items():
        (into / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if as_json:
        out.document({"folder": str(into), "files": [DOCUMENT, *schemas]})
    else:
        out.show(f"{into}: {DOCUMENT}, and the JSON Schemas of {len(schemas)} events.")


@schema.command()
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The last release's document, as written by `orderflow schema export`.",
)
@json_option
def check(against: Path, as_json: bool) -> None:
    """Reject a change of events that the last release, or this one, could not read.

    During a rolling deployment both releases read what both write, and topics keep what the last one wrote. A new
    field breaks no reader. Anything else that a reader does not accept does: it would give the event up.

    Exit code: 0 each can read the other, 1 something cannot be read.

    \b
    orderflow schema check --against released.json
    orderflow schema check --against released.json --json | jq '.breaks[].pointer'
    """
    from orderflow.schema.compatibility import NotADocumentError, breaks_between

    try:
        found = breaks_between(_read(against), current())
    except NotADocumentError as error:
        raise CliError(f"{against} cannot be compared: {error}") from error
    out = Output(as_json=as_json)
    if as_json:
        from msgspec import to_builtins

        out.document({"compatible": not found, "breaks": to_builtins(found)})
    else:
        _show(out, found)
    if found:
        raise click.exceptions.Exit(ExitCode.FAILED)


def current() -> dict[str, Any]:
    """The document of the services that are installed."""
    from orderflow.schema.asyncapi import asyncapi_of

    return asyncapi_of([service_of(name) for name in service_names()], __version__)


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read: {error}") from error
    return document


def _show(out: Output, found: Sequence[Break]) -> None:
    if not found:
        out.show("Each release reads what the other one writes.")
        return
    for direction in dict.fromkeys(each.direction for each in found):
        out.show(text(f"Broken: {direction}", "bold red"))
        for each in found:
            if each.direction is direction:
                place = f"{each.message} {each.pointer}".rstrip()
                out.show(text(f"  {each.reader} cannot read {place} on {each.topic}: {each.why}"))
    out.show(
        "",
        "Raise the event's version and add an upcaster, or deploy the readers first: see docs/events.md, Changing an "
        "event.",
    )
