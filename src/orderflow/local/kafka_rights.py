"""Who may do what on Kafka: a user and a password a service, and an ACL a service.

A service writes the topics that its declaration publishes, flow-status, and the dead letters of what it reads; it
reads what it subscribes to. Operators make topics and read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from orderflow.core.dead_letters import FLOW_STATUS, topic_of
from orderflow.core.kafka.security import Refusals
from orderflow.core.kafka.settings import READERS
from orderflow.core.service import Service
from orderflow.core.transport import REGISTER
from orderflow.local.errors import LocalError
from orderflow.local.kafka import OwnersListener
from orderflow.local.services import definitions
from orderflow.settings import Settings, SettingsError

ITERATIONS = 8192
TIMEOUT_S = 30.0
Right = tuple[ResourceType, str, AclOperation]
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What topics and groups of this installation are called before their names."""

    topics: str
    groups: str

    @classmethod
    def of(cls, settings: Settings) -> Prefixes:
        topics = settings.topic_prefix
        return cls(topics, topics if settings.group_prefix is None else settings.group_prefix)


def rights_of(service: Service, prefixes: Prefixes) -> Iterator[Right]:
    """Each right that implies another (READ and WRITE imply DESCRIBE) stands alone."""
    for topic in {*service.publishes, FLOW_STATUS, *map(topic_of, service.reads)}:
        yield TOPIC, prefixes.topics + topic, WRITE
    for topic in service.reads:
        yield TOPIC, prefixes.topics + topic, READ
    for each in service.subscriptions:
        yield GROUP, prefixes.groups + each.consumer, READ
    # Whose topics these are; and the client that reads that has the name of a group, which it never joins.
    for prefix in {prefixes.topics, prefixes.groups}:
        yield TOPIC, prefix + REGISTER, READ
    yield GROUP, READERS, DESCRIBE


def rights_of_operators(prefixes: Prefixes) -> Iterator[Right]:
    """They make topics and read everything. They write nothing but whose the topics are: no event is theirs."""
    yield TOPIC, "*", READ
    yield TOPIC, "*", AclOperation.CREATE
    yield GROUP, "*", DESCRIBE
    for prefix in {prefixes.topics, prefixes.groups}:
        yield TOPIC, prefix + REGISTER, WRITE


@dataclass(frozen=True, slots=True)
class User:
    """Who is known to Kafka by a name and a password, and what that one may do."""

    name: str
    password: str = field(repr=False)
    rights: frozenset[Right]


def users(settings: Settings) -> list[User]:
    """A user for each service, by the names and passwords of the settings, and one for operators.

    Raises SettingsError: one has no name or no password of its own.
    """
    prefixes = Prefixes.of(settings)
    rights = {name: rights_of(service, prefixes) for name, service in definitions().items()}
    found = []
    for service, right in ({"": rights_of_operators(prefixes)} | rights).items():
        given = settings.kafka_user_of(service) if service else (settings.kafka_username, settings.kafka_password)
        name, password = given
        if name is None or password is None:
            prefix = f"ORDERFLOW_{service.upper()}{service and '_'}KAFKA_"
            raise SettingsError(f"{service or 'operators'}: set {prefix}USERNAME and {prefix}PASSWORD")
        found.append(User(name, password.reveal(), frozenset(right)))
    if len({user.name for user in found}) < len(found):
        raise SettingsError("two services, or a service and operators, share one Kafka username: give each its own")
    return found


def of_owner(owners: OwnersListener) -> Mapping[str, str]:
    """How the owner of the home comes to its own broker: options of the library."""
    return {
        "bootstrap.servers": owners.bootstrap,
        "security.protocol": "ssl",
        "ssl.ca.location": str(owners.authority),
        "ssl.certificate.location": str(owners.issued.certificate),
        "ssl.key.location": str(owners.issued.key),
    }


def of_administrator(settings: Settings, options: Path | None) -> Mapping[str, str]:
    """How an administrator comes to the Kafka of the settings: options of the library, in the lines of a file.

    Raises LocalError.
    """
    lines = [] if options is None else options.read_text(encoding="utf-8").splitlines()
    given = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    found = {name.strip(): value.strip() for name, _, value in given}
    return {"bootstrap.servers": settings.kafka_bootstrap, **found}


def in_words(right: Right) -> str:
    kind, name, operation = right
    return f"{operation.name} {kind.name} {name}"


def grant(granted: Sequence[User], connection: Mapping[str, str]) -> int:
    """Leave these users with their passwords and these rights, and none besides; how many rights were changed.

    `connection` is that of somebody who may do so. Raises LocalError.
    """
    refusals = Refusals()
    wanted = {_binding(user.name, right) for user in granted for right in user.rights}
    principals = {f"User:{user.name}" for user in granted}
    try:
        configuration: dict[str, Any] = {**connection, "log_level": 0, "error_cb": refusals.hear}
        client = AdminClient(configuration)
        client.list_topics(timeout=TIMEOUT_S)
        _set_passwords(client, granted)
        every = client.describe_acls(_EVERYTHING, request_timeout=TIMEOUT_S).result(TIMEOUT_S)
        found = {each for each in every if each.principal in principals}
        if missing := list(wanted - found):
            _wait(client.create_acls(missing, request_timeout=TIMEOUT_S))
        if others := [_only(binding) for binding in found - wanted]:
            _wait(client.delete_acls(others, request_timeout=TIMEOUT_S))
    except (KafkaException, TimeoutError) as error:
        with suppress(KafkaException, UnboundLocalError):
            client.poll(0)
        why = f"Kafka {refusals.why}" if refusals.why else str(error)
        raise LocalError(f"the rights on Kafka could not be set: {why}") from error
    return len(missing) + len(others)


def _set_passwords(client: AdminClient, granted: Sequence[User]) -> None:
    hashed = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[Any] = [UserScramCredentialUpsertion(user.name, hashed, user.password.encode()) for user in granted]
    _wait(client.alter_user_scram_credentials(changes, request_timeout=TIMEOUT_S))


def _binding(user: str, right: Right) -> AclBinding:
    kind, name, operation = right
    literal = ResourcePatternType.LITERAL
    return AclBinding(kind, name, literal, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


_ANY: Any = None
_EVERYTHING = AclBindingFilter(
    ResourceType.ANY, _ANY, ResourcePatternType.ANY, _ANY, _ANY, AclOperation.ANY, AclPermissionType.ANY
)


def _only(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _wait(futures: Mapping[Any, Future[Any]]) -> None:
    for future in futures.values():
        future.result(TIMEOUT_S)
