"""One run: a system of its own, load, faults, and the verdict."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orderflow.chaos import plan
from orderflow.chaos.client import Client, History
from orderflow.chaos.judge import Judge, Observer, RunVerdict, Samples, Slice
from orderflow.chaos.nemesis import InjectedFault, Nemesis
from orderflow.chaos.plan import Planned
from orderflow.chaos.system import System

SLICES = 240
DISK_MB_FIRST, KB_AN_ORDER = 1_500, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """`seconds` of load at `rate` orders a second. `kinds` of faults are those of `plan.KINDS`."""

    seconds: float
    rate: float
    seed: int
    kafka: bool
    brokers: int
    kinds: Sequence[str]


@dataclass(slots=True)
class ChaosResult:
    """All that there is to report. Seconds are counted from the beginning of the load."""

    wish: ChaosOptions
    planned: Sequence[Planned]
    happened: Sequence[InjectedFault]
    verdict: RunVerdict
    slices: Sequence[Slice]
    slice_s: float
    seconds: float
    requests: Mapping[str, int]
    topics: Observer
    poisoned: int
    not_sent: int
    without: Mapping[str, str] = field(default_factory=dict)


async def run(wish: ChaosOptions, folder: Path, history_file: Path, notify: Callable[[str], None]) -> ChaosResult:
    """Everything lies in `folder`, which must be empty. Raises LocalError: the system does not start here."""
    _end_in_order(asyncio.current_task())
    orders = wish.rate * wish.seconds
    disk_mb = int(DISK_MB_FIRST + orders * KB_AN_ORDER / 1024)
    system = System(folder, kafka=wish.kafka, brokers=wish.brokers, disk_mb=disk_mb)
    try:
        notify("starting the system")
        await system.start()
        outcome = await _strike(system, wish, history_file, notify)
    finally:
        notify("stopping the system")
        await system.stop()
    if not outcome.verdict.passed:
        await asyncio.to_thread(system.keep_data)
    return outcome


def _end_in_order(run: asyncio.Task[Any] | None) -> None:
    """A run that is asked to end leaves nothing behind."""
    if run is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, run.cancel)


async def _strike(
    system: System, wish: ChaosOptions, history_file: Path, notify: Callable[[str], None]
) -> ChaosResult:
    began = time.monotonic()

    def now() -> float:
        return time.monotonic() - began

    history, observer = History(history_file, now), Observer()
    samples = Samples(now, max(1.0, wish.seconds / SLICES))
    port = system.links[plan.CLIENT_LINK].port
    client = Client(port, history, wish.seed, accepted=samples.accepted, ended=samples.ended)
    faults = plan.plan(wish.seed, wish.seconds, wish.kinds, kafka=wish.kafka, brokers=wish.brokers)
    nemesis = Nemesis(system, client, observer, wish.seed, now, lambda text: notify(f"{now():7.1f} s  {text}"))
    watching = asyncio.create_task(samples.watch(system, observer))
    try:
        await _load_and_faults(client, nemesis, wish, faults)
        seconds = now()
        verdict = await Judge(system, client, history, observer, notify).judge()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        client.close()
        history.close()
    return ChaosResult(
        wish=wish,
        planned=faults,
        happened=nemesis.happened,
        verdict=verdict,
        slices=samples.slices,
        slice_s=samples.seconds,
        seconds=seconds,
        requests=history.counts,
        topics=observer,
        poisoned=nemesis.poisoned,
        not_sent=client.not_sent,
        without=system.without,
    )


async def _load_and_faults(client: Client, nemesis: Nemesis, wish: ChaosOptions, faults: Sequence[Planned]) -> None:
    """Until both are over, and all is healed."""
    striking = asyncio.create_task(nemesis.run(faults))
    try:
        await client.run(wish.rate, wish.seconds)
        await striking
    finally:
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)
    nemesis.heal()
