"""Every setting, its default and where its value came from. Read by runtime, local and cli only."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from orderflow.registry import database_names, default_port, service_names
from orderflow.settings import readers
from orderflow.settings.readers import Secret, SettingsError, database_of, with_password
from orderflow.settings.sources import REMEMBERED, TRANSPORTS, collect

__all__ = ["REMEMBERED", "Secret", "Settings", "SettingsError"]

PORT_MAX = 65535
_PORT = readers.whole(0, PORT_MAX)
_HOURS = readers.whole(1, 87_600)
_TIMEOUT = readers.whole(1, 3600)


class _Entry(NamedTuple):
    reader: readers.Reader
    meaning: str


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

_PORT_OF = _Entry(_PORT, "port the service listens on")
_URL_OF = _Entry(readers.http_url(), "where the command line reaches the service, if not on host and port")
_OPS_PORT_OF = _Entry(_PORT, "port of its operators' endpoints; by default the service's port plus 100")
_OPS_URL_OF = _Entry(
    readers.http_url(), "where the command line reaches its operators' endpoints, if not on ops_host and ops_port"
)
OPS_PORT_ABOVE = 100
_DATABASE_OF = _Entry(
    readers.postgres_url("a URL such as postgresql://user:password@host:5432/database"),
    "URL of this database; overrides database_url",
)
_DATABASE_PASSWORD_OF = _Entry(
    readers.password(), "password of this database's owner; defaults to that of database_url"
)
_KAFKA_USERNAME = _Entry(readers.text("a name"), "Kafka username (with OAUTHBEARER, the client id)")
_KAFKA_PASSWORD = _Entry(readers.password(), "Kafka password (with OAUTHBEARER, the client secret)")
_KAFKA_USERNAME_OF = _Entry(readers.text("a name"), "the service's own Kafka username; defaults to kafka_username")
_KAFKA_PASSWORD_OF = _Entry(readers.password(), "its password; defaults to kafka_password")
_Database = Annotated[Secret | None, _DATABASE_OF]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Effective settings. Durations carry their unit in the name; ports of 0 mean any free port.

    Each service has `<name>_database_url`, `<name>_port`, `<name>_url`, `<name>_ops_port` and `<name>_ops_url` beside
    these. `services` has those that somebody gave; `replaced` changes either kind.
    """

    home: Annotated[Path, _Entry(readers.path("a folder"), "folder of data, logs and orderflow.toml")]
    transport: Annotated[
        Literal["postgres", "kafka"], _Entry(readers.choice(*TRANSPORTS), "what carries the events")
    ] = "postgres"
    kafka_bootstrap: Annotated[str, _Entry(readers.addresses(), "Kafka's address")] = "127.0.0.1:9092"
    kafka_security_protocol: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        _Entry(
            readers.choice("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"), "protocol of the connection to Kafka"
        ),
    ] = "plaintext"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None,
        _Entry(
            readers.choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
            "how to authenticate to Kafka, if the protocol is a sasl one",
        ),
    ] = None
    kafka_username: Annotated[str | None, _KAFKA_USERNAME] = None
    kafka_password: Annotated[Secret | None, _KAFKA_PASSWORD] = None
    kafka_ssl_ca_file: Annotated[
        Path | None,
        _Entry(readers.path("a file"), "certificate authorities for Kafka (PEM); defaults to those of the system"),
    ] = None
    kafka_ssl_certificate_file: Annotated[
        Path | None, _Entry(readers.path("a file"), "client certificate for Kafka (PEM)")
    ] = None
    kafka_ssl_key_file: Annotated[Path | None, _Entry(readers.path("a file"), "its key (PEM)")] = None
    kafka_ssl_key_password: Annotated[Secret | None, _Entry(readers.password(), "password of that key")] = None
    kafka_options_file: Annotated[
        Path | None, _Entry(readers.path("a file"), "file of further librdkafka options, one name=value per line")
    ] = None
    topic_prefix: Annotated[str, _Entry(readers.name_prefix(), "prefix of this installation's topic names")] = ""
    group_prefix: Annotated[
        str | None, _Entry(readers.name_prefix(), "prefix of its consumer groups; defaults to topic_prefix")
    ] = None
    database_url: Annotated[
        Secret | None,
        _Entry(
            readers.postgres_url("a server's URL such as postgresql://user:password@host:5432"),
            "an existing PostgreSQL server; without it an embedded one is started",
        ),
    ] = None
    database_password: Annotated[
        Secret | None, _Entry(readers.password(), "password for database_url, if that has none")
    ] = None
    log_database_url: _Database = None
    bank_database_url: _Database = None
    keys_database_url: _Database = None
    log_database_password: Annotated[Secret | None, _DATABASE_PASSWORD_OF] = None
    bank_database_password: Annotated[Secret | None, _DATABASE_PASSWORD_OF] = None
    keys_database_password: Annotated[Secret | None, _DATABASE_PASSWORD_OF] = None
    keys_master_key: Annotated[
        Secret | None,
        _Entry(readers.master_key(), "wraps the keys of customers; without it their names are stored in clear text"),
    ] = None
    postgres_port: Annotated[
        int | None,
        _Entry(readers.whole(1, 65535), "port of the embedded PostgreSQL; by default a socket or any free port"),
    ] = None
    host: Annotated[str, _Entry(readers.text("an address"), "address the services listen on")] = "127.0.0.1"
    console: Annotated[bool, _Entry(readers.switch(), "whether `orderflow up` serves the console page")] = True
    console_port: Annotated[
        int, _Entry(_PORT, "port of the console page, on this machine only; if the default is taken, any free one")
    ] = 8000
    ops_host: Annotated[
        str, _Entry(readers.text("an address"), "address the operators' endpoints listen on: health, metrics, /ops")
    ] = "127.0.0.1"
    tls_certificate_file: Annotated[
        Path | None,
        _Entry(readers.path("a file"), "certificate of the services, with its chain (PEM); reloaded when it changes"),
    ] = None
    tls_key_file: Annotated[Path | None, _Entry(readers.path("a file"), "its key (PEM)")] = None
    tls_client_ca_file: Annotated[
        Path | None,
        _Entry(
            readers.path("a file"),
            "certificate authorities (PEM); callers of the operators' endpoints then need a certificate from one",
        ),
    ] = None
    tls_ca_file: Annotated[
        Path | None,
        _Entry(
            readers.path("a file"),
            "certificate authorities by which the command line trusts the services (PEM); defaults to those of "
            "the system",
        ),
    ] = None
    tls_client_certificate_file: Annotated[
        Path | None, _Entry(readers.path("a file"), "client certificate of the command line (PEM)")
    ] = None
    tls_client_key_file: Annotated[Path | None, _Entry(readers.path("a file"), "its key (PEM)")] = None
    allowed_hosts: Annotated[
        str,
        _Entry(
            readers.host_names(), "host names under which clients may call the services, besides this machine's own"
        ),
    ] = ""
    tokens_file: Annotated[
        Path | None, _Entry(readers.path("a file"), "file of the tokens; defaults to tokens.json in the home")
    ] = None
    token: Annotated[
        Secret | None,
        _Entry(readers.bearer(), "token that the command line sends; defaults to the home's own"),
    ] = None
    anonymous: Annotated[
        bool, _Entry(readers.switch(), "on loopback, let callers without a token read and place orders")
    ] = True
    insecure: Annotated[
        bool, _Entry(readers.switch(), "beyond loopback, do without tokens and TLS; not for production")
    ] = False
    two_person: Annotated[
        bool, _Entry(readers.switch(), "what needs an approver needs two: one proposes, another approves")
    ] = False
    oidc_issuer: Annotated[
        str | None, _Entry(readers.http_url(), "OpenID provider whose tokens are accepted, besides our own")
    ] = None
    oidc_audience: Annotated[
        str | None, _Entry(readers.text("a name"), "audience that the provider's tokens must name")
    ] = None
    oidc_jwks: Annotated[
        str | None,
        _Entry(readers.text("a file or an https URL"), "the provider's keys; defaults to what the issuer publishes"),
    ] = None
    oidc_role_claim: Annotated[
        str, _Entry(readers.text("a claim such as roles or realm_access.roles"), "claim that names the roles")
    ] = "roles"
    oidc_shop_claim: Annotated[
        str, _Entry(readers.text("a claim"), "claim that names the shop, for the role shop")
    ] = "shop"
    partitions: Annotated[int, _Entry(readers.whole(1, 1024), "partitions of a new topic")] = 6
    topic_retention_hours: Annotated[int, _Entry(_HOURS, "how long a topic keeps its records")] = 168
    replication_factor: Annotated[int, _Entry(readers.whole(1, 15), "copies of a new Kafka topic")] = 1
    batch_max: Annotated[int, _Entry(readers.whole(1, 10_000), "maximum number of messages in a transaction")] = 500
    attempts_max: Annotated[
        int, _Entry(readers.whole(1, 1000), "how often a failing event is tried before it is dead")
    ] = 6
    retry_first_ms: Annotated[
        int, _Entry(readers.whole(1, 3_600_000), "longest wait before the second try of a failing event; it doubles")
    ] = 2_500
    retry_ceiling_ms: Annotated[
        int, _Entry(readers.whole(1, 86_400_000), "longest wait between two tries of a failing event")
    ] = 40_000
    parked_keys_max: Annotated[
        int, _Entry(readers.whole(1, 1_000_000), "with more parked keys at a consumer, its partitions wait")
    ] = 10_000
    parked_depth_max: Annotated[
        int, _Entry(readers.whole(1, 100_000), "with more events behind a parked one, its partition waits")
    ] = 1_000
    outbox_keep_hours: Annotated[int, _Entry(_HOURS, "how long published outbox rows are kept")] = 24
    outbox_slots: Annotated[int, _Entry(readers.whole(1, 1024), "number of outbox slots that relays share")] = 16
    gateway_timeout_ms: Annotated[
        int, _Entry(readers.whole(10, 600_000), "longest wait for an answer from the bank")
    ] = 2000
    gateway_concurrency: Annotated[int, _Entry(readers.whole(1, 10_000), "calls to the bank at a time")] = 256
    intent_lease_ms: Annotated[
        int, _Entry(readers.whole(100, 3_600_000), "how long an intent belongs to the one process that asks it")
    ] = 8_000
    http_token_rate_max: Annotated[
        int | None,
        _Entry(
            readers.whole(1, 1_000_000), "requests per second with one token; by default 1000, unlimited on loopback"
        ),
    ] = None
    http_address_rate_max: Annotated[
        int | None,
        _Entry(
            readers.whole(1, 1_000_000),
            "requests per second from one address; by default 1000, unlimited on loopback",
        ),
    ] = None
    http_connections_max: Annotated[
        int, _Entry(readers.whole(8, 1_000_000), "with more connections to a service, new requests get a 503")
    ] = 10_000
    http_waiting_max: Annotated[
        int, _Entry(readers.whole(0, 1_000_000), "with more requests that wait for an order, new ones get a 503")
    ] = 5_000
    http_head_max_kb: Annotated[int, _Entry(readers.whole(1, 1024), "largest head of a request; beyond it, 431")] = 64
    http_body_max_kb: Annotated[
        int, _Entry(readers.whole(1, 102_400), "largest body of a request; beyond it, 413")
    ] = 64
    http_handshake_timeout_s: Annotated[int, _Entry(_TIMEOUT, "how long a TLS handshake may take")] = 10
    http_head_timeout_s: Annotated[
        int, _Entry(_TIMEOUT, "for the head of a request to arrive, from the connection or its first byte; then 408")
    ] = 10
    http_body_timeout_s: Annotated[int, _Entry(_TIMEOUT, "for the body of a request to arrive; then 408")] = 10
    http_answer_timeout_s: Annotated[int, _Entry(_TIMEOUT, "for the service to answer a request; then 503")] = 120
    http_write_timeout_s: Annotated[
        int, _Entry(_TIMEOUT, "for a client to take its answer, at 1 KB per second; then its connection is closed")
    ] = 10
    http_idle_timeout_s: Annotated[
        int, _Entry(_TIMEOUT, "how long a connection may be idle between two requests")
    ] = 75
    idempotency_keep_hours: Annotated[int, _Entry(_HOURS, "how long an Idempotency-Key is remembered")] = 24
    unfinished_orders_max: Annotated[
        int, _Entry(readers.whole(1, 100_000_000), "with more unfinished orders, new ones get a 503")
    ] = 100_000
    command_queue_max: Annotated[
        int, _Entry(readers.whole(1, 1_000_000), "with more waiting commands, new ones get a 503")
    ] = 4096
    drain_timeout_s: Annotated[int, _Entry(readers.whole(1, 3600), "longest time for a clean stop")] = 10
    log_format: Annotated[
        Literal["auto", "json", "text"],
        _Entry(readers.choice("auto", "json", "text"), "auto: text on a terminal, JSON elsewhere"),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _Entry(readers.choice("debug", "info", "warning", "error"), "least important level that is logged"),
    ] = "info"
    log_file: Annotated[Path | None, _Entry(readers.path("a file"), "log to this file instead of stderr")] = None
    log_file_max_mb: Annotated[int, _Entry(readers.whole(1, 100_000), "size at which a log file is rotated")] = 20
    log_files_kept: Annotated[int, _Entry(readers.whole(1, 1000), "how many rotated log files are kept")] = 5
    alert_url: Annotated[
        Secret | None,
        _Entry(readers.webhook_url(), "webhook that receives alerts about dead letters; none by default"),
    ] = None
    alert_secret: Annotated[
        Secret | None, _Entry(readers.webhook_secret(), "key that signs alerts (Standard Webhooks)")
    ] = None
    otlp_endpoint: Annotated[
        str | None,
        _Entry(
            readers.otlp_url(),
            "receiver of traces, OTLP over HTTP (or OTEL_EXPORTER_OTLP_ENDPOINT); none by default",
        ),
    ] = None
    otlp_sample_ratio: Annotated[
        str, _Entry(readers.share(), "share of traces beginning here that is kept; others follow their own flag")
    ] = "1"
    demo_catalogue: Annotated[bool, _Entry(readers.switch(), "stock an empty inventory with a few SKUs")] = True
    game_day: Annotated[
        bool, _Entry(readers.switch(), "let `orderflow fault` set faults, for exercises; not for production")
    ] = False
    crash_at: Annotated[
        str,
        _Entry(readers.crash_at(service_names), "crash points at which services die, for tests; not for production"),
    ] = "never"
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


def _entries() -> dict[str, _Entry]:
    """Of every setting, those of the services among them."""
    found: dict[str, _Entry] = {}
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        if hasattr(hint, "__metadata__"):
            found[name] = hint.__metadata__[0]
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
