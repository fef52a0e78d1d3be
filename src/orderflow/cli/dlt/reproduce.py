"""`orderflow dlt pytest`: a test that makes a parked event fail again.

What comes from outside is in it as literals only.
"""

from __future__ import annotations

import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pprint import pformat

import click

from orderflow.cli.dlt.selection import PATH, read_details, require_found, require_service
from orderflow.cli.errors import CliError, NotFoundError
from orderflow.cli.http import ServiceClient
from orderflow.cli.output import text
from orderflow.cli.session import Session, ask, session_options
from orderflow.cli.values import event_or_position
from orderflow.core.operations.model import Reproduction
from orderflow.registry import place_of, service_names

ROW_TYPE = re.compile(r"(?P<module>[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*):(?P<name>[A-Z][A-Za-z0-9_]*)")
WIDTH = 110

FILE = '''\
"""An event that the {service} service could not handle, as it was stored.

{why}

Written by `orderflow dlt pytest`, for pytest, or for Python alone. It fails as the event did, and passes once the
code is fixed.
"""

from uuid import UUID

{imports}

EVENT = ParkedEvent(
    key={key!r},
    identity={identity!r},
    event_id=UUID({event_id!r}),
    event_type={event_type!r},
    record=ConsumerRecord(
        topic={topic!r},
        partition={partition!r},
        offset={offset!r},
        key={record_key!r},
        value={value!r},
        headers={headers},
        timestamp={timestamp!r},
    ),
    attempts={attempts!r},
    intent={intent!r},
)
ROWS = [{rows}]


def {name}() -> None:
    incoming = from_parked(EVENT, SERVICE.catalogue)
    if incoming.problem is not None:
        raise incoming.problem
    if is_ignored(SERVICE, incoming):
        return
    handler = handler_of(SERVICE, incoming.envelope.message)
    touched = set(handler.touches(incoming.envelope.message))
    rows = Rows({{row.ref: row for row in ROWS if row.ref in touched}})
    encoded(handler.decide(rows, incoming.envelope), incoming, SERVICE.publishes)


if __name__ == "__main__":
    {name}()
    print("It passes: the event is handled.")
'''


@click.command(name="pytest")
@click.argument("event", type=event_or_position, metavar="EVENT_ID")
@click.option(
    "--service", type=click.Choice(service_names()), help="The service that failed.  [default: the one that has it]"
)
@click.option(
    "--output",
    metavar="FILE",
    help="Where to write it; - is standard output.  [default: test_SERVICE_POSITION.py here]",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@session_options
def reproduce(session: Session, event: str, service: str | None, output: str | None, force: bool) -> None:
    """Write a test that reproduces an event's failure, from the stored rows and the record.

    The test needs only this project: no database, no log. Run it with this project's Python alone, or as one of your
    tests with pytest (pip install pytest). It fails today as the event did, and passes once the code is fixed. The
    command tries it first, and tells you if the event does not fail with the code installed here (it was fixed, the
    database refused the data, or a fault was set).

    \b
    orderflow dlt pytest 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt pytest 17 --service payment --output tests/unit/payment/test_dead_order.py
    """
    require_service((event,), service)
    name, position, found = _found(session, event, service)
    written, function = file_of(found)
    failure = _try(written, function)
    where = output or f"test_{name}_{position}.py"
    if where != "-":
        _write(Path(where), written, force=force)
    if session.out.as_json:
        told = {"test": written} if where == "-" else {"file": where}
        session.out.document({**told, "service": name, "fails": bool(failure), "failure": failure})
    elif where == "-":
        click.echo(written, nl=False)
    else:
        _show(session, where, failure)


def _show(session: Session, where: str, failure: str) -> None:
    session.out.show(text(f"Wrote {where}. Run it with: {shlex.join((sys.executable, where))}"))
    if find_spec("pytest") is not None:
        session.out.show(text(f"or with: {shlex.join((sys.executable, '-m', 'pytest', where))}"))
    if failure:
        session.out.show(text(f"It fails here: {failure}", "red"))
    else:
        session.out.show(text("It passes here: the event does not fail with the code installed here.", "yellow"))


def _found(session: Session, event: str, service: str | None) -> tuple[str, int, Reproduction]:
    """The one service that has the event, its position there, and what reproduces it. Raises CliError."""

    def read(client: ServiceClient) -> tuple[int, Reproduction]:
        position = read_details(client, event).letter.position
        return position, client.read(Reproduction, f"{PATH}/{position}/reproduction")

    answers = ask(session, read, service)
    found = {name: answer for name, answer in answers.found.items() if answer is not None}
    if not found:
        require_found(event, answers)
    if len(found) > 1:
        raise NotFoundError(f"Several services have that event: {', '.join(found)}. Choose one with --service")
    ((name, answer),) = found.items()
    return (name, *answer)


def _try(written: str, name: str) -> str:
    """How the test fails here; "" when it passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reproduction.py"
        path.write_text(written, encoding="utf-8")
        try:
            runpy.run_path(str(path))[name]()
        except Exception as error:  # noqa: BLE001  (whatever the event's decision raises is the finding)
            return f"{type(error).__name__}: {error}"
    return ""


def _write(path: Path, written: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(written)
    except FileExistsError:
        raise CliError(
            f"{path} already exists. Overwrite it with --force, or write elsewhere with --output"
        ) from None
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}. Choose another place with --output") from error


def file_of(reproduction: Reproduction) -> tuple[str, str]:
    """The text and the name of its test. Raises CliError: the service's answer is none that can be used."""
    service = reproduction.service
    if service not in service_names():
        raise CliError(f"This release knows no service {service!r}")
    types = [_row_type(service, row.type) for row in reproduction.rows]
    name = f"test_{service}_handles_{_words(reproduction.event_type)}"
    why = _one_line(": ".join(part for part in (reproduction.error, reproduction.message) if part))
    written = FILE.format(
        **{field: getattr(reproduction, field) for field in _PLAIN},
        service=service,
        why=why or "it waits behind another",
        imports=_imports(service, types),
        record_key=reproduction.record_key.to_bytes(),
        value=reproduction.value.to_bytes(),
        headers=_indented(tuple((header, value.to_bytes()) for header, value in reproduction.headers)),
        rows="".join(
            f"\n    msgspec.convert({_indented(row.values)}, {name}),"
            for row, (_, name) in zip(reproduction.rows, types, strict=True)
        )
        + ("\n" if types else ""),
        name=name,
    )
    return written, name


_PLAIN = (
    "key",
    "identity",
    "event_id",
    "event_type",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "attempts",
    "intent",
)


def _row_type(service: str, said: str) -> tuple[str, str]:
    """Module and class. Raises CliError: nothing is imported but a class of the package that declares the service."""
    match = ROW_TYPE.fullmatch(said)
    package = place_of(service)[0].partition(".")[0]
    if match is None or match["module"].partition(".")[0] != package:
        raise CliError(f"This release knows no type of row {said!r}")
    return match["module"], match["name"]


def _imports(service: str, types: Sequence[tuple[str, str]]) -> str:
    home, attribute = place_of(service)
    rows: dict[str, set[str]] = {}
    for module, name in types:
        rows.setdefault(module, set()).add(name)
    lines = [
        "from orderflow.core.decisions import encoded, handler_of, is_ignored",
        "from orderflow.core.inbox import ParkedEvent",
        "from orderflow.core.envelopes import from_parked",
        "from orderflow.core.service import Rows",
        "from orderflow.core.transport import ConsumerRecord",
        *(f"from {module} import {', '.join(sorted(names))}" for module, names in rows.items()),
        f"from {home} import {attribute}" + ("" if attribute == "SERVICE" else " as SERVICE"),
    ]
    return "\n".join((["import msgspec", ""] if types else []) + sorted(lines))


def _indented(value: object) -> str:
    return pformat(value, width=WIDTH - 8, sort_dicts=False).replace("\n", "\n        ")


def _words(event_type: str) -> str:
    """`orderflow.OrderPlaced.v1` as `order_placed`; whatever else it is, a name."""
    last = re.sub(r"\.v\d+$", "", event_type).rpartition(".")[2]
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower()).strip("_")
    return words[:60] or "the_event"


def _one_line(words: str) -> str:
    """For a docstring: nothing that could end it."""
    return "".join(c if c.isprintable() and c not in '"\\' else " " for c in words)[:WIDTH]
