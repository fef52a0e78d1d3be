"""`up --kafka --secure` on the real broker: the saga goes its way, and nobody says what is not theirs to say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from orderflow.core.dead_letters import FLOW_STATUS
from orderflow.core.transport import TransportUnavailableError
from orderflow.local.services import definitions
from orderflow.runtime.wiring import connect_transport, kafka_security
from orderflow.settings import Secret, Settings
from tests.e2e.audit import assert_promises
from tests.e2e.shop import Shop, shopping
from tests.e2e.system import System, running
from tests.e2e.test_secrets import passwords, showing

TOPICS = ("order-events", "payment-status", "inventory-status", FLOW_STATUS)
WRITES = {name: {*each.publishes, FLOW_STATUS} for name, each in definitions().items()}
READS = {name: {topic for s in each.subscriptions for topic in s.topics} for name, each in definitions().items()}


@pytest.fixture(scope="module")
def secured(kafka_jars: Path) -> Any:
    system = System(kafka_jars, ["--secure"])
    yield from running(system)


@pytest.fixture
async def customers(secured: System) -> AsyncIterator[Shop]:
    async with shopping(secured) as shop:
        yield shop


def client(settings: Settings, service: str, **other: Any) -> dict[str, Any]:
    """As whoever has got hold of a service's password would have it."""
    known = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0}
    return {**known, **kafka_security(settings, service).options(), **other}


def written(settings: Settings, service: str, topic: str, key: str = "k", value: bytes = b"{}") -> KafkaError | None:
    """What the broker says of a record; None when it has taken it."""
    said: list[KafkaError | None] = []
    producer = Producer(client(settings, service))
    producer.produce(topic, value, key, on_delivery=lambda error, _: said.append(error))
    assert producer.flush(30) == 0
    return said[0]


def read(settings: Settings, service: str, topic: str) -> KafkaError | None:
    consumer = Consumer(client(settings, service, **{"group.id": "orderflow-reader", "enable.partition.eof": True}))
    try:
        # Of a topic that it may neither read nor write it does not even hear that it is there.
        unknown: KafkaError | None = consumer.list_topics(topic, timeout=30).topics[topic].error
        if unknown is not None:
            return unknown
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = consumer.poll(30)
            assert message is not None, f"{service} hears nothing of {topic}"
            error = message.error()
            return None if error is None or error.code() == KafkaError._PARTITION_EOF else error
    finally:
        consumer.close()


async def test_the_saga_completes_and_no_process_shows_a_password(secured: System, customers: Shop) -> None:
    await customers.stock("TEA", 10)
    completed = await customers.end_of(await customers.place("TEA", quantity=2))
    refunded = await customers.end_of(await customers.place("TEA", quantity=20))

    assert (completed["status"], refunded["status"], refunded["refund"]) == ("COMPLETED", "FAILED", "done")
    await assert_promises(customers)
    assert any("kafka" in name for name in secured.names("kafka"))
    assert showing(secured.everything(), passwords(secured)) == []
    assert "passwords and rights" in secured.command("status").stdout + secured.said()
    told = secured.command("topic", "tail", "payment-status", "--key", completed["id"], "--json")
    assert [json.loads(line)["attributes"]["type"] for line in told.stdout.splitlines()] == [
        "orderflow.PaymentSucceeded.v1"
    ], told.stderr


async def test_a_forged_payment_by_anothers_password_is_refused(secured: System, customers: Shop) -> None:
    await customers.stock("GOLD", 10)
    order_id = await customers.place("GOLD", method="pm_slow")
    forged = b'{"amount": 590, "currency": "EUR"}'

    for service in ("order", "inventory", "notification"):
        error = written(secured.settings(), service, "payment-status", order_id, forged)
        assert error is not None
        assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    order = await customers.end_of(order_id)
    assert order["status"] == "COMPLETED"
    await assert_promises(customers)


@pytest.mark.parametrize("service", sorted(WRITES))
async def test_each_writes_what_it_says_and_reads_what_it_hears(secured: System, service: str) -> None:
    settings = secured.settings()

    forbidden = {topic for topic in TOPICS if written_by_nobody_is_refused(settings, service, topic)}
    assert forbidden == set(TOPICS) - WRITES[service]
    unread = {topic for topic in TOPICS if read(settings, service, topic) is not None}
    assert unread == set(TOPICS) - READS[service]
    assert written(settings, service, "orderflow-installation") is not None


def written_by_nobody_is_refused(settings: Settings, service: str, topic: str) -> bool:
    """A record that its readers pass over, where the broker takes it: it is of a type that nobody knows."""
    if topic in WRITES[service]:
        return False
    error = written(settings, service, topic)
    return error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


async def test_a_wrong_password_and_an_unknown_authority_are_one_sentence(secured: System) -> None:
    settings = secured.settings()
    wrong = settings.replaced(payment_kafka_password=Secret("geheim"))
    foreign = settings.replaced(kafka_ssl_ca_file=None)
    another = settings.replaced(kafka_sasl_mechanism="PLAIN")
    for given, sentence in (
        (wrong, "accept this name with this password (see kafka_username and kafka_password)"),
        (foreign, "shows a certificate of no authority that we trust, or of another host: look at kafka_ssl_ca_file"),
        (another, "does not offer PLAIN, but SCRAM-SHA-512: look at kafka_sasl_mechanism"),
    ):
        transport = await connect_transport(given, service="payment")
        try:
            with pytest.raises(TransportUnavailableError) as caught:
                await transport.ping()
        finally:
            await transport.close()
        assert str(caught.value).startswith("Kafka ")
        assert str(caught.value).endswith(sentence)


async def test_who_has_no_password_and_no_certificate_gets_nothing(secured: System) -> None:
    settings = secured.settings()
    owner = next(
        line.partition("OWNER://")[2].partition(",")[0]
        for line in (secured.home.path / "kafka" / "server.properties").read_text().splitlines()
        if line.startswith("listeners=")
    )
    ca = {"security.protocol": "ssl", "ssl.ca.location": str(settings.kafka_ssl_ca_file)}
    for place, how in ((settings.kafka_bootstrap, {}), (settings.kafka_bootstrap, ca), (owner, {}), (owner, ca)):
        stranger = AdminClient({"bootstrap.servers": place, "log_level": 0, **how})
        with pytest.raises(KafkaException):
            stranger.list_topics(timeout=5)
