"""Kafka by name and password, and by a provider's token, on a real broker: PLAIN, SCRAM-SHA-256 and OAUTHBEARER."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from orderflow.core.transport import ProducerRecord, TopicSettings, TransportUnavailableError
from orderflow.local.kafka import LocalKafka
from orderflow.local.processes import free_port
from orderflow.runtime.process import run_service
from orderflow.runtime.wiring import connect_transport
from orderflow.settings import Settings
from tests.support import callers
from tests.support.kafka import give_jars
from tests.support.sample.running import migrate, settings
from tests.support.sample.service import SERVICE
from tests.support.waiting import eventually

MODULE = "org.apache.kafka.common.security"
SECRET = "ge heim"


class Broker:
    """One with a listener for each mechanism, without TLS, beside its own."""

    def __init__(self, home: Path) -> None:
        self.server = LocalKafka(home, 0)
        self.port = free_port()

    def start(self, home: Path) -> None:
        self.server.prepare()
        file = home / "kafka" / "server.properties"
        own = f"PLAINTEXT://{self.server.bootstrap}"
        text = file.read_text().replace(f"listeners={own}", f"listeners={own},NAMED://127.0.0.1:{self.port}")
        text = text.replace("PLAINTEXT:PLAINTEXT,", "PLAINTEXT:PLAINTEXT,NAMED:SASL_PLAINTEXT,")
        logins = {
            "plain": f'{MODULE}.plain.PlainLoginModule required user_order="{SECRET}";',
            "scram-sha-256": f"{MODULE}.scram.ScramLoginModule required;",
            "oauthbearer": f"{MODULE}.oauthbearer.OAuthBearerLoginModule required;",
        }
        text += "inter.broker.listener.name=PLAINTEXT\n"
        text += "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER\n"
        for mechanism, login in logins.items():
            text += f"listener.name.named.{mechanism}.sasl.jaas.config={login}\n"
        file.write_text(text)
        self.server.spawn()
        self.server.wait_ready()
        admin = AdminClient({"bootstrap.servers": self.server.bootstrap})
        hashed = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        change = UserScramCredentialUpsertion("order", hashed, SECRET.encode())
        admin.alter_user_scram_credentials([change])["order"].result(30)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path) -> Iterator[Broker]:
    home = tmp_path_factory.mktemp("named")
    give_jars(kafka_jars, home)
    made = Broker(home)
    try:
        made.start(home)
        yield made
    finally:
        made.server.stop()


class Provider(BaseHTTPRequestHandler):
    """Gives whoever is `order` a token (RFC 6749, 4.4), unsigned, as the broker takes it here."""

    def do_POST(self) -> None:
        shown = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        is_known = shown.startswith("order:") and "wrong" not in shown
        answer = {"access_token": token(), "token_type": "Bearer", "expires_in": 300} if is_known else {"error": "x"}
        content = json.dumps(answer).encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def token() -> str:
    parts = ({"alg": "none"}, {"sub": "order", "iat": int(time.time()), "exp": int(time.time()) + 300})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "OAUTHBEARER"])
async def test_by_each_mechanism_events_go_and_a_wrong_password_is_one_sentence(
    mechanism: str, broker: Broker, provider: str, tmp_path: Path
) -> None:
    options = tmp_path / "kafka.properties"
    options.write_text(f"sasl.oauthbearer.token.endpoint.url={provider}\n" if mechanism == "OAUTHBEARER" else "")
    environ = {
        "ORDERFLOW_TRANSPORT": "kafka",
        "ORDERFLOW_KAFKA_BOOTSTRAP": f"127.0.0.1:{broker.port}",
        "ORDERFLOW_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
        "ORDERFLOW_KAFKA_SASL_MECHANISM": mechanism.lower(),
        "ORDERFLOW_ORDER_KAFKA_USERNAME": "order",
        "ORDERFLOW_KAFKA_PASSWORD": SECRET,
        "ORDERFLOW_KAFKA_OPTIONS_FILE": str(options),
    }
    transport = await connect_transport(Settings.load(environ=environ, home=tmp_path), service="order")
    topic = f"t-{mechanism.lower()}"
    try:
        await transport.create_topics([TopicSettings(topic, 1, 3_600_000)])
        await transport.append([ProducerRecord(topic, b"k", b"v")])
        assert [record.value for record in await transport.read(topic, 0, 0, 10)] == [b"v"]
    finally:
        await transport.close()

    wrong = Settings.load(environ={**environ, "ORDERFLOW_ORDER_KAFKA_PASSWORD": "wrong"}, home=tmp_path)
    transport = await connect_transport(wrong, service="order")
    try:
        with pytest.raises(TransportUnavailableError) as caught:
            await transport.ping()
    finally:
        await transport.close()
    said = str(caught.value)
    assert said.startswith("Kafka does not ")
    assert "kafka_password" in said
    assert "wrong" not in said
    assert "\n" not in said


async def test_a_service_that_kafka_refuses_waits_and_says_why(
    broker: Broker, database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    ops_port = free_port()
    wanted = settings(
        database_url,
        tmp_path,
        transport="kafka",
        kafka_bootstrap=f"127.0.0.1:{broker.port}",
        kafka_security_protocol="sasl_plaintext",
        kafka_sasl_mechanism="SCRAM-SHA-256",
        order_kafka_username="order",
        order_kafka_password="so-wrong",
        order_ops_port=ops_port,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(run_service(SERVICE, wanted, announce=lambda _: None, stop=stop))
    sentence = "Kafka does not accept this name with this password (see kafka_username and kafka_password)"
    async with callers.client(ops_port, ops_port, callers.token_in(tmp_path)) as client:

        async def told() -> bool:
            try:
                ready = await client.get("/health/ready")
            except httpx2.TransportError:
                return False
            return ready.status_code == 503 and sentence in ready.json()["problems"].get("transport", "")

        await eventually(told, timeout_s=60)
    stop.set()
    assert await asyncio.wait_for(task, 60) == 0
    log = (tmp_path / "service.log").read_text()
    assert sentence in log
    assert "Traceback" not in log
    assert "so-wrong" not in log
