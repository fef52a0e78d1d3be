from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from orderflow.core.kafka.client import ClientThread
from orderflow.core.transport import TransportUnavailableError

LONG_S = 30.0


class Client:
    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.disposed = False

    def dispose(self) -> None:
        self.disposed = True


def same(client: Client) -> Client:
    return client


def raising(error: Exception) -> Callable[[Client], None]:
    def call(_: Client) -> None:
        raise error

    return call


def thread_of(keeps: bool = False) -> ClientThread[Client]:
    return ClientThread("test", Client, Client.dispose, keeps=keeps)


async def test_a_client_lives_on_a_thread_of_its_own_until_it_is_closed() -> None:
    clients = thread_of()
    client = await clients.run(same, LONG_S)
    assert await clients.run(same, LONG_S) is client
    assert client.thread != threading.get_ident()
    await clients.close()
    await clients.close()
    assert client.disposed


async def test_after_an_error_there_is_a_new_client() -> None:
    clients = thread_of()
    client = await clients.run(same, LONG_S)
    with pytest.raises(ValueError, match="broken"):
        await clients.run(raising(ValueError("broken")), LONG_S)
    assert client.disposed
    assert await clients.run(same, LONG_S) is not client
    await clients.close()


async def test_a_client_that_is_kept_outlives_an_error() -> None:
    clients = thread_of(keeps=True)
    client = await clients.run(same, LONG_S)
    with pytest.raises(ValueError, match="broken"):
        await clients.run(raising(ValueError("broken")), LONG_S)
    assert await clients.run(same, LONG_S) is client
    await clients.close()


async def test_a_call_that_does_not_return_is_given_up_with_its_client() -> None:
    clients = thread_of()
    client = await clients.run(same, LONG_S)
    let_go, went = threading.Event(), threading.Event()

    def hang(_: Client) -> None:
        let_go.wait()
        went.set()

    with pytest.raises(TransportUnavailableError, match="took longer"):
        await clients.run(hang, 0.01)
    other = await clients.run(same, LONG_S)
    assert other is not client
    assert other.thread != client.thread

    let_go.set()
    assert await asyncio.to_thread(went.wait, LONG_S)
    assert await clients.run(same, LONG_S) is other
    assert not other.disposed
    await clients.close()


async def test_calls_are_carried_out_one_at_a_time_in_the_order_of_the_callers() -> None:
    clients = thread_of()
    order: list[int] = []
    await asyncio.gather(*(clients.run(lambda _, n=n: order.append(n), LONG_S) for n in range(10)))  # type: ignore[misc]
    assert order == list(range(10))
    await clients.close()
