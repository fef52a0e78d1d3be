"""Waiting in tests: with a deadline, never for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")

SLACK = 4
"""A deadline only tells what hangs from what is slow: a machine whose cores others keep busy gets so much longer."""


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, timeout_s: float = 30.0, every_s: float = 0.01) -> T: ...


@overload
async def eventually(check: Callable[[], T], *, timeout_s: float = 30.0, every_s: float = 0.01) -> T: ...


async def eventually(check: Callable[[], Any], *, timeout_s: float = 30.0, every_s: float = 0.01) -> Any:
    """Call `check` until it returns something true and raises no AssertionError; return what it returned.

    Raises AssertionError when that has not happened within SLACK * `timeout_s`. Any other error is raised at once.
    """
    timeout_s *= SLACK
    deadline = time.monotonic() + timeout_s
    while True:
        last: object
        try:
            result = check()
            value = await result if inspect.isawaitable(result) else result
        except AssertionError as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s} s: {inspect.getsource(check).strip()!r}, last: {last!r}")
        await asyncio.sleep(every_s)


async def interrupted(work: Coroutine[Any, Any, object]) -> None:
    """Let this come as far as it comes in one turn of the event loop, cancel it, and wait until it has ended."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
