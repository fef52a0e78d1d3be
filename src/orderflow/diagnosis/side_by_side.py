"""Many are asked at once, each in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def side_by_side(ask: Callable[[T], U], whom: Sequence[T]) -> list[U]:
    """`ask` of each, all at once. Raises what one of them raises. (A pool of threads would take long to load.)"""
    found: dict[int, U] = {}
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            found[number] = ask(whom[number])
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where it is waited for)
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(whom))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [found[number] for number in range(len(whom))]
