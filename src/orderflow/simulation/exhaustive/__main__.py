"""Goes through all states of one or two orders: `python -m orderflow.simulation.exhaustive`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from inspect import cleandoc

import click
import msgspec

from orderflow.simulation.exhaustive.search import Counterexample, Search, SearchResult
from orderflow.simulation.exhaustive.setting import RUNS, Bounds, Run, setting_of
from orderflow.simulation.exhaustive.space import Space
from orderflow.simulation.process import Code

WIDTH = 100


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH})
@click.argument("names", nargs=-1, metavar="[RUN]…", type=click.Choice(list(RUNS)))
@click.option("--orders", type=click.IntRange(1, 2), help="Only the runs with so many orders.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a run, on a line of its own.")
def main(names: Sequence[str], orders: int | None, as_json: bool) -> None:
    """Take the decisions of all four services through every interleaving of one or two orders.

    Every state that can be reached is judged: deliver, deliver again, crash, time-out, failing handlers and operators
    at work, in every order that there is. What the bank answers, and whether the stock is enough, goes every way too.
    A broken promise is shown by the shortest way to it.

    \b
    Examples:
      python -m orderflow.simulation.exhaustive                every run (minutes)
      python -m orderflow.simulation.exhaustive operators      one run
      python -m orderflow.simulation.exhaustive --orders 2     the runs with two orders
      python -m orderflow.simulation.exhaustive --json         for programs

    \b
    Runs:
    {runs}

    Exit code: 0 all promises were kept in every state, 1 some were not, 2 wrong usage.
    """
    chosen = {
        name: run for name, run in RUNS.items() if (not names or name in names) and orders in (None, run.orders)
    }
    if not chosen:
        raise click.UsageError(f"none of {', '.join(names)} has {orders} orders")
    kept = True
    for name, run in chosen.items():
        found = explore(run)
        kept = kept and found.counterexample is None and found.whole
        if as_json:
            click.echo(msgspec.json.encode({"run": name, "bounds": run.bounds._asdict(), "found": found}))
        else:
            click.echo("\n".join(told(name, run, found)))
    sys.exit(0 if kept else 1)


assert main.help is not None
main.help = cleandoc(main.help).replace("{runs}", "\n".join(f"  {name:10} {run.about}" for name, run in RUNS.items()))


def explore(run: Run, code: Code | None = None) -> SearchResult:
    """Search to the end; on a terminal, say how far it is."""
    shown = sys.stderr.isatty()

    def progress(judged: int, known: int) -> None:
        if shown:
            click.echo(f"\r{judged:,} states judged of {known:,} found so far ", err=True, nl=False)

    found = Search(Space(setting_of(run), code or Code()), progress).run()
    if shown:
        click.echo("\r" + " " * 60 + "\r", err=True, nl=False)
    return found


def told(name: str, run: Run, found: SearchResult) -> Iterator[str]:
    """What was seen, in sentences."""
    orders = "one order" if run.orders == 1 else "two orders"
    yield f"{name}: {orders}, {run.about}"
    yield f"  at most, in one history: {bounds_of(run.bounds)}; all else as often as it can happen"
    yield f"  {found.states:,} states, up to {found.depth} steps away; {found.transitions:,} transitions"
    yield f"  {found.delivered_again:,} deliveries of what had come before, which changed nothing"
    yield f"  {found.at_rest:,} states at rest, in {found.ended:,} of them every order is at its end"
    yield f"  {found.stored:,} things that a service can have stored; {found.seconds:.1f} s"
    if found.counterexample is not None:
        yield from explained(found.counterexample)
    elif found.whole:
        yield "  every promise is kept in every state, and from each of them there is a way to the end"
    else:
        yield f"  given up at {found.states:,} states: not all were seen"


def bounds_of(bounds: Bounds) -> str:
    """In words; what cannot happen at all is left out."""
    words = {
        "failures": "failing handlers",
        "time_outs": "time-outs of the bank",
        "counts": "counts of the stock",
        "settles": "settled payments",
        "asks": "refunds asked again",
        "mistakes": "wrong settlements",
        "discards": "discarded events",
        "overtakes": "events that overtake",
    }
    return ", ".join(f"{count} {words[name]}" for name, count in bounds._asdict().items() if count) or "no fault"


def explained(counterexample: Counterexample) -> Iterator[str]:
    """The steps, numbered, and what is broken at their end."""
    yield "  A PROMISE IS BROKEN, and this is the shortest way to it:"
    for number, step in enumerate(counterexample.steps, 1):
        yield f"  {number:3}. {step}"
    for sentence in counterexample.broken:
        yield f"       {sentence}"


if __name__ == "__main__":
    main(prog_name="python -m orderflow.simulation.exhaustive")
