"""Who may do what on the broker that `up --secure` starts: a user and a password a service, and an ACL a service.

A service writes the topics that its declaration publishes, flow-status, and the dead letters of what it reads; it
reads what it subscribes to. Operators make topics and read them. The home's owner may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from orderflow.core.dead_letters import FLOW_STATUS, topic_of
from orderflow.core.kafka.settings import READERS
from orderflow.core.service import Service
from orderflow.core.transport import REGISTER
from orderflow.local.errors import LocalError
from orderflow.local.home import kafka_password
from orderflow.local.kafka import Doors
from orderflow.local.services import definitions
from orderflow.local.state import KAFKA_OPERATOR
from orderflow.settings import Settings

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
    read = {topic for each in service.subscriptions for topic in each.topics}
    for topic in {*service.publishes, FLOW_STATUS, *map(topic_of, read)}:
        yield TOPIC, prefixes.topics + topic, WRITE
    for topic in read:
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


def grant(settings: Settings, doors: Doors) -> None:
    """Leave on the broker the users with the home's passwords, and these rights, and no others. Raises LocalError."""
    services, prefixes = definitions(), Prefixes.of(settings)
    rights: Mapping[str, Iterable[Right]] = {
        **{name: rights_of(service, prefixes) for name, service in services.items()},
        KAFKA_OPERATOR: rights_of_operators(prefixes),
    }
    wanted = {_binding(user, right) for user, each in rights.items() for right in each}
    client = AdminClient(
        {
            "bootstrap.servers": doors.bootstrap,
            "security.protocol": "ssl",
            "ssl.ca.location": str(doors.authority),
            "ssl.certificate.location": str(doors.issued.certificate),
            "ssl.key.location": str(doors.issued.key),
            "log_level": 0,
        }
    )
    try:
        _set_passwords(client, {user: kafka_password(settings.home, user) for user in rights})
        found = set(client.describe_acls(_EVERYTHING, request_timeout=TIMEOUT_S).result(TIMEOUT_S))
        if missing := list(wanted - found):
            _wait(client.create_acls(missing, request_timeout=TIMEOUT_S))
        if others := [_only(binding) for binding in found - wanted]:
            _wait(client.delete_acls(others, request_timeout=TIMEOUT_S))
    except (KafkaException, TimeoutError) as error:
        raise LocalError(f"the rights on the local Kafka could not be set: {error}") from error


def _set_passwords(client: AdminClient, passwords: Mapping[str, str]) -> None:
    hashed = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: Sequence[Any] = [
        UserScramCredentialUpsertion(user, hashed, password.encode()) for user, password in passwords.items()
    ]
    _wait(client.alter_user_scram_credentials(list(changes), request_timeout=TIMEOUT_S))


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
