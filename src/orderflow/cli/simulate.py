"""`orderflow simulate`: all services in worlds that seeds decide."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import click

from orderflow.cli.errors import CliError, ExitCode, counted
from orderflow.cli.output import Output, block
from orderflow.cli.session import json_option
from orderflow.cli.tables import bars
from orderflow.simulation.plan import WorldPlan, name_of, plan_of
from orderflow.simulation.run import SeedResult, run_plan, shrunk
from orderflow.simulation.survey import CHUNK, FRESH_SHARE, Sight, Steering, processors, survey

USUAL_SEEDS = 100
RANDOM_BELOW = 10**9
SHRUNK_MAX = 5
"""So many failing worlds are made smaller; of more only the names are told, since they mostly fail alike."""


def world(value: Any) -> WorldPlan:
    """A seed, or the name of a world: a seed and what is changed in its plan. Raises click.BadParameter."""
    try:
        return plan_of(str(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} does not name a world: {error}") from error


def range_of_seeds(value: Any) -> range:
    """`N`: so many; `A..B`: from A up to and without B. Raises click.BadParameter."""
    first, dots, end = str(value).rpartition("..")
    start = first if dots else "0"
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
        raise click.BadParameter(f"{value!r} is neither a number from 1 nor two numbers A..B with A below B")
    return range(int(start), int(end))


@click.command()
@click.option(
    "--seeds",
    type=range_of_seeds,
    metavar="N|A..B",
    help=f"How many worlds, or which.  [default: {USUAL_SEEDS}, or no bound]",
)
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="Keep going for this long, from a random start."
)
@click.option("--start", type=click.IntRange(0), help="The first seed.  [default: 0, with --minutes a random one]")
@click.option(
    "--steer/--no-steer",
    default=None,
    help="Prefer variations of worlds that showed something rare.  [default: with --minutes]",
)
@click.option("--jobs", type=click.IntRange(1), help="Processes in parallel.  [default: one per processor]")
@click.option(
    "--seed", "plan", type=world, metavar="SEED", help="Repeat one world: a seed, or the name that a failure printed."
)
@click.option("--trace", is_flag=True, help="With --seed: show every step.")
@click.option("--shrink/--no-shrink", default=True, help="Shrink a failing world before showing it.")
@json_option
def simulate(
    seeds: range | None,
    minutes: float | None,
    start: int | None,
    steer: bool | None,
    jobs: int | None,
    plan: WorldPlan | None,
    trace: bool,
    shrink: bool,
    as_json: bool,
) -> None:
    """Simulate all services in virtual time, in worlds drawn from seeds, with crashes, faults and operators.

    Invariants are checked at every step, and the five promises at the end of each world. Nothing is started or
    stored. A world that fails once fails every time: it is shrunk, and shown with the command that repeats it.
    Ctrl-C ends the run with the summary so far.

    \b
    orderflow simulate                            100 worlds
    orderflow simulate --seeds 10000              worlds 0 to 9999, the same ones every time
    orderflow simulate --minutes 480              a whole night, in new worlds
    orderflow simulate --seed 27 --trace          repeat one world, showing every step
    orderflow simulate --seeds 500 --json | jq '.failures[].replay'

    \b
    Exit codes: 0 all promises were kept; 1 some were not; 2 wrong usage; 130 interrupted.
    """
    out = Output(as_json=as_json)
    if plan is not None:
        if any(each is not None for each in (seeds, minutes, start, steer, jobs)):
            raise click.UsageError("--seed repeats one world: leave out --seeds, --minutes, --start, --steer, --jobs")
        _replay(plan, out, trace=trace, shrink=shrink)
        return
    if trace:
        raise click.UsageError("--trace shows one world: name it with --seed")
    if start is not None and seeds is not None and seeds.start:
        raise click.UsageError("--seeds A..B says where to begin: leave out --start, or write --seeds N")
    steered = minutes is not None if steer is None else steer
    survey = _Survey(out, _first(seeds, minutes, start), seeds, minutes, steered)
    survey.run(jobs, shrink)


def _first(seeds: range | None, minutes: float | None, start: int | None) -> int:
    """Two nights are not to look at the same worlds."""
    if start is not None:
        return start
    if minutes is None or (seeds is not None and seeds.start):
        return seeds.start if seeds is not None else 0
    return random.SystemRandom().randrange(RANDOM_BELOW)


def _replay(plan: WorldPlan, out: Output, *, trace: bool, shrink: bool) -> None:
    lived = run_plan(plan)
    shown = shrunk(lived) if shrink and lived.broken else lived
    if out.as_json:
        out.document(_document(lived, shown, trace=trace))
    else:
        if trace:
            out.show(block("\n".join(shown.trace.lines())))
        if shown is not lived:
            out.show(f"seed {name_of(plan)} fails; shrunk, and still failing:")
        out.show(block(shown.explain() if shown.broken else _kept(shown)))
    if lived.broken:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _kept(run: SeedResult) -> str:
    counts = sorted(run.report.statuses.items())
    outcomes = ", ".join(f"{count} {status}" for status, count in counts) or "no orders"
    return "\n".join(
        (
            f"seed {name_of(run.plan)}: all promises were kept, {outcomes}",
            f"the world: {run.plan.describe()}",
            f"{len(run.trace)} steps in {run.virtual_s:.1f} virtual s, digest {run.trace.digest()}",
        )
    )


def _document(lived: SeedResult, shown: SeedResult, *, trace: bool) -> dict[str, Any]:
    document = {
        "seed": name_of(lived.plan),
        "kept": not lived.broken,
        "broken": lived.broken,
        "world": lived.plan.describe(),
        "statuses": lived.report.statuses,
        "steps": len(lived.trace),
        "virtual_s": lived.virtual_s,
        "digest": lived.trace.digest(),
        "replay": lived.replay,
        "smallest": shown.replay,
    }
    return document | ({"trace": shown.trace.lines()} if trace else {})


@dataclass
class _Survey:
    """Many worlds: what is known of them so far."""

    out: Output
    start: int
    seeds: range | None
    minutes: float | None
    steered: bool
    worlds: int = 0
    named: int = 0
    orders: int = 0
    events: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False
    steering: Steering = field(init=False)
    began: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.steering = Steering(self.start, FRESH_SHARE if self.steered else 1.0)

    def run(self, jobs: int | None, shrink: bool) -> None:
        """Look, tell, and end with the exit code."""
        try:
            with bars(8, hidden=self.out.as_json) as show:
                for sight in survey(self._more, jobs or processors()):
                    self._take(sight, shrink)
                    show(*self._progress())
        except KeyboardInterrupt:
            self.interrupted = True
        except BrokenProcessPool as error:
            raise CliError(
                f"A worker process died after {counted(self.worlds, 'world')}: killed, or out of memory. Run "
                "fewer in parallel: --jobs 1"
            ) from error
        self.out.answer(self._document(), self._summary())
        if self.interrupted:
            raise click.exceptions.Exit(ExitCode.INTERRUPTED)
        if self.failures:
            raise click.exceptions.Exit(ExitCode.FAILED)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def _count(self) -> float:
        return len(self.seeds) if self.seeds is not None else USUAL_SEEDS if self.minutes is None else float("inf")

    def _more(self) -> Sequence[WorldPlan]:
        if self.minutes is not None and self.seconds >= 60 * self.minutes:
            return ()
        count = int(min(CHUNK, self._count - self.named))
        self.named += count
        return [self.steering.next() for _ in range(count)]

    def _take(self, sight: Sight, shrink: bool) -> None:
        self.worlds += 1
        self.orders += sight.orders
        self.events += sight.events
        self.steps += sight.steps
        self.virtual_s += sight.virtual_s
        self.steering.learn(sight.plan, sight.coverage)
        if sight.broken:
            self._fail(sight, shrink)

    def _fail(self, sight: Sight, shrink: bool) -> None:
        replay = f"orderflow simulate --seed {sight.name}"
        failure = {"seed": sight.name, "broken": sight.broken, "world": sight.plan.describe(), "replay": replay}
        self.failures.append(failure)
        if len(self.failures) > SHRUNK_MAX:
            return
        told = f"{sight.explained}\n"
        if shrink:
            smallest = shrunk(run_plan(sight.plan))
            failure["smallest"] = smallest.replay
            told = f"seed {sight.name} fails; shrunk, and still failing:\n{smallest.explain()}\n"
        if not self.out.as_json:
            self.out.show(block(told))

    def _progress(self) -> tuple[str, int, int, str]:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        told = f"{self.worlds / self.seconds:.0f}/s, {len(self.steering.counts)} kinds of happenings{failed}"
        if self.minutes is None or self.seeds is not None:
            return "worlds", self.worlds, int(self._count), told
        return "seconds", int(self.seconds), int(60 * self.minutes), f"{self.worlds} worlds, {told}"

    def _summary(self) -> Iterator[Any]:
        once = sum(count == 1 for count in self.steering.counts.values())
        how = ", steered" if self.steered else ""
        yield (
            f"{counted(self.worlds, 'world')} from seed {self.start}{how} in {self.seconds:.1f} s "
            f"({self.worlds / max(self.seconds, 1e-9):.1f} a second): {counted(self.orders, 'order')}, "
            f"{counted(self.events, 'event')}, {counted(self.steps, 'step')} "
            f"in {self.virtual_s / 3600:.1f} virtual hours."
        )
        yield (
            f"{counted(len(self.steering.counts), 'kind')} of happenings (event, state, fault, step), "
            f"{once} of them in one world only."
        )
        if not self.failures:
            yield "All promises were kept." if self.worlds else "No world was run."
            return
        yield block(f"{counted(len(self.failures), 'world')} failed:")
        for failure in self.failures:
            yield block(f"  {failure.get('smallest', failure['replay'])}")

    def _document(self) -> dict[str, Any]:
        return {
            "kept": not self.failures,
            "interrupted": self.interrupted,
            "start": self.start,
            "steered": self.steered,
            "worlds": self.worlds,
            "seconds": self.seconds,
            "orders": self.orders,
            "events": self.events,
            "steps": self.steps,
            "virtual_s": self.virtual_s,
            "coverage": len(self.steering.counts),
            "failures": self.failures,
        }
