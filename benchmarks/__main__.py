"""`python -m benchmarks`: what an order costs, of this release beside an older one and beside a floor, in one run.

Both releases run at the same time and are measured in turns, so that a machine that drifts favours neither; the
figures are medians over the rounds. The promises are checked at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median

from benchmarks.consume import measure_consume
from benchmarks.counting import SERVER, count
from benchmarks.floor import run_accept_floor, run_floor
from benchmarks.idle import run_idle
from benchmarks.latency import run_latency
from benchmarks.parked import SETTINGS, measure_parked
from benchmarks.peers import PEERS, measure_ourselves, measure_peer
from benchmarks.plot import KEPT, CannotDrawError, draw
from benchmarks.releases import NoReleaseError, older
from benchmarks.report import Figures, as_markdown
from benchmarks.saga import CONNECTIONS, run_saga
from benchmarks.system import HERE, Release, System, running, say
from tests.support.postgres import PostgresServer
from tests.support.saga import SERVICES, databases

BEFORE = "19e9eac"
"""The release that this one is compared with: the last one before the core was made anew."""
POISON_EVERY = 500
RATES = (50, 200)
COMMAND = ("order", "list")
EXAMPLES = f"""examples:
  python -m benchmarks                         this tree beside {BEFORE} and beside peers, on both logs (half an hour)
  python -m benchmarks --transport postgres    the log in PostgreSQL only
  python -m benchmarks --against v0.1.0        beside another commit; `none`: this tree alone
  python -m benchmarks --quick                 small sizes, this tree alone: that it runs, not how fast
  python -m benchmarks --json > docs/performance.json; python -m benchmarks --plot      the README's picture
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: orders and events, and seconds for what runs at a rate.

    `slice` are the orders of a slice with or without parked keys. Statements are counted for `counted_s`; 0: not.
    """

    warm_up: int
    orders: int
    slice: int
    rounds: int
    events: int
    rate_s: float
    idle_s: float
    counted_s: float
    peer_orders: int


FULL = Sizes(
    warm_up=10_000,
    orders=20_000,
    slice=8_000,
    rounds=3,
    events=50_000,
    rate_s=20,
    idle_s=10,
    counted_s=20,
    peer_orders=5_000,
)
QUICK = Sizes(
    warm_up=100, orders=300, slice=300, rounds=1, events=5000, rate_s=2, idle_s=2, counted_s=0, peer_orders=200
)


def main() -> int:
    given = _parser().parse_args()
    if given.plot is not None:
        return _plot(given.plot)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    against = given.against or ("none" if given.quick else BEFORE)
    wanted = given.peers or ("none" if given.quick else "all")
    sizes = QUICK if given.quick else FULL
    try:
        with nullcontext(None) if against == "none" else older(against) as before:
            releases = [before, HERE] if before else [HERE]
            transports = ("postgres", "kafka") if given.transport == "both" else (given.transport,)
            figures = [each for transport in transports for each in measure(transport, releases, sizes)]
    except NoReleaseError as error:
        say(str(error))
        return 2
    peers = [measure_peer(name, sizes.peer_orders, sizes.rate_s) for name in PEERS if wanted in ("all", name)]
    if peers:
        peers.insert(0, measure_ourselves(sizes.peer_orders, sizes.rate_s))
    if given.json:
        print(
            json.dumps({"figures": [each.as_dict() for each in figures], "peers": [asdict(each) for each in peers]})
        )
    else:
        print(as_markdown(figures, peers))
    return 0 if all(each.promises_kept for each in figures) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--transport", choices=("postgres", "kafka", "both"), default="both")
    parser.add_argument("--against", metavar="COMMIT", help=f"the older release, or `none` (default: {BEFORE})")
    parser.add_argument("--peers", choices=(*PEERS, "all", "none"), help="what else one might pick (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, without older release and peers")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    parser.add_argument(
        "--plot",
        nargs="?",
        const=KEPT,
        type=Path,
        metavar="FILE",
        help="measure nothing: draw the README's picture of figures that were kept (default: docs/performance.json)",
    )
    return parser


def _plot(kept: Path) -> int:
    try:
        for path in draw(kept):
            say(f"written: {path}")
    except CannotDrawError as error:
        say(str(error))
        return 2
    return 0


def measure(transport: str, releases: Sequence[Release], sizes: Sizes) -> list[Figures]:
    """Take every figure of each release on that log, and check the promises."""
    every = [Figures(release.name, transport) for release in releases]
    with ExitStack() as stack:
        say(f"starting {' and '.join(each.name for each in releases)} on {transport}")
        systems = [stack.enter_context(running(release, transport)) for release in releases]
        floor = PostgresServer(SERVER)
        stack.callback(floor.remove)
        floor.start()
        asyncio.run(_measure(systems, every, floor, sizes))
        for system, figures in zip(systems, every, strict=True):
            say(f"checking the promises of {figures.release}")
            figures.command_ms = median(_command_ms(system) for _ in range(sizes.rounds * 2 - 1))
            figures.promises_kept = _is_kept(system)
    for release, figures in zip(releases, every, strict=True):
        _read(release, figures)
        _measure_apart(release, transport, figures, sizes)
    say("1 % of keys parked, beside the same without")
    with running(HERE, transport, "--game-day", settings=SETTINGS) as system:
        every[-1].parked = asyncio.run(measure_parked(system, sizes.slice, sizes.rate_s, sizes.rounds))
    return every


async def _measure(systems: Sequence[System], every: Sequence[Figures], floor: PostgresServer, sizes: Sizes) -> None:
    for system, figures in zip(systems, every, strict=True):
        figures.ready_s = system.ready_after_s
        await run_saga(system, sizes.warm_up)
        say(f"{figures.release}: at rest")
        figures.idle = await run_idle(system, sizes.idle_s)
    for number in range(sizes.rounds):
        say(f"round {number + 1} of {sizes.rounds}")
        pairs = list(zip(systems, every, strict=True))
        for system, figures in pairs if number % 2 else reversed(pairs):
            for rate in RATES:
                say(f"{figures.release}: {rate} orders/s")
                figures.latencies.setdefault(rate, []).append(await run_latency(system, rate, sizes.rate_s))
            say(f"{figures.release}: floor, then the saga")
            await _measure_floor(floor, figures, sizes.orders)
            figures.sagas.append(await run_saga(system, sizes.orders))


async def _measure_floor(server: PostgresServer, figures: Figures, orders: int) -> None:
    with databases(server, *SERVICES) as made:
        await made.migrate()
        figures.floors.append(orders / await run_floor(made.urls, orders))
        figures.accept_floors.append(orders / await run_accept_floor(made.urls, orders, CONNECTIONS))


def _measure_apart(release: Release, transport: str, figures: Figures, sizes: Sizes) -> None:
    """What needs a server of its own."""
    if sizes.counted_s:
        counted = count(release, transport, (1, 50), seconds=sizes.counted_s, rest_s=sizes.counted_s)
        figures.at_rest, figures.alone, figures.at_50 = counted
    say(f"{release.name}: durable consume")
    figures.consume = measure_consume(release, transport, sizes.events)
    say(f"{release.name}: the same, with one event in {POISON_EVERY} refused")
    figures.consume_poison = measure_consume(release, transport, sizes.events, POISON_EVERY)["consume"]


def _read(release: Release, figures: Figures) -> None:
    """What somebody has to read of it."""
    figures.files, figures.lines, figures.entered = _source(release)


@cache
def _source(release: Release) -> tuple[int, int, dict[str, dict[str, int]]]:
    files = list((release.folder / "src").rglob("*.py"))
    lines = (line.strip() for file in files for line in file.read_text("utf-8").splitlines())
    entered: dict[str, dict[str, int]] = {}
    if (release.folder / "tests" / "support" / "ways.py").exists():
        say(f"{release.name}: the ways through the code")
        command = [str(release.python), "-m", "tests.support.ways", "--json"]
        entered = json.loads(subprocess.check_output(command, cwd=release.folder, text=True))
    return len(files), sum(bool(line) and not line.startswith("#") for line in lines), entered


def _command_ms(system: System) -> float:
    """CPU of one command that asks a service."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    system.orderflow(*COMMAND)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def _is_kept(system: System) -> bool:
    command = system.release.command("audit", "--home", str(system.home), "--json")
    audit = subprocess.run(command, capture_output=True, text=True, check=False)
    if audit.returncode:
        say(audit.stdout + audit.stderr)
    return audit.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
