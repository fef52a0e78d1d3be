"""Every setting, its default and where its value came from. Read by runtime, local and cli only."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from orderflow.registry import database_names, default_port, service_names
from orderflow.settings import readers
from orderflow.settings.readers import (
    INFO,
    Secret,
    SettingInfo,
    SettingsError,
    database_of,
    setting,
    whole,
    with_password,
)
from orderflow.settings.sources import REMEMBERED, TRANSPORTS, collect

__all__ = ["REMEMBERED", "Secret", "Settings", "SettingsError"]

PORT_MAX = 65535
_FILE = readers.path("a file")
_SWITCH = readers.switch()
_PORT = whole(0, PORT_MAX)
_HOURS = whole(1, 87_600)
_TIMEOUT = whole(1, 3600)


_HEADINGS: Mapping[str, str] = MappingProxyType(
    {
        "home": "Home",
        "transport": "Event log",
        "database_url": "Databases",
        "host": "Addresses",
        "tokens_file": "Who may do what",
        "partitions": "Topics",
        "batch_max": "Handling events",
        "outbox_keep_hours": "Outbox",
        "gateway_timeout_ms": "Bank",
        "http_token_rate_max": "Limits of requests",
        "idempotency_keep_hours": "Requests, and stopping",
        "log_format": "Logs",
        "alert_url": "Alerts",
        "otlp_endpoint": "Traces",
        "demo_catalogue": "Trying it out",
    }
)
"""What stands above a setting where all are shown."""

_PORT_OF = SettingInfo(_PORT, "port the service listens on")
_URL_OF = SettingInfo(readers.http_url(), "where the command line reaches the service, if not on host and port")
_OPS_PORT_OF = SettingInfo(_PORT, "port of its operators' endpoints; by default the service's port plus 100")
_OPS_URL_OF = SettingInfo(
    readers.http_url(), "where the command line reaches its operators' endpoints, if not on ops_host and ops_port"
)
OPS_PORT_ABOVE = 100
_DATABASE_OF = SettingInfo(
    readers.postgres_url("a URL such as postgresql://user:password@host:5432/database"),
    "URL of this database; overrides database_url",
)
_DATABASE_PASSWORD_OF = SettingInfo(
    readers.password(), "password of this database's owner; defaults to that of database_url"
)
_KAFKA_USERNAME = SettingInfo(readers.text("a name"), "Kafka username (with OAUTHBEARER, the client id)")
_KAFKA_PASSWORD = SettingInfo(readers.password(), "Kafka password (with OAUTHBEARER, the client secret)")
_KAFKA_USERNAME_OF = SettingInfo(
    readers.text("a name"), "the service's own Kafka username; defaults to kafka_username"
)
_KAFKA_PASSWORD_OF = SettingInfo(readers.password(), "its password; defaults to kafka_password")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Effective settings. Durations carry their unit in the name; ports of 0 mean any free port.

    Each service has `<name>_database_url`, `<name>_port`, `<name>_url`, `<name>_ops_port` and `<name>_ops_url` beside
    these. `services` has those that somebody gave; `replaced` changes either kind.
    """

    home: Path = field(
        metadata={INFO: SettingInfo(readers.path("a folder"), "folder of data, logs and orderflow.toml")}
    )
    transport: Literal["postgres", "kafka"] = setting(
        "postgres", readers.choice(*TRANSPORTS), "what carries the events"
    )
    kafka_bootstrap: str = setting("127.0.0.1:9092", readers.addresses(), "Kafka's address")
    kafka_security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = setting(
        "plaintext",
        readers.choice("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        "protocol of the connection to Kafka",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = setting(
        None,
        readers.choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
        "how to authenticate to Kafka, if the protocol is a sasl one",
    )
    kafka_username: str | None = setting(None, *_KAFKA_USERNAME)
    kafka_password: Secret | None = setting(None, *_KAFKA_PASSWORD)
    kafka_ssl_ca_file: Path | None = setting(
        None, _FILE, "certificate authorities for Kafka (PEM); defaults to those of the system"
    )
    kafka_ssl_certificate_file: Path | None = setting(None, _FILE, "client certificate for Kafka (PEM)")
    kafka_ssl_key_file: Path | None = setting(None, _FILE, "its key (PEM)")
    kafka_ssl_key_password: Secret | None = setting(None, readers.password(), "password of that key")
    kafka_options_file: Path | None = setting(
        None, _FILE, "file of further librdkafka options, one name=value per line"
    )
    topic_prefix: str = setting("", readers.name_prefix(), "prefix of this installation's topic names")
    group_prefix: str | None = setting(
        None, readers.name_prefix(), "prefix of its consumer groups; defaults to topic_prefix"
    )
    database_url: Secret | None = setting(
        None,
        readers.postgres_url("a server's URL such as postgresql://user:password@host:5432"),
        "an existing PostgreSQL server; without it an embedded one is started",
    )
    database_password: Secret | None = setting(
        None, readers.password(), "password for database_url, if that has none"
    )
    log_database_url: Secret | None = setting(None, *_DATABASE_OF)
    bank_database_url: Secret | None = setting(None, *_DATABASE_OF)
    keys_database_url: Secret | None = setting(None, *_DATABASE_OF)
    log_database_password: Secret | None = setting(None, *_DATABASE_PASSWORD_OF)
    bank_database_password: Secret | None = setting(None, *_DATABASE_PASSWORD_OF)
    keys_database_password: Secret | None = setting(None, *_DATABASE_PASSWORD_OF)
    keys_master_key: Secret | None = setting(
        None, readers.master_key(), "wraps the keys of customers; without it their names are stored in clear text"
    )
    postgres_port: int | None = setting(
        None, whole(1, 65535), "port of the embedded PostgreSQL; by default a socket or any free port"
    )
    host: str = setting("127.0.0.1", readers.text("an address"), "address the services listen on")
    console: bool = setting(True, _SWITCH, "whether `orderflow up` serves the console page")
    console_port: int = setting(
        8000, _PORT, "port of the console page, on this machine only; if the default is taken, any free one"
    )
    ops_host: str = setting(
        "127.0.0.1", readers.text("an address"), "address the operators' endpoints listen on: health, metrics, /ops"
    )
    tls_certificate_file: Path | None = setting(
        None, _FILE, "certificate of the services, with its chain (PEM); reloaded when it changes"
    )
    tls_key_file: Path | None = setting(None, _FILE, "its key (PEM)")
    tls_client_ca_file: Path | None = setting(
        None,
        _FILE,
        "certificate authorities (PEM); callers of the operators' endpoints then need a certificate from one",
    )
    tls_ca_file: Path | None = setting(
        None,
        _FILE,
        "certificate authorities by which the command line trusts the services (PEM); defaults to those of "
        "the system",
    )
    tls_client_certificate_file: Path | None = setting(None, _FILE, "client certificate of the command line (PEM)")
    tls_client_key_file: Path | None = setting(None, _FILE, "its key (PEM)")
    allowed_hosts: str = setting(
        "", readers.host_names(), "host names under which clients may call the services, besides this machine's own"
    )
    tokens_file: Path | None = setting(None, _FILE, "file of the tokens; defaults to tokens.json in the home")
    token: Secret | None = setting(
        None, readers.bearer(), "token that the command line sends; defaults to the home's own"
    )
    anonymous: bool = setting(True, _SWITCH, "on loopback, let callers without a token read and place orders")
    insecure: bool = setting(False, _SWITCH, "beyond loopback, do without tokens and TLS; not for production")
    two_person: bool = setting(False, _SWITCH, "what needs an approver needs two: one proposes, another approves")
    oidc_issuer: str | None = setting(
        None, readers.http_url(), "OpenID provider whose tokens are accepted, besides our own"
    )
    oidc_audience: str | None = setting(None, readers.text("a name"), "audience that the provider's tokens must name")
    oidc_jwks: str | None = setting(
        None, readers.text("a file or an https URL"), "the provider's keys; defaults to what the issuer publishes"
    )
    oidc_role_claim: str = setting(
        "roles", readers.text("a claim such as roles or realm_access.roles"), "claim that names the roles"
    )
    oidc_shop_claim: str = setting("shop", readers.text("a claim"), "claim that names the shop, for the role shop")
    partitions: int = setting(6, whole(1, 1024), "partitions of a new topic")
    topic_retention_hours: int = setting(168, _HOURS, "how long a topic keeps its records")
    replication_factor: int = setting(1, whole(1, 15), "copies of a new Kafka topic")
    batch_max: int = setting(500, whole(1, 10_000), "maximum number of messages in a transaction")
    attempts_max: int = setting(6, whole(1, 1000), "how often a failing event is tried before it is dead")
    retry_first_ms: int = setting(
        2_500, whole(1, 3_600_000), "longest wait before the second try of a failing event; it doubles"
    )
    retry_ceiling_ms: int = setting(40_000, whole(1, 86_400_000), "longest wait between two tries of a failing event")
    parked_keys_max: int = setting(
        10_000, whole(1, 1_000_000), "with more parked keys at a consumer, its partitions wait"
    )
    parked_depth_max: int = setting(
        1_000, whole(1, 100_000), "with more events behind a parked one, its partition waits"
    )
    outbox_keep_hours: int = setting(24, _HOURS, "how long published outbox rows are kept")
    outbox_slots: int = setting(16, whole(1, 1024), "number of outbox slots that relays share")
    gateway_timeout_ms: int = setting(2000, whole(10, 600_000), "longest wait for an answer from the bank")
    gateway_concurrency: int = setting(256, whole(1, 10_000), "calls to the bank at a time")
    intent_lease_ms: int = setting(
        8_000, whole(100, 3_600_000), "how long an intent belongs to the one process that asks it"
    )
    http_token_rate_max: int | None = setting(
        None, whole(1, 1_000_000), "requests per second with one token; by default 1000, unlimited on loopback"
    )
    http_address_rate_max: int | None = setting(
        None, whole(1, 1_000_000), "requests per second from one address; by default 1000, unlimited on loopback"
    )
    http_connections_max: int = setting(
        10_000, whole(8, 1_000_000), "with more connections to a service, new requests get a 503"
    )
    http_waiting_max: int = setting(
        5_000, whole(0, 1_000_000), "with more requests that wait for an order, new ones get a 503"
    )
    http_head_max_kb: int = setting(64, whole(1, 1024), "largest head of a request; beyond it, 431")
    http_body_max_kb: int = setting(64, whole(1, 102_400), "largest body of a request; beyond it, 413")
    http_handshake_timeout_s: int = setting(10, _TIMEOUT, "how long a TLS handshake may take")
    http_head_timeout_s: int = setting(
        10, _TIMEOUT, "for the head of a request to arrive, from the connection or its first byte; then 408"
    )
    http_body_timeout_s: int = setting(10, _TIMEOUT, "for the body of a request to arrive; then 408")
    http_answer_timeout_s: int = setting(120, _TIMEOUT, "for the service to answer a request; then 503")
    http_write_timeout_s: int = setting(
        10, _TIMEOUT, "for a client to take its answer, at 1 KB per second; then its connection is closed"
    )
    http_idle_timeout_s: int = setting(75, _TIMEOUT, "how long a connection may be idle between two requests")
    idempotency_keep_hours: int = setting(24, _HOURS, "how long an Idempotency-Key is remembered")
    unfinished_orders_max: int = setting(
        100_000, whole(1, 100_000_000), "with more unfinished orders, new ones get a 503"
    )
    command_queue_max: int = setting(4096, whole(1, 1_000_000), "with more waiting commands, new ones get a 503")
    drain_timeout_s: int = setting(10, whole(1, 3600), "longest time for a clean stop")
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", readers.choice("auto", "json", "text"), "auto: text on a terminal, JSON elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", readers.choice("debug", "info", "warning", "error"), "least important level that is logged"
    )
    log_file: Path | None = setting(None, _FILE, "log to this file instead of stderr")
    log_file_max_mb: int = setting(20, whole(1, 100_000), "size at which a log file is rotated")
    log_files_kept: int = setting(5, whole(1, 1000), "how many rotated log files are kept")
    alert_url: Secret | None = setting(
        None, readers.webhook_url(), "webhook that receives alerts about dead letters; none by default"
    )
    alert_secret: Secret | None = setting(None, readers.webhook_secret(), "key that signs alerts (Standard Webhooks)")
    otlp_endpoint: str | None = setting(
        None,
        readers.otlp_url(),
        "receiver of traces, OTLP over HTTP (or OTEL_EXPORTER_OTLP_ENDPOINT); none by default",
    )
    otlp_sample_ratio: str = setting(
        "1", readers.share(), "share of traces beginning here that is kept; others follow their own flag"
    )
    demo_catalogue: bool = setting(True, _SWITCH, "stock an empty inventory with a few SKUs")
    game_day: bool = setting(False, _SWITCH, "let `orderflow fault` set faults, for exercises; not for production")
    crash_at: str = setting(
        "never", readers.crash_at(service_names), "crash points at which services die, for tests; not for production"
    )
    services: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        *,
        environ: Mapping[str, str],
        home: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        remember: bool = True,
        piped: Mapping[str, object] | None = None,
    ) -> Settings:
        """Standard input (`piped`) over command line over environment over `orderflow.toml` in `home` over what the
        home runs on over default.

        In `overrides` None means not given. Without `remember`, what the home runs on does not count: for who
        decides about that. Raises SettingsError: a name that is unknown, a value that does not fit, a file that
        cannot be read, another transport than the home's.
        """
        entries = _entries()
        given = {**({"home": home} if home is not None else {}), **(overrides or {})}
        known = {name: entry.reader for name, entry in entries.items()}
        found = collect(known, environ, given, Path(".orderflow").absolute(), remember=remember, piped=piped or {})
        declared = {each.name for each in fields(cls)}
        services = {name: item.value for name, item in found.items() if name not in declared}
        origin = {name: found[name].source if name in found else "default" for name in (*entries, *services)}
        values: dict[str, Any] = {name: item.value for name, item in found.items() if name in declared}
        return cls(services=MappingProxyType(services), sources=MappingProxyType(origin), **values)

    def replaced(self, **changes: object) -> Settings:
        """These settings with other values, among them those of services."""
        declared = {each.name for each in fields(self)}
        values: dict[str, Any] = {name: value for name, value in changes.items() if name in declared}
        services = {name: value for name, value in changes.items() if name not in declared}
        return replace(self, services=MappingProxyType({**self.services, **services}), **values)

    @staticmethod
    def meanings() -> Mapping[str, str]:
        """One line on what each setting does, in the order of their declaration."""
        return {name: entry.meaning for name, entry in _entries().items()}

    @staticmethod
    def groups() -> Mapping[str, Sequence[str]]:
        """The settings by what they are about: each stands below the last heading before it."""
        found: dict[str, list[str]] = {}
        heading = ""
        for name in _entries():
            heading = _HEADINGS.get(name, heading)
            found.setdefault(heading, []).append(name)
        return found

    def shown(self) -> dict[str, str | int | bool | None]:
        """Every effective value as plain data; passwords are hidden."""
        values = {name: self._value(name) for name in (*self.meanings(), *self.services)}
        return {
            name: value if isinstance(value, bool | int) or value is None else str(value)
            for name, value in values.items()
        }

    def secrets(self) -> dict[str, Secret]:
        """Every secret that there is."""
        values = {name: self._value(name) for name in (*self.meanings(), *self.services)}
        return {name: value for name, value in values.items() if isinstance(value, Secret)}

    @property
    def embedded(self) -> bool:
        """Whether no database is given at all, so that a server has to be started."""
        return self.database_url is None and all(self.database_of(name) is None for name in database_names())

    def database_of(self, name: str) -> Secret | None:
        """The URL that was given for the database of a service, of `log` or of `bank` alone."""
        found: Secret | None = self._value(f"{name}_database_url")
        return found

    def service_database_url(self, name: str) -> str:
        """URL (with password) of the database of a service, of `log` or of `bank`.

        On the server of `database_url` it is the database `orderflow_<name>` and the role of the same name,
        with the password given there. Raises SettingsError when neither setting is there.
        """
        given, own = self.database_of(name), self._value(f"{name}_database_password")
        if given is not None:
            return with_password(given.reveal(), own)
        if self.database_url is None:
            started = ", or use `orderflow up`, which starts a server" if name in database_names() else ""
            setting = f"ORDERFLOW_{name.upper()}_DATABASE_URL"
            raise SettingsError(f"no database for {name}: set {setting} or ORDERFLOW_DATABASE_URL{started}")
        return with_password(database_of(self.server_url() or "", f"orderflow_{name}"), own, instead=True)

    def server_url(self) -> str | None:
        """`database_url`, with its password."""
        return self.database_url and with_password(self.database_url.reveal(), self.database_password)

    def kafka_user(self, service: str | None) -> tuple[str | None, str | None]:
        """Name and password at Kafka of a service, where it has its own, or of all."""
        own_name, own_password = (None, None) if service is None else self.kafka_user_of(service)
        password = own_password or self.kafka_password
        return own_name or self.kafka_username, None if password is None else password.reveal()

    def kafka_user_of(self, service: str) -> tuple[str | None, Secret | None]:
        """What was given for a service alone."""
        return self._value(f"{service}_kafka_username"), self._value(f"{service}_kafka_password")

    @property
    def keeps_keys(self) -> bool:
        """Whether anybody has said where keys of customers are kept; they can be done without."""
        return self.database_url is not None or self.database_of("keys") is not None

    def master_key(self) -> bytes | None:
        """The key of `keys_master_key`."""
        return None if self.keys_master_key is None else readers.master_key_of(self.keys_master_key.reveal())

    def alert_key(self) -> bytes | None:
        """The key of `alert_secret`."""
        return None if self.alert_secret is None else b64decode(self.alert_secret.reveal().partition("_")[2])

    def is_given(self, name: str) -> bool:
        """Whether somebody has said this setting's value; else it is the default, or what the home runs on."""
        return self.sources.get(name, "default") not in {"default", REMEMBERED}

    def service_port(self, name: str) -> int:
        """Of a service that is not registered any free port, if none is set."""
        port: int = self._value(f"{name}_port")
        return port

    def service_ops_port(self, name: str) -> int:
        """Of the operators' endpoints: its own setting, else above the service's port; any, where that is any."""
        port: int = self._value(f"{name}_ops_port")
        return port

    def given_url(self, name: str) -> str | None:
        """Where somebody says that a service is reached."""
        found: str | None = self._value(f"{name}_url")
        return found

    def given_ops_url(self, name: str) -> str | None:
        """Where somebody says that a service's operators' endpoints are reached."""
        found: str | None = self._value(f"{name}_ops_url")
        return found

    def service_url(self, name: str) -> str:
        """Where a service is reached: its own setting, else host and port."""
        return self.given_url(name) or self.address(self.host, self.service_port(name))

    def address(self, host: str, port: int | None) -> str:
        """Of what listens there; where that is every address of this machine, its address on loopback."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nothing is bound here
        scheme = "http" if self.tls_certificate_file is None else "https"
        return f"{scheme}://[{here}]:{port}" if ":" in here else f"{scheme}://{here}:{port}"

    def service_ops_url(self, name: str) -> str:
        """Where its operators' endpoints are reached: its own setting, else ops_host and port.

        Who has said that the service itself is elsewhere does not mean one on this machine.
        """
        return (
            self.given_ops_url(name)
            or self.given_url(name)
            or self.address(self.ops_host, self.service_ops_port(name))
        )

    @property
    def tokens_path(self) -> Path:
        """Where the tokens are kept."""
        return self.tokens_file or self.home / "tokens.json"

    def allowed_names(self) -> tuple[str, ...]:
        """The names of `allowed_hosts`."""
        return tuple(each for each in self.allowed_hosts.split(",") if each)

    def _value(self, name: str) -> Any:
        """Of any setting; of a service's that nobody gave the default."""
        if name in self.__dataclass_fields__:
            return getattr(self, name)
        return self.services[name] if name in self.services else self._default_of(name)

    def _default_of(self, name: str) -> int | None:
        if name.endswith("_ops_port"):
            port = self.service_port(name.removesuffix("_ops_port"))
            above = port + OPS_PORT_ABOVE
            return port and (above if above <= PORT_MAX else port - OPS_PORT_ABOVE)
        return default_port(name.removesuffix("_port")) if name.endswith("_port") else None


def _entries() -> dict[str, SettingInfo]:
    """Of every setting, those of the services among them."""
    found: dict[str, SettingInfo] = {}
    for each in fields(Settings):
        name = each.name
        if INFO in each.metadata:
            found[name] = each.metadata[INFO]
        if name == "database_url":
            found |= {f"{each}_database_url": _DATABASE_OF for each in service_names()}
            found |= {f"{each}_database_password": _DATABASE_PASSWORD_OF for each in service_names()}
        if name == "kafka_password":
            found |= {f"{each}_kafka_username": _KAFKA_USERNAME_OF for each in service_names()}
            found |= {f"{each}_kafka_password": _KAFKA_PASSWORD_OF for each in service_names()}
        if name == "host":
            found |= {f"{each}_port": _PORT_OF for each in service_names()}
            found |= {f"{each}_url": _URL_OF for each in service_names()}
        if name == "ops_host":
            found |= {f"{each}_ops_port": _OPS_PORT_OF for each in service_names()}
            found |= {f"{each}_ops_url": _OPS_URL_OF for each in service_names()}
    return found
