"""Holds orders up in every way, and checks that the cause is named. `python -m tests.causes --help`."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import click

from orderflow.chaos.system import NoDiskError, SmallDisk
from tests.causes.healthy import Busy, busy
from tests.causes.injections import DISK, INJECTIONS, KAFKA, POSTGRES, Injection
from tests.causes.stage import Stage, standing
from tests.causes.trial import Verdict, tried
from tests.support.kafka import KafkaServer, fetch_jars, missing
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
JARS = ROOT / ".pytest_cache" / "d" / "kafka"
PAGE = ROOT / "docs" / "causes.md"
BEGIN, END = "<!-- causes: made by python -m tests.causes --write -->", "<!-- end of causes -->"
STAGES = (POSTGRES, KAFKA, DISK)
BUSY_ORDERS = 800
DISK_MB = 600
WHY_CHARS = 110


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("names", nargs=-1, metavar="[NAME]…", type=click.Choice([each.name for each in INJECTIONS]))
@click.option("--on", type=click.Choice(STAGES), help="Only what is done to this kind of system.")
@click.option("--list", "listing", is_flag=True, help="Only say what can be done.")
@click.option("--write", is_flag=True, help=f"Write the table into {PAGE.relative_to(ROOT)} (of all).")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
def main(names: Sequence[str], on: str | None, listing: bool, write: bool, as_json: bool) -> None:
    """Hold an order up on a real system, ask `orderflow order explain` and `orderflow stuck` why, and heal it.

    The cause is right if it is the first that is named, from the first look on that names any. At the end a system
    that is well is loaded with orders: nothing may be named for any of them.

    \b
    Examples:
      python -m tests.causes                            all of them
      python -m tests.causes row-locked payment-frozen  two
      python -m tests.causes --on kafka                 those that need Kafka
      python -m tests.causes --write                    all, and the table into the docs

    Exit code: 0 every cause was right and none was named in vain, 1 some were not, 2 wrong usage.
    """
    wanted = [each for each in INJECTIONS if (not names or each.name in names) and on in (None, each.on)]
    if write and len(wanted) < len(INJECTIONS):
        raise click.UsageError("--write makes the table of all: leave out what narrows it")
    if listing:
        for each in wanted:
            click.echo(f"{each.name:26} {each.named:16} {each.service:14} {each.on:10} {each.what}")
        return
    verdicts, quiet = asyncio.run(_play(wanted, as_json=as_json))
    if not as_json:
        click.echo(summary(verdicts))
    if write and quiet is not None:
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), verdicts, quiet), "utf-8")
    sys.exit(0 if all(each.is_right for each in verdicts) and not (quiet and quiet.named) else 1)


async def _play(wanted: Sequence[Injection], *, as_json: bool) -> tuple[list[Verdict], Busy | None]:
    verdicts: list[Verdict] = []
    quiet: Busy | None = None
    # The namespace of a small disk is for the rest of this process.
    for on in STAGES:
        waiting = [each for each in wanted if each.on == on]
        while waiting:
            async with system(on) as stage:
                if on == POSTGRES and quiet is None and len(wanted) > 1:
                    quiet = await busy(stage, BUSY_ORDERS)
                    click.echo(quiet, err=as_json)
                async for verdict in _one_after_the_other(stage, waiting):
                    verdicts.append(verdict)
                    _tell(verdict, as_json=as_json)
    return verdicts, quiet


async def _one_after_the_other(stage: Stage, waiting: list[Injection]) -> AsyncIterator[Verdict]:
    """Until the system is not well any more, or nothing waits."""
    while waiting:
        verdict = await tried(stage, waiting.pop(0))
        yield verdict
        if verdict.broken:
            return


def _tell(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        told = {"name": verdict.injection.name, "right": verdict.is_right, "before": verdict.before}
        click.echo(json.dumps({**told, "first": verdict.first, "looks": verdict.looks, "broken": verdict.broken}))
    else:
        click.echo(verdict)


@asynccontextmanager
async def system(on: str) -> AsyncIterator[Stage]:
    """One on which everything runs. Raises click.ClickException where it cannot be had."""
    reason = missing() if on == KAFKA else None
    if reason is not None:
        raise click.ClickException(f"no Apache Kafka: {reason}; --on postgres does without")
    with ExitStack() as parts:
        disk, folder = _small_disk() if on == DISK else (None, None)
        server = PostgresServer({"max_connections": "200"}, folder)
        parts.callback(server.remove)
        server.start()
        kafka: KafkaServer | None = None
        if on == KAFKA:
            JARS.mkdir(parents=True, exist_ok=True)
            kafka = KafkaServer(fetch_jars(JARS))
            parts.callback(kafka.remove)
            kafka.start()
        async with standing(server, kafka, disk) as stage:
            yield stage


def _small_disk() -> tuple[SmallDisk, Path]:
    folder = Path(tempfile.mkdtemp(prefix="orderflow-disk-"))
    folder.chmod(0o711)
    try:
        return SmallDisk(folder, DISK_MB), folder
    except NoDiskError as error:
        raise click.ClickException(f"no small disk: {error}; --on postgres does without") from error


def summary(verdicts: Sequence[Verdict]) -> str:
    """The figures."""
    right = sum(each.is_right for each in verdicts)
    share = f"{right} of {len(verdicts)} ({right / len(verdicts):.0%})"
    return f"An order was held up in {len(verdicts)} ways. The right cause was named first in {share}."


def with_table(page: str, verdicts: Sequence[Verdict], quiet: Busy) -> str:
    """The page with today's table in the place of the last one."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    table = [
        "| what is done | named first | it says | what helps | looks |",
        "|---|---|---|---|---|",
        *rows(verdicts),
    ]
    return "\n".join([before + BEGIN, "", summary(verdicts), str(quiet), "", *table, "", END + after])


def rows(verdicts: Iterable[Verdict]) -> Iterable[str]:
    for each in verdicts:
        first, wrong = each.first, "" if each.is_right else " (wrong)"
        why, command = str(first.get("why", "")), str(first.get("command", ""))
        if len(why) > WHY_CHARS:
            why = why[:WHY_CHARS].rpartition(" ")[0] + " …"
        said = why.replace("|", "\\|").replace("<", "&lt;")
        helps = f"`{' '.join(word for word in command.split() if '-' not in word or len(word) < 30)}`"
        where = f"`{first.get('kind', 'nothing')}` at {first.get('service', '-')}{wrong}"
        yield f"| {each.injection.what} | {where} | {said} | {helps} | {each.looks} |"


if __name__ == "__main__":
    main(prog_name="python -m tests.causes")
