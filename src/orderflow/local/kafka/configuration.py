"""server.properties of a lone broker that is its own controller (KRaft)."""

from __future__ import annotations

from pathlib import Path

from orderflow.messaging.transport import MAX_RECORD_BYTES

NODE_ID = 1


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """A lone broker acknowledges from the page cache, so this one flushes each append before it does."""
    settings = {
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
    return "".join(f"{name}={value}\n" for name, value in settings.items())
