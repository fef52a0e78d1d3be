"""Run seeds from the command line: `python -m orderflow.simulation --seeds 0..500`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import click

from orderflow.simulation.run import run
from orderflow.simulation.shrink import shrunk

PROGRESS_EVERY_S = 0.2


class SeedRange(click.ParamType[range]):
    """`A..B`: from A up to and without B."""

    name = "A..B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> range:
        first, _, end = str(value).partition("..")
        if not (first.isdigit() and end.isdigit() and int(first) < int(end)):
            self.fail(f"{value!r} is not two numbers A..B with A below B", param, ctx)
        return range(int(first), int(end))


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--seed", type=click.IntRange(min=0), help="Replay one seed and show how it went.")
@click.option("--seeds", type=SeedRange(), help="Run many seeds; stop at none, say which fail.")
@click.option("--trace", is_flag=True, help="With --seed: show every step.")
@click.option("--shrink", is_flag=True, help="With --seed: if it fails, show the smallest world that still does.")
def main(seed: int | None, seeds: range | None, trace: bool, shrink: bool) -> None:
    """Run the production code of all services in worlds that seeds decide, and check the five promises.

    \b
    Examples:
      python -m orderflow.simulation --seeds 0..500     many worlds; each failing one is explained
      python -m orderflow.simulation --seed 27          one world again, exactly as it was
      python -m orderflow.simulation --seed 27 --trace  the same, with every step
      python -m orderflow.simulation --seed 27 --shrink the smallest world in which it still fails

    Exit code: 0 all promises were kept, 1 some were not, 2 wrong usage.
    """
    if (seed is None) == (seeds is None):
        raise click.UsageError("wanted is either --seed N or --seeds A..B")
    if (trace or shrink) and seed is None:
        raise click.UsageError("--trace and --shrink show one seed: give it with --seed")
    kept = replay(seed, trace, shrink) if seed is not None else run_many(seeds or range(0))
    sys.exit(0 if kept else 1)


def replay(seed: int, trace: bool, shrink: bool) -> bool:
    """Show one seed; returns whether all promises were kept."""
    result = run(seed)
    if shrink and result.broken:
        result = shrunk(result)
    if trace:
        click.echo("\n".join(result.trace.lines()))
    if result.broken:
        click.echo(result.explain())
        return False
    click.echo(f"seed {seed}: all promises were kept, {_outcomes(result.report.statuses)}")
    click.echo(f"the world: {result.plan.describe()}")
    click.echo(f"{len(result.trace)} steps in {result.virtual_s:.1f} virtual s, digest {result.trace.digest()}")
    return True


def run_many(seeds: range) -> bool:
    """Run all of them; returns whether all promises were kept in all."""
    started = time.perf_counter()
    failing: list[int] = []
    orders = virtual_s = 0.0
    for seed in _with_progress(seeds, failing):
        result = run(seed)
        orders += result.report.orders
        virtual_s += result.virtual_s
        if result.broken:
            failing.append(seed)
            click.echo(f"\r{result.explain()}\n")
    took = time.perf_counter() - started
    told = f"{len(seeds)} seeds, {orders:.0f} orders, {virtual_s / 3600:.1f} virtual hours in {took:.1f} s"
    kept = "all promises were kept" if not failing else f"{len(failing)} failed: {' '.join(map(str, failing))}"
    click.echo(f"{told}: {kept}")
    return not failing


def _with_progress(seeds: Iterable[int], failing: list[int]) -> Iterator[int]:
    """On a terminal, say where we are a few times a second."""
    shown = sys.stderr.isatty()
    told_at = 0.0
    for seed in seeds:
        if shown and time.perf_counter() - told_at > PROGRESS_EVERY_S:
            told_at = time.perf_counter()
            click.echo(f"\rseed {seed}, {len(failing)} failed ", err=True, nl=False)
        yield seed
    if shown:
        click.echo("\r" + " " * 40 + "\r", err=True, nl=False)


def _outcomes(statuses: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "no orders"


if __name__ == "__main__":
    main(prog_name="python -m orderflow.simulation")
