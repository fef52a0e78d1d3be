"""server.properties of a broker that is a controller too (KRaft): of one that is alone, or of one of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orderflow.messaging.transport import MAX_RECORD_BYTES

NODE_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A broker's place among several, all on 127.0.0.1.

    `controllers` are the controllers' ports by node, `cluster` is the id that all of them are formatted with. `gate`:
    another port to listen on, and the one that clients who come there are told to use, for a proxy between the two.
    """

    node: int
    controllers: Mapping[int, int]
    cluster: str
    gate: tuple[int, int]


def server_properties(data: Path, port: int, controller_port: int, place: Place | None = None) -> str:
    """A lone broker acknowledges from the page cache, so this one flushes each append before it does."""
    settings = {**_of_one(data, port, controller_port), **(_of_several(port, place) if place else {})}
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _of_several(port: int, place: Place) -> dict[str, str | int]:
    listens, told = place.gate
    copies = min(3, len(place.controllers))
    return {
        "node.id": place.node,
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, at in place.controllers.items()),
        "listeners": (
            f"PLAINTEXT://127.0.0.1:{port},GATE://127.0.0.1:{listens},"
            f"CONTROLLER://127.0.0.1:{place.controllers[place.node]}"
        ),
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},GATE://127.0.0.1:{told}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,GATE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "default.replication.factor": copies,
        "min.insync.replicas": max(1, copies - 1),
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": max(1, copies - 1),
    }


def _of_one(data: Path, port: int, controller_port: int) -> dict[str, str | int]:
    return {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data.as_posix(),
        "log.flush.interval.messages": 1,
        # The defaults are for a machine of its own: threads that stand ready wake up for nothing.
        "num.network.threads": 1,
        "num.io.threads": 4,
        "message.max.bytes": MAX_RECORD_BYTES,
        "replica.fetch.max.bytes": MAX_RECORD_BYTES,
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 10,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # How long a broker that was killed keeps its successor waiting.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        # At rest it writes an empty record so often, to say that it is alive.
        "metadata.max.idle.interval.ms": 5000,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
