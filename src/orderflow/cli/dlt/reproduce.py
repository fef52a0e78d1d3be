"""`orderflow dlt pytest`."""

from __future__ import annotations

import runpy
import shlex
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from orderflow.cli.errors import CliError, NotFoundError
from orderflow.cli.session import Session, session_options
from orderflow.cli.values import event_or_position
from orderflow.registry import service_names


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
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@session_options
def reproduce(session: Session, event: str, service: str | None, output: str | None, force: bool) -> None:
    """Write a test that reproduces the failure of an event, from the stored rows and the record.

    It needs nothing but this project: no database, no log. It is run by this project's Python alone, or as one of
    your tests by pytest, where that is installed (pip install pytest). It fails today as the event did, and passes
    once the code is mended. What it would do is tried here first: if the event does not fail by the
    code that is installed here, that is said (it was mended, or the database refused the data, or a fault was set).

    \b
    orderflow dlt pytest 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt pytest 17 --service payment --output tests/unit/payment/test_dead_order.py
    """
    from orderflow.cli.dlt.choosing import require_service
    from orderflow.cli.dlt.pytest_file import file_of

    require_service((event,), service)
    found = _found(session, event, service)
    written, name = file_of(found["reproduction"])
    failure = _try(written, name)
    where = output or f"test_{found['service']}_{found['position']}.py"
    if where != "-":
        _write(Path(where), written, force=force)
    if session.out.as_json:
        told = {"test": written} if where == "-" else {"file": where}
        session.out.document({**told, "service": found["service"], "fails": bool(failure), "failure": failure})
    elif where == "-":
        click.echo(written, nl=False)
    else:
        _show(session, where, failure)


def _show(session: Session, where: str, failure: str) -> None:
    from orderflow.cli.output import text

    session.out.show(text(f"Wrote {where}. Run it with: {shlex.join((sys.executable, where))}"))
    if find_spec("pytest") is not None:
        session.out.show(text(f"or with: {shlex.join((sys.executable, '-m', 'pytest', where))}"))
    if failure:
        session.out.show(text(f"It fails here: {failure}", "red"))
    else:
        session.out.show(
            text("It passes here: the event does not fail by the code that is installed here.", "yellow")
        )


def _found(session: Session, event: str, service: str | None) -> dict[str, Any]:
    """The reproduction, by the one service that has the event. Raises CliError."""
    from orderflow.cli import everywhere
    from orderflow.cli.dlt.letters import PATH, require_found

    def ask(client: Any) -> Mapping[str, Any]:
        position = client.get(f"{PATH}/{event}")["letter"]["position"]
        return {"position": position, "reproduction": client.get(f"{PATH}/{position}/reproduction")}

    answers = everywhere.ask(session, ask, (service,) if service else service_names())
    found = {name: answer for name, answer in answers.found.items() if answer is not None}
    if not found:
        require_found(event, answers)
    if len(found) > 1:
        raise NotFoundError(
            f"Several services have that event: {', '.join(found)}. Wanted: --service with one of them"
        )
    ((name, answer),) = found.items()
    return {"service": name, **answer}


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
        raise CliError(f"{path} is there already. Write over it with --force, or elsewhere with --output") from None
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}. Choose another place with --output") from error
