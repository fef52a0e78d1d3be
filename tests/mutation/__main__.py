"""Plants every small slip in the code that decides, one at a time, and says which of them no test sees.

`python -m tests.mutation --help`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click

from tests.mutation.forks import BrokenForkError
from tests.mutation.judging import How, Verdict, judged
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.survivors import SURVIVORS, Survivor
from tests.mutation.targets import ALL_JUDGES, ROOT, SOURCE, TARGETS, Target

PAGE = ROOT / "docs" / "mutation.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- mutation: made by python -m tests.mutation --write -->", "<!-- end of mutation -->"
SCORE_MIN = 0.9


@dataclass(frozen=True, slots=True)
class Score:
    """Of `mutants`, so many were killed, and so many more change nothing that anybody could see."""

    name: str
    mutants: int
    killed: int
    equivalent: int

    @property
    def share(self) -> float:
        return self.killed / self.mutants if self.mutants else 1.0

    @property
    def share_of_real(self) -> float:
        real = self.mutants - self.equivalent
        return self.killed / real if real else 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("files", nargs=-1, metavar="[FILE]…")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many mutants to try side by side.")
@click.option("--list", "listing", is_flag=True, help="Only say which mutants there are.")
@click.option("--sample", type=click.IntRange(min=1), help="Only so many of each group, always the same ones.")
@click.option("--all-tests", is_flag=True, help="Let all unit tests and simulations judge that run a mutant's line.")
@click.option("--survivors", is_flag=True, help="Show the survivors that are explained, too, with the reason.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@click.option(
    "--session",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the verdicts here. What was killed or is explained is not tried again while its file stays the same.",
)
@click.option("--write", is_flag=True, help="Write table and survivors into the docs.")
def main(
    files: Sequence[str],
    jobs: int,
    listing: bool,
    sample: int | None,
    all_tests: bool,
    survivors: bool,
    as_json: bool,
    session: Path | None,
    write: bool,
) -> None:
    """Plant each mutant of the deciding code in a process of its own, and run the tests that could see it.

    A mutant is one slip: a comparison at its boundary, a condition or a statement left out, two arguments swapped,
    another constant. It is killed when a test fails, or does not end. FILE is below src/orderflow, or a group; all
    are tried if none is named. Of each file those unit tests judge that are written for its group. Nothing is changed
    on disk.

    \b
    Examples:
      python -m tests.mutation                           everything
      python -m tests.mutation services/order/model.py            one file
      python -m tests.mutation retries --survivors       one group, and why its survivors may live
      python -m tests.mutation --list canary             which mutants there are
      python -m tests.mutation --sample 5                a few of each group
      python -m tests.mutation --session /tmp/session    everything; the next time what has survived or changed
      python -m tests.mutation --write                   everything, and its table into the docs

    Exit code: 0 every survivor is explained, and 90 % of each group are killed; 1 not so; 2 wrong usage.
    """
    chosen = targets(files)
    if write and (files or sample):
        raise click.UsageError("--write makes the table of everything: leave out the files and --sample")
    works = [(target, mutant) for target in chosen for mutant in mutants_of(target)]
    works = sampled(works, sample) if sample else works
    if listing:
        for _, mutant in works:
            click.echo(f"{mutant.diff}  ({mutant.operator})")
        return
    tests = ALL_JUDGES if all_tests else sorted({name for target in chosen for name in target.tests})
    before = remembered(session, works)
    left = [(target, mutant) for target, mutant in works if (mutant.file, mutant.name) not in before]
    how = How.ALL if all_tests else How.UNMAPPED if sample else How.OWN
    fresh = noted(judged(left, tests, jobs, how) if left else iter(()), session)
    try:
        verdicts = [*before.values(), *told(fresh, len(left), quiet=as_json)]
    except BrokenForkError as error:
        raise click.ClickException(str(error)) from None
    problems = problems_of(verdicts, is_whole=not sample)
    if as_json:
        click.echo(json.dumps(document(verdicts, problems), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join([*table(scores(verdicts)), "", *shown(verdicts, explained_too=survivors), *problems]))
    if write:
        put(PAGE, [*rows(verdicts), *survived(verdicts)])
        put(GUARANTEES, rows(verdicts, files=False))
    sys.exit(1 if problems else 0)


def targets(names: Sequence[str]) -> Sequence[Target]:
    """Raises click.UsageError for a name that is neither a file nor a group."""
    short = [str(Path(name).resolve().relative_to(SOURCE)) if Path(name).is_file() else name for name in names]
    known = {target.file for target in TARGETS} | {target.group for target in TARGETS}
    unknown = [name for name in short if name not in known]
    if unknown:
        raise click.UsageError(f"{', '.join(unknown)}: wanted is one of {', '.join(sorted(known))}")
    return [target for target in TARGETS if not short or target.file in short or target.group in short]


def mutants_of(target: Target) -> list[Mutant]:
    return mutants(target.file, str(target.path), target.path.read_text("utf-8"), target.only)


def sampled(works: Sequence[tuple[Target, Mutant]], count: int) -> list[tuple[Target, Mutant]]:
    """So many of each group, none of which is known to survive."""
    found: list[tuple[Target, Mutant]] = []
    for group in dict.fromkeys(target.group for target, _ in works):
        some = [each for each in works if each[0].group == group and known(each[1]) is None]
        found += random.Random(group).sample(some, min(count, len(some)))
    return found


def remembered(session: Path | None, works: Sequence[tuple[Target, Mutant]]) -> dict[tuple[str, str], Verdict]:
    """What earlier runs of the session have killed, or has survived for a reason, of files that are as they were."""
    lines = session.read_text("utf-8").splitlines() if session and session.exists() else []
    killers: dict[tuple[str, str, str], str] = {}
    for file, version, name, killer in map(json.loads, lines):
        killers[file, version, name] = killer or killers.get((file, version, name), "")
    found = {}
    for _, mutant in works:
        before = killers.get((mutant.file, digest(mutant.file), mutant.name))
        if before or (before is not None and known(mutant) is not None):
            found[mutant.file, mutant.name] = Verdict(mutant, before)
    return found


def noted(verdicts: Iterable[Verdict], session: Path | None) -> Iterator[Verdict]:
    for verdict in verdicts:
        if session:
            mutant = verdict.mutant
            line = json.dumps([mutant.file, digest(mutant.file), mutant.name, verdict.killer])
            with session.open("a", encoding="utf-8") as lines:
                lines.write(f"{line}\n")
        yield verdict


@cache
def digest(file: str) -> str:
    return hashlib.sha256((SOURCE / file).read_bytes()).hexdigest()[:16]


def known(mutant: Mutant) -> Survivor | None:
    return SURVIVORS.get((mutant.file, mutant.name))


def told(verdicts: Iterable[Verdict], whole: int, *, quiet: bool) -> Iterator[Verdict]:
    """Say how far it is, on standard error: what survives unexplained at once."""
    survived = 0
    for number, verdict in enumerate(verdicts, 1):
        if not verdict.killer and known(verdict.mutant) is None:
            survived += 1
            if not quiet:
                click.echo(f"{verdict.mutant.diff}  ({verdict.mutant.operator})", err=True)
        if number % 100 == 0 or number == whole:
            click.echo(f"{number} of {whole} mutants tried, {survived} survive unexplained", err=True)
        yield verdict


def scores(verdicts: Sequence[Verdict]) -> list[Score]:
    """Of each file, each group, and all."""
    tried = {verdict.mutant.file for verdict in verdicts}
    some = [target for target in TARGETS if target.file in tried]
    found = []
    for group in dict.fromkeys(target.group for target in some):
        files = [target.file for target in some if target.group == group]
        found += [score(file, [each for each in verdicts if each.mutant.file == file]) for file in files]
        found.append(score(group, [each for each in verdicts if each.mutant.file in files]))
    return [*found, score("all", verdicts)]


def score(name: str, verdicts: Sequence[Verdict]) -> Score:
    killed = sum(bool(each.killer) for each in verdicts)
    survivors = (known(each.mutant) for each in verdicts if not each.killer)
    return Score(name, len(verdicts), killed, sum(each is not None and each.equivalent for each in survivors))


def problems_of(verdicts: Sequence[Verdict], *, is_whole: bool) -> list[str]:
    """What must not stay so."""
    unexplained = [each for each in verdicts if not each.killer and known(each.mutant) is None]
    found = [f"UNEXPLAINED {each.mutant.file} {each.mutant.name}" for each in unexplained]
    found += [
        f"KILLED AFTER ALL, so tests/mutation/survivors.toml must not name it: {each.mutant.file} {each.mutant.name}"
        for each in verdicts
        if each.killer and known(each.mutant) is not None
    ]
    groups = {target.group for target in TARGETS}
    low = [each for each in scores(verdicts) if each.name in groups and each.share_of_real < SCORE_MIN]
    return found + [f"TOO FEW of {each.name} are killed: {each.share_of_real:.1%}" for each in low if is_whole]


def table(found: Sequence[Score]) -> Iterator[str]:
    yield f"{'':28} {'mutants':>8} {'killed':>8} {'survived':>9} {'score':>7}  {'without equivalents':>19}"
    for each in found:
        yield (
            f"{each.name:28} {each.mutants:8} {each.killed:8} {each.mutants - each.killed:9} {each.share:7.1%}  "
            f"{each.share_of_real:19.1%}"
        )


def shown(verdicts: Sequence[Verdict], *, explained_too: bool) -> Iterator[str]:
    """The survivors, as they stand in the code."""
    for each in sorted((each for each in verdicts if not each.killer), key=place):
        reason = known(each.mutant)
        if reason is None:
            yield f"{each.mutant.diff}\n    survives unexplained ({each.mutant.operator})"
        elif explained_too:
            yield f"{each.mutant.diff}\n    {'equivalent' if reason.equivalent else 'may live'}: {reason.reason}"


def place(verdict: Verdict) -> tuple[str, int, str]:
    return verdict.mutant.file, verdict.mutant.first, verdict.mutant.name


def document(verdicts: Sequence[Verdict], problems: Sequence[str]) -> dict[str, object]:
    survived = sorted((each for each in verdicts if not each.killer), key=place)
    reasons = [(each.mutant, known(each.mutant)) for each in survived]
    return {
        "scores": [
            {
                "name": each.name,
                "mutants": each.mutants,
                "killed": each.killed,
                "equivalent": each.equivalent,
                "score": round(each.share, 4),
                "score_without_equivalents": round(each.share_of_real, 4),
            }
            for each in scores(verdicts)
        ],
        "survivors": [
            {
                "file": mutant.file,
                "line": mutant.first,
                "mutant": mutant.name,
                "operator": mutant.operator,
                "equivalent": reason.equivalent if reason else None,
                "reason": reason.reason if reason else None,
            }
            for mutant, reason in reasons
        ],
        "problems": list(problems),
    }


def put(page: Path, lines: Iterable[str]) -> None:
    page.write_text(between(page.read_text("utf-8"), lines), "utf-8")


def between(page: str, lines: Iterable[str]) -> str:
    """The page with these lines in the place of the last ones."""
    before, rest = page.split(BEGIN)
    return "\n".join([before + BEGIN, "", *lines, END + rest.split(END)[1]])


def rows(verdicts: Sequence[Verdict], *, files: bool = True) -> Iterator[str]:
    """The table of the groups, or of all files too."""
    yield "| | mutants | killed | survived | score | without equivalents |"
    yield "|---|---|---|---|---|---|"
    names = {*(target.group for target in TARGETS), "all"}
    for each in scores(verdicts):
        if files or each.name in names:
            name = f"**{each.name}**" if each.name in names else f"`{each.name}`"
            lives = each.mutants - each.killed
            yield (
                f"| {name} | {each.mutants} | {each.killed} | {lives} | {each.share:.1%} | {each.share_of_real:.1%} |"
            )
    yield ""


def survived(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "## Survivors"
    yield ""
    yield from explained(verdicts)


def explained(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Those that survive for one reason stand together."""
    survived = sorted((each for each in verdicts if not each.killer), key=place)
    by_reason: dict[tuple[bool, str], list[Mutant]] = {}
    for each in survived:
        reason = known(each.mutant)
        why = (reason.equivalent, reason.reason) if reason else (False, "Not explained.")
        by_reason.setdefault(why, []).append(each.mutant)
    for sought, title in ((True, "Equivalent: nobody could see them"), (False, "Others")):
        yield f"### {title}"
        yield ""
        for (is_equivalent, text), found in by_reason.items():
            if is_equivalent is sought:
                yield f"- {text}"
                yield from (f"  - `{mutant.file}` ``{mutant.name}``" for mutant in found)
        yield ""


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets have the same order each time, so that a mutant which leaves it to them has the same verdict.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.mutation", *sys.argv[1:]])
    main(prog_name="python -m tests.mutation")
