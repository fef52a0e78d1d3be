"""Runs each piece of work in a fork of this process, and bounds what it may use."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

TICK_S = 1.0
STILL_TICKS = 20
"""So many looks in a row a fork used no processor and was not waiting for one either: it waits for ever."""

MEMORY_BYTES = 2 * 1024**3

ENDLESS = "does not end"
STANDS_STILL = "waits for ever"
BROKEN = "\x00"


class BrokenForkError(Exception):
    """The work itself could not be carried out: that says nothing of a mutant."""


@dataclass(frozen=True, slots=True)
class Work:
    """`run` is called in the fork, and returns what is to be told of it. It may use `cpu_s` of the processor."""

    name: int
    run: Callable[[], str]
    cpu_s: float


@dataclass(slots=True)
class _Fork:
    name: int
    pid: int
    told: int
    text: bytes = b""
    used_s: float = 0.0
    still: int = 0
    verdict: str = field(default="")


def forked(works: Iterator[Work], jobs: int) -> Iterator[tuple[int, str]]:
    """(name, what was told) of each work, as they end, no more than `jobs` side by side.

    Of one that did not come to its end this says why: a mutant that loops, waits or dies is seen by its test as well.
    Raises BrokenForkError.
    """
    running: dict[int, _Fork] = {}
    for work in works:
        fork = _start(work)
        running[fork.told] = fork
        while len(running) >= jobs:
            yield from _ended(running)
    while running:
        yield from _ended(running)


def _start(work: Work) -> _Fork:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return _Fork(work.name, pid, reading)
    try:
        os.setsid()
        _bound(work.cpu_s)
        os.write(writing, work.run().encode()[:4_000])
    except BaseException as error:  # noqa: BLE001  # whatever comes out of it, nothing of the parent may go on here
        os.write(writing, f"{BROKEN}{type(error).__name__}: {error}".encode()[:4_000])
    finally:
        os._exit(0)


def _bound(cpu_s: float) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the fork ends
    resource.setrlimit(resource.RLIMIT_CPU, (round(cpu_s) + 1, round(cpu_s) + 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = psutil.Process().memory_info().vms + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


def _ended(running: dict[int, _Fork]) -> Iterator[tuple[int, str]]:
    """Wait for one at least to say something, or for a tick."""
    ready, _, _ = select.select(list(running), [], [], TICK_S)
    for told in ready:
        fork = running[told]
        text = os.read(told, 4_096)
        fork.text += text
        if not text:
            del running[told]
            os.close(told)
            yield fork.name, _verdict(fork)
    if not ready:
        for fork in running.values():
            _look(fork)


def _verdict(fork: _Fork) -> str:
    _kill(fork)
    _, status, _ = os.wait4(fork.pid, 0)
    if os.WIFSIGNALED(status) and not fork.verdict and not fork.text:
        number = os.WTERMSIG(status)
        return ENDLESS if number == signal.SIGXCPU else f"dies of {signal.Signals(number).name}"
    text = fork.text.decode("utf-8", "replace")
    if text.startswith(BROKEN):
        raise BrokenForkError(text.removeprefix(BROKEN))
    return fork.verdict or text


def _look(fork: _Fork) -> None:
    try:
        process = psutil.Process(fork.pid)
        times = process.cpu_times()
        is_idle = process.status() == psutil.STATUS_SLEEPING and not process.children()
    except psutil.NoSuchProcess:
        return
    used_s = times.user + times.system
    fork.still = fork.still + 1 if is_idle and used_s - fork.used_s < 0.02 else 0
    fork.used_s = used_s
    if fork.still >= STILL_TICKS:
        fork.verdict = STANDS_STILL
        _kill(fork)


def _kill(fork: _Fork) -> None:
    """With all that it has started: it leads a group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(fork.pid, signal.SIGKILL)
