"""CPU time by part of the running system, so that a figure shows what it cost."""

from __future__ import annotations

from collections import Counter

import psutil

SERVICES = ("order", "payment", "inventory", "notification")


def cpu_seconds(root: int) -> Counter[str]:
    """User + system CPU seconds so far of a process tree, by part: a service's name, `postgres`, `kafka`, `up`."""
    spent: Counter[str] = Counter()
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        try:
            times = process.cpu_times()
            spent[_part(process)] += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue
    return spent


def resident_mb(root: int) -> Counter[str]:
    """Resident memory in MiB by part. Shared pages are counted in each PostgreSQL process that has them."""
    memory: Counter[str] = Counter()
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        try:
            memory[_part(process)] += process.memory_info().rss // 2**20
        except psutil.NoSuchProcess:
            continue
    return memory


def _part(process: psutil.Process) -> str:
    line: list[str] = process.cmdline()
    if "run" in line:
        name = line[line.index("run") + 1 : line.index("run") + 2]
        if name and name[0] in SERVICES:
            return name[0]
    if process.name().startswith("postgres"):
        return "postgres"
    if process.name().startswith("java"):
        return "kafka"
    return "up"
