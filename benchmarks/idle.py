"""What a system costs that does nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.cpu import cpu_seconds, resident_mb
from benchmarks.system import System


@dataclass(frozen=True, slots=True)
class Idle:
    """`cpu_share` of one core, `services_mb` resident memory of the four services together, in MiB."""

    cpu_share: float
    services_mb: int


async def run_idle(system: System, seconds: float) -> Idle:
    """Watch a system at rest."""
    before, started = cpu_seconds(system.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    spent = cpu_seconds(system.pid) - before
    memory = resident_mb(system.pid)
    return Idle(
        cpu_share=sum(spent.values()) / (time.perf_counter() - started),
        services_mb=sum(memory[name] for name in system.ports),
    )
