"""`orderflow chaos`."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orderflow.cli.errors import ExitCode
from orderflow.cli.output import Output
from orderflow.cli.values import FilledPath

if TYPE_CHECKING:
    from orderflow.chaos.run import ChaosOptions, ChaosResult

SECONDS_A_MINUTE = 60


def kinds_of_faults(value: Any) -> tuple[str, ...]:
    """`kill,freeze`. Raises click.BadParameter."""
    from orderflow.chaos.plan import KINDS

    wanted = tuple(dict.fromkeys(part.strip() for part in str(value).split(",")))
    if unknown := [each for each in wanted if each not in KINDS]:
        raise click.BadParameter(f"{unknown[0]!r} is not a kind of fault. Choose from {', '.join(KINDS)}")
    return wanted


@click.command(
    epilog="""\b
Kinds of faults:
  kill        SIGKILL to a service, PostgreSQL, one of its backends, Kafka, `up`, or all at once
  freeze      SIGSTOP for 1 to 120 s, Kafka first
  network     a link is cut, held, slow, reset in the middle, or half open
  disk        PostgreSQL's disk, a small tmpfs, is full (Linux, root)
  duplicates  records are produced again
  poison      records that nobody can read
  clock       the wall clock of the services or of PostgreSQL jumps (libfaketime)
  deploy      every service process is drained and restarted, one after another
  partitions  all topics get more partitions (Kafka)
  topics      a topic is deleted, created anew and republished (Kafka)

\b
Examples:
  orderflow chaos --minutes 2
  orderflow chaos --minutes 60 --kafka --rate 45 --report chaos-report
  orderflow chaos --minutes 5 --kafka --brokers 3 --faults kill,freeze
  orderflow chaos --minutes 2 --seed 7 --json | jq .verdict

\b
Exit codes: 0 nothing was found; 1 something was, or the system did not start; 2 wrong usage;
130 interrupted. The same seed gives the same plan of faults and the same orders, but not the same run."""
)
@click.option(
    "--minutes", type=click.FloatRange(0.5, 24 * 60), default=2.0, show_default=True, help="How long to run."
)
@click.option("--kafka", is_flag=True, help="Carry events on Apache Kafka.  [default: the log in PostgreSQL]")
@click.option("--brokers", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Kafka brokers.")
@click.option("--rate", type=click.FloatRange(0.1, 2000), default=20.0, show_default=True, help="Orders per second.")
@click.option(
    "--faults",
    "kinds",
    type=kinds_of_faults,
    metavar="KIND,...",
    help="Kinds of faults.  [default: all that are possible here]",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides what strikes where, and when.")
@click.option(
    "--home",
    type=FilledPath(file_okay=False),
    help="An empty or new folder, for all data.  [default: a temporary one]",
)
@click.option(
    "--report",
    "report_folder",
    type=FilledPath(file_okay=False),
    help="Where report.txt, report.json, report.svg and history.jsonl go.  [default: the home]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def chaos(
    minutes: float,
    kafka: bool,
    brokers: str,
    rate: float,
    kinds: tuple[str, ...] | None,
    seed: int,
    home: Path | None,
    report_folder: Path | None,
    as_json: bool,
) -> int:
    """Run a separate system under load, break everything that can break, and judge the outcome.

    PostgreSQL, Kafka and all services are real processes in a home of their own; nothing that already runs is
    touched. A client records the outcome of each request (ok, failed, unknown). At the end all faults are healed,
    and that history is compared with the services, the books of all databases, and every record of every topic:
    lost, doubled, reordered, adrift and stuck must all be 0.

    If anything is found, the data is kept.
    """
    from orderflow.chaos.plan import KINDS
    from orderflow.chaos.run import ChaosOptions

    if brokers != "1" and not kafka:
        raise click.UsageError("--brokers is for Kafka: add --kafka")
    wish = ChaosOptions(
        seconds=minutes * SECONDS_A_MINUTE,
        rate=rate,
        seed=seed,
        kafka=kafka,
        brokers=int(brokers),
        kinds=kinds or KINDS,
    )
    folder = _empty(home)
    target = report_folder or folder
    target.mkdir(parents=True, exist_ok=True)
    return _perform(wish, folder, target, own=home is None and report_folder is not None, as_json=as_json)


def _perform(wish: ChaosOptions, folder: Path, target: Path, *, own: bool, as_json: bool) -> int:
    from orderflow.chaos import report

    outcome = _run(wish, folder, target / "history.jsonl", _teller(hidden=as_json))
    written = report.write(outcome, target)
    if as_json:
        Output(as_json=True).document(report.document(outcome))
    else:
        click.echo("\n".join(report.lines(outcome)))
        click.echo(f"\nReport: {', '.join(str(path) for path in written.values())}")
    if outcome.verdict.passed:
        if own:
            shutil.rmtree(folder, ignore_errors=True)
        return ExitCode.DONE
    click.echo(f"The data is kept in {folder}", err=True)
    return ExitCode.FAILED


def _run(wish: ChaosOptions, folder: Path, history: Path, notify: Callable[[str], None]) -> ChaosResult:
    from orderflow.chaos.run import run

    if sys.platform == "win32":
        raise click.UsageError("chaos needs signals that Windows does not have")
    import uvloop

    try:
        return uvloop.run(run(wish, folder, history, notify))
    except asyncio.CancelledError:
        raise click.Abort from None


def _teller(*, hidden: bool) -> Callable[[str], None]:
    """Progress, on standard error."""

    def tell(text: str) -> None:
        if not hidden:
            click.echo(text, err=True)

    return tell


def _empty(home: Path | None) -> Path:
    """Raises click.UsageError: there is something in it, which is not ours to mix with."""
    if home is None:
        return Path(tempfile.mkdtemp(prefix="orderflow-chaos-"))
    if home.exists() and any(home.iterdir()):
        raise click.UsageError(f"{home} is not empty: name a new folder, because chaos creates its own system there")
    home.mkdir(parents=True, exist_ok=True)
    return home.absolute()
