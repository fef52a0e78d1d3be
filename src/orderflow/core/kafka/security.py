"""How we talk to the brokers and who we are there, in librdkafka's words; and why they refuse us, in plain ones.

Names of options are those of librdkafka's CONFIGURATION.md, mechanisms those of RFC 4616 (PLAIN), RFC 5802 (SCRAM)
and RFC 7628 (OAUTHBEARER, here by the client credentials of OpenID Connect: KIP-768).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from confluent_kafka import KafkaError

FRESH_S = 15.0
"""A client without a connection tries again at least once a second, and is refused again."""

OWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "security.protocol": "kafka_security_protocol",
        "sasl.mechanism": "kafka_sasl_mechanism",
        "sasl.mechanisms": "kafka_sasl_mechanism",
        "sasl.username": "kafka_username",
        "sasl.password": "kafka_password",
        "sasl.oauthbearer.client.id": "kafka_username",
        "sasl.oauthbearer.client.secret": "kafka_password",
        "ssl.ca.location": "kafka_ssl_ca_file",
        "ssl.certificate.location": "kafka_ssl_certificate_file",
        "ssl.key.location": "kafka_ssl_key_file",
        "ssl.key.password": "kafka_ssl_key_password",
        "bootstrap.servers": "kafka_bootstrap",
        "metadata.broker.list": "kafka_bootstrap",
    }
)
"""Options that a setting of ours stands for."""

PROMISED: Final = frozenset(
    {
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "retries",
        "message.send.max.retries",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "message.max.bytes",
        "transactional.id",
        "partitioner",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.remote.assignor",
        "partition.assignment.strategy",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "enable.auto.commit",
        "auto.commit.interval.ms",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "isolation.level",
        "allow.auto.create.topics",
        "statistics.interval.ms",
        "check.crcs",
    }
)
"""That nothing is lost, doubled or out of order stands on how these are set."""

UNSAFE: Final = frozenset({"enable.ssl.certificate.verification", "plugin.library.paths", "debug", "log_level"})
"""One would trust any broker, one would load foreign code, and the others would show what is sent."""

_PLACE = re.compile(r"^\S+://\S+: ")
_STATE = re.compile(r" \(after [^)]*\)$")
_NO_CONNECTION = re.compile(r"Connect to \w+#(\S+) failed: (.*)$")
_OFFERED = re.compile(r"SASL (\S+) mechanism handshake failed: .*supported mechanisms: (.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """`protocol` and `mechanism` as librdkafka has them. `username` and `password` are client id and secret with
    OAUTHBEARER. `more` are further options, as `parse_options` returns them.
    """

    protocol: str = "plaintext"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    more: Mapping[str, str] = field(default_factory=dict, repr=False)

    def options(self) -> dict[str, str]:
        """For a client. Raises ValueError: something is missing, or is there that would have no effect."""
        self._check()
        given = {
            "security.protocol": self.protocol,
            "sasl.mechanism": self.mechanism,
            **self._names(),
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
            "ssl.key.password": self.key_password,
        }
        return {**self.more, **{name: str(value) for name, value in given.items() if value is not None}}

    def _names(self) -> dict[str, str | None]:
        if self.mechanism != "OAUTHBEARER":
            return {"sasl.username": self.username, "sasl.password": self.password}
        return {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": self.username,
            "sasl.oauthbearer.client.secret": self.password,
        }

    def _check(self) -> None:
        by_password, by_tls = self.protocol.startswith("sasl_"), self.protocol.endswith("ssl")
        if by_password and self.mechanism is None:
            raise ValueError(f"with kafka_security_protocol {self.protocol} set kafka_sasl_mechanism")
        if by_password and not (self.username and self.password):
            raise ValueError(f"with kafka_sasl_mechanism {self.mechanism} set kafka_username and kafka_password")
        if self.mechanism == "OAUTHBEARER" and "sasl.oauthbearer.token.endpoint.url" not in self.more:
            raise ValueError(
                "with kafka_sasl_mechanism OAUTHBEARER the file of kafka_options_file needs a line "
                "sasl.oauthbearer.token.endpoint.url=https://..."
            )
        if not by_password and (self.mechanism or self.username or self.password):
            raise ValueError(
                f"kafka_security_protocol is {self.protocol}, which shows no name and no password to Kafka; "
                "set it to sasl_ssl, or take kafka_sasl_mechanism, kafka_username and kafka_password out"
            )
        files = (self.ca_file, self.certificate_file, self.key_file)
        if not by_tls and any(files):
            raise ValueError(
                f"kafka_security_protocol is {self.protocol}, which is no TLS; set it to ssl or sasl_ssl, or take "
                "kafka_ssl_... out"
            )
        for name, file in (("ca", self.ca_file), ("certificate", self.certificate_file), ("key", self.key_file)):
            _require_readable(f"kafka_ssl_{name}_file", file)
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("kafka_ssl_certificate_file and kafka_ssl_key_file go together; set both")


def _require_readable(setting: str, file: Path | None) -> None:
    """Raises ValueError."""
    try:
        if file is not None:
            file.read_bytes()
    except OSError as error:
        raise ValueError(f"{setting} {file} cannot be read: {error.strerror}") from error


def parse_options(text: str) -> dict[str, str]:
    """Lines `name=value`; empty ones and those that begin with # count for nothing.

    Raises ValueError with the line's number: it is none, or its option is not for a file.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals:
            raise ValueError(f"line {number} has no =; expected: name=value")
        if (why := _why_not(name)) is not None:
            raise ValueError(f"line {number}: {name} {why}")
        found[name] = value
    return found


def _why_not(name: str) -> str | None:
    if name in OWN:
        return f"has a setting of its own, {OWN[name]}"
    if name in PROMISED:
        return "is not for a file: that no event is lost, doubled or out of order stands on how Orderflow sets it"
    if name in UNSAFE:
        return "is not for a file: it would make the connection unsafe"
    return None


class Refusals:
    """Why there is no connection to the brokers, as the clients of one transport hear it. Safe for many threads."""

    def __init__(self) -> None:
        self._said = ""
        self._at = float("-inf")

    @property
    def why(self) -> str:
        """What Kafka does to us, to stand after its name; empty when it is not known, or over."""
        return self._said if time.monotonic() - self._at < FRESH_S else ""

    def hear(self, error: KafkaError) -> None:
        """Of what a client says by itself. It says so each time that it has tried again."""
        said = explain(error)
        if not said and error.code() == KafkaError._ALL_BROKERS_DOWN and not self.why:  # noqa: SLF001  # its public name
            said = "ends every connection without a word: is kafka_security_protocol the one of its listener?"
        if said:
            self._said, self._at = said, time.monotonic()


def explain(error: KafkaError) -> str:
    """Why a connection failed, and which setting may be wrong; empty when the error does not say."""
    code, text = error.code(), _STATE.sub("", _PLACE.sub("", error.str()))
    if code == KafkaError._AUTHENTICATION:  # noqa: SLF001  # its public name
        return _explain_login(text)
    if code == KafkaError._SSL:  # noqa: SLF001  # its public name
        return _explain_tls(text)
    if code == KafkaError._RESOLVE:  # noqa: SLF001  # its public name
        return f"cannot be found ({text}): look at kafka_bootstrap"
    if code == KafkaError._TRANSPORT and (failed := _NO_CONNECTION.search(text)):  # noqa: SLF001  # its public name
        return f"does not answer at {failed[1]}: {failed[2]}"
    return ""


def _explain_login(text: str) -> str:
    if offered := _OFFERED.search(text):
        return f"does not offer {offered[1]}, but {offered[2]}: look at kafka_sasl_mechanism"
    if "invalid credentials" in text:
        return "does not accept this name with this password (see kafka_username and kafka_password)"
    return f"does not believe who we are ({text}): look at kafka_sasl_mechanism, kafka_username and kafka_password"


def _explain_tls(text: str) -> str:
    if "certificate verify failed" in text:
        return "shows a certificate of no authority that we trust, or of another host: look at kafka_ssl_ca_file"
    if any(sign in text for sign in ("certificate required", "bad certificate", "unknown ca")):
        return f"does not accept our certificate ({text}): look at kafka_ssl_certificate_file"
    return f"does not speak TLS with us ({text}): look at kafka_security_protocol"
