"""How Kafka is talked to: what the library is told, what is refused, and what its errors mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from orderflow.core.kafka.security import OWN, PROMISED, KafkaSecurity, Refusals, parse_options
from orderflow.core.kafka.settings import KafkaSettings, translate
from orderflow.runtime.wiring import kafka_security
from orderflow.settings import Settings, SettingsError

SCRAM: dict[str, Any] = {
    "protocol": "sasl_ssl",
    "mechanism": "SCRAM-SHA-512",
    "username": "order",
    "password": "geheim",
}
WRONG_PASSWORD = (
    "sasl_ssl://127.0.0.1:39092/bootstrap: SASL authentication error: Authentication failed during authentication "
    "due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 351ms in state AUTH_REQ)"
)
NOT_OFFERED = (
    "sasl_ssl://b:1/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's "
    "supported mechanisms: SCRAM-SHA-512 (after 301ms in state AUTH_HANDSHAKE)"
)


def test_names_and_files_become_the_librarys_options(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    security = KafkaSecurity(**SCRAM, ca_file=ca, more={"client.rack": "a"})
    assert security.options() == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "order",
        "sasl.password": "geheim",
        "ssl.ca.location": str(ca),
        "client.rack": "a",
    }
    assert "geheim" not in repr(security)
    assert "geheim" not in repr(KafkaSettings("b:9092", security=security.options()))
    assert KafkaSecurity().options() == {"security.protocol": "plaintext"}


def test_oauthbearer_is_by_client_credentials() -> None:
    endpoint = {"sasl.oauthbearer.token.endpoint.url": "https://id.example/token"}
    found = KafkaSecurity(**{**SCRAM, "mechanism": "OAUTHBEARER"}, more=endpoint).options()
    assert found["sasl.oauthbearer.method"] == "oidc"
    assert (found["sasl.oauthbearer.client.id"], found["sasl.oauthbearer.client.secret"]) == ("order", "geheim")
    assert "sasl.username" not in found


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mechanism": None}, "with kafka_security_protocol sasl_ssl set kafka_sasl_mechanism"),
        ({"password": None}, "with kafka_sasl_mechanism SCRAM-SHA-512 set kafka_username and kafka_password"),
        ({"mechanism": "OAUTHBEARER"}, "needs a line sasl.oauthbearer.token.endpoint.url="),
        ({"protocol": "ssl"}, "kafka_security_protocol is ssl, which shows no name and no password to Kafka"),
        (
            {"protocol": "sasl_plaintext", "ca_file": Path("/x")},
            "kafka_security_protocol is sasl_plaintext, which is no",
        ),
        ({"key_file": Path(__file__)}, "kafka_ssl_certificate_file and kafka_ssl_key_file go together"),
        ({"ca_file": Path("/no/such")}, "kafka_ssl_ca_file /no/such cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="kafka_") as caught:
        KafkaSecurity(**{**SCRAM, **given}).options()
    assert sentence in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_file_of_options_has_lines_and_comments() -> None:
    text = "# ours\n\n socket.keepalive.enable = false\nssl.cipher.suites=A=B\n"
    assert parse_options(text) == {"socket.keepalive.enable": "false", "ssl.cipher.suites": "A=B"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("acks=1", "line 2: acks is not for a file: that no event is lost, doubled or out of order stands on"),
        ("enable.idempotence=false", "line 2: enable.idempotence is not for a file"),
        ("isolation.level=read_uncommitted", "line 2: isolation.level is not for a file"),
        ("sasl.password=x", "line 2: sasl.password has a setting of its own, kafka_password"),
        ("bootstrap.servers=x", "line 2: bootstrap.servers has a setting of its own, kafka_bootstrap"),
        (
            "enable.ssl.certificate.verification=false",
            "line 2: enable.ssl.certificate.verification is not for a file",
        ),
        ("nothing", "line 2 has no =; expected: name=value"),
    ],
)
def test_a_file_of_options_breaks_no_promise(line: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"client.rack=a\n{line}\n")
    settings = Settings.load(environ={"ORDERFLOW_KAFKA_OPTIONS_FILE": str(file)}, home=tmp_path)
    with pytest.raises(SettingsError) as caught:
        kafka_security(settings, "order")
    assert str(caught.value).startswith(f"kafka_options_file {file}: {sentence}")


def test_whatever_we_promise_by_an_option_no_file_can_change() -> None:
    """What we set and no file may set are the same, but for what only tunes."""
    settings = KafkaSettings("b:9092")
    ours = {*settings.producer(), *settings.consumer("g"), *settings.reader(), *settings.asker("g")}
    tuning = {
        "client.id",
        "error_cb",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "linger.ms",
        "log_level",
        "queue.buffering.max.kbytes",
        "queued.max.messages.kbytes",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "topic.metadata.refresh.interval.ms",
    }
    assert ours - tuning <= PROMISED | OWN.keys()
    tuned = KafkaSettings("b:9092", security={"linger.ms": "1", "fetch.wait.max.ms": "5"})
    assert tuned.producer()["linger.ms"] == "1"
    assert tuned.consumer("g")["fetch.wait.max.ms"] == "5"


@pytest.mark.parametrize(
    ("code", "text", "why"),
    [
        ("_AUTHENTICATION", WRONG_PASSWORD, "does not accept this name with this password (see kafka_username"),
        (
            "_AUTHENTICATION",
            NOT_OFFERED,
            "does not offer PLAIN, but SCRAM-SHA-512: look at kafka_sasl_mechanism",
        ),
        (
            "_AUTHENTICATION",
            "sasl_ssl://b:1/1: Token expired (after 1ms in state X)",
            "does not believe who we are (Token",
        ),
        (
            "_SSL",
            "ssl://b:1/1: SSL handshake failed: certificate verify failed: x",
            "shows a certificate of no authority",
        ),
        ("_SSL", "ssl://b:1/1: tlsv13 alert certificate required", "does not accept our certificate (tlsv13"),
        ("_SSL", "ssl://b:1/1: wrong version number", "does not speak TLS with us (wrong version number)"),
        ("_RESOLVE", "ssl://b:1/1: Failed to resolve 'b:1'", "cannot be found (Failed to resolve 'b:1')"),
        (
            "_TRANSPORT",
            "b:1/1: Connect to ipv4#1.2.3.4:5 failed: Connection refused",
            "does not answer at 1.2.3.4:5:",
        ),
        (
            "_ALL_BROKERS_DOWN",
            "1/1 brokers are down",
            "ends every connection without a word: is kafka_security_protocol",
        ),
    ],
)
def test_a_refusal_is_said_where_nothing_else_is_known(code: str, text: str, why: str) -> None:
    refusals = Refusals()
    refusals.hear(KafkaError(getattr(KafkaError, code), text))
    assert refusals.why.startswith(why)
    lost = translate(KafkaError(KafkaError._TRANSPORT, "Failed to get metadata"), refusals=refusals)
    assert str(lost).startswith(f"Kafka {why}")


def test_what_is_known_better_stays_said() -> None:
    refusals = Refusals()
    refusals.hear(KafkaError(KafkaError._AUTHENTICATION, WRONG_PASSWORD))
    refusals.hear(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert refusals.why.startswith("does not accept this name")
    topic = translate(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "payment-status", refusals=refusals)
    assert str(topic) == "Kafka does not allow it (topic payment-status): the user that we are lacks a right"
    other = translate(KafkaError(KafkaError.NOT_ENOUGH_REPLICAS), refusals=refusals)
    assert "NOT_ENOUGH_REPLICAS" in str(other)
