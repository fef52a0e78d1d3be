"""The AsyncAPI document of a system: its topics, the events on them, and which service sends or reads which.

AsyncAPI 3.1.0 (asyncapi.com/docs/reference/specification/v3.1.0) with the Kafka bindings 0.5.0. Everything in it
comes from the services' declarations, so it cannot say anything else than what the code does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from orderflow.core.dead_letters import topic_of
from orderflow.core.messages import Event, wire_name
from orderflow.core.service import Service

Json = dict[str, Any]

VERSION = "3.1.0"
JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_KAFKA = {"bindingVersion": "0.5.0"}
_SCHEMAS = "#/components/schemas/"
_LETTER = "DeadLetter"
_TEXT = {"type": "string"}
_DESCRIPTION = (
    "What the services tell each other. Every record is a CloudEvents 1.0 event in Kafka's binary content mode: "
    "attributes in headers that begin with ce_, a JSON object as the value, the order id as the key. Records of one "
    "key stand in one partition and are handled in their order. A record may come twice, with the same ce_id."
)


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


_CLOUD_EVENT: Json = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject"],
    "properties": {
        "ce_specversion": _text("The version of CloudEvents.", const="1.0"),
        "ce_id": _text("The same decision made twice is the same event, with the same id.", format="uuid"),
        "ce_type": _text("The name of the type and its version."),
        "ce_source": _text("The service that says it.", examples=["/orderflow/order"]),
        "ce_subject": _text("The order's id, which is the key of the record as well."),
        "ce_sequence": _text(
            "Counts the events of this source for this key from 1 on: a gap can be seen.", pattern="^[0-9]{1,18}$"
        ),
        "ce_time": _text("When the event was written, by the clock of the service's database.", format="date-time"),
        "ce_causationid": _text("The id of the message that caused it."),
        "traceparent": _text("W3C Trace Context, from the HTTP request on."),
        "content-type": _text("Of the value.", const="application/json"),
    },
}
_WHY: Json = {
    "type": "object",
    "description": "The headers of the original, byte for byte, and these beside them.",
    "required": ["dlt_consumer", "dlt_topic", "dlt_partition", "dlt_offset", "dlt_event_id", "dlt_error"],
    "properties": {
        "dlt_consumer": _text("Who gave it up."),
        "dlt_topic": _text("Where the record stood."),
        "dlt_partition": _text("Where the record stood."),
        "dlt_offset": _text("Where the record stood."),
        "dlt_event_id": _text("Its identity in the consumer's inbox."),
        "dlt_attempts": _text("How often it was tried."),
        "dlt_first_failed_at": _text("By the clock of the database.", format="date-time"),
        "dlt_last_failed_at": _text("By the clock of the database.", format="date-time"),
        "dlt_failure": _text("Whether it can never be read, or a decision or the database refused it."),
        "dlt_error": _text("The class of the error."),
        "dlt_message": _text("What the error said, short and without control characters."),
        "dlt_fingerprint": _text("Equal failures have the same."),
        "dlt_service_version": _text("The release that gave it up."),
        "dlt_trace_id": _text("The trace of the original, if it has one."),
        "dlt_omitted": _text("Of how many bytes the original was, if not all of it is here."),
        "dlt_omitted_parts": _text("Which parts of it are not here."),
        "dlt_value_sha256": _text("The SHA-256 of the value, if not all of the original is here."),
        "dlt_whole": _text("Where all of it is, if not here."),
    },
}


def asyncapi_of(services: Sequence[Service], version: str) -> Json:
    """The document of these services together, as plain data. `version` is the release's."""
    types = _events_of(services)
    read = list(dict.fromkeys(topic for each in services for topic in each.reads))
    topics = list(dict.fromkeys([*(topic for each in services for topic in each.publishes), *read]))
    names = {topic: _names_on(topic, types, services) for topic in topics}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Orderflow: events",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            **{topic: _channel(topic, _who(topic, services), on) for topic, on in names.items()},
            **{
                topic_of(topic): _channel(topic_of(topic), f"What consumers of {topic} gave up.", [_LETTER])
                for topic in read
            },
        },
        "operations": _operations(services, names),
        "components": {
            "messages": {**_messages(types, names), _LETTER: _letter()},
            "messageTraits": {
                "CloudEvent": {"headers": _CLOUD_EVENT, "bindings": {"kafka": {"key": _TEXT, **_KAFKA}}}
            },
            "schemas": _schemas(types),
        },
    }


def json_schemas_of(document: Json) -> Mapping[str, Json]:
    """By message of such a document: a JSON Schema of its value that stands alone (draft 2020-12)."""
    messages, schemas = document["components"]["messages"], document["components"]["schemas"]
    found: dict[str, Json] = {}
    for name, message in messages.items():
        reference = message.get("payload", {}).get("$ref", "")
        if reference.startswith(_SCHEMAS):
            definitions = {each: _moved(schemas[each]) for each in sorted(_needed(reference, schemas))}
            found[name] = {
                "$schema": JSON_SCHEMA,
                "$id": f"urn:orderflow:{name}",
                "$ref": f"#/$defs/{reference.removeprefix(_SCHEMAS)}",
                "$defs": definitions,
            }
    return found


def _events_of(services: Sequence[Service]) -> Mapping[str, type[Event]]:
    """By name: what is read, and what else these services' topics carry, though none of them reads it."""
    published = {topic for each in services for topic in each.publishes}
    known = [each for service in services for each in service.catalogue.types if issubclass(each, Event)]
    return {wire_name(each): each for each in (*known, *_said(services)) if each.TOPIC in published}


def _said(services: Sequence[Service]) -> Iterable[type[Event]]:
    """The events that the modules of the handlers know: what they say is among them."""
    for service in services:
        for handler in service.handlers.values():
            place = inspect.getmodule(inspect.unwrap(handler.decide))
            for each in vars(place).values() if place else ():
                if isinstance(each, type) and issubclass(each, Event) and hasattr(each, "TYPE"):
                    yield each


def _names_on(topic: str, types: Mapping[str, type[Event]], services: Sequence[Service]) -> Sequence[str]:
    """Today's versions, then the older ones that somebody still reads."""
    today = [name for name, each in types.items() if topic == each.TOPIC]
    of_topic = {types[name].TYPE for name in today}
    older = {name for each in services for name in each.catalogue.names if name.rpartition(".v")[0] in of_topic}
    return [*today, *sorted(older - set(today))]


def _who(topic: str, services: Sequence[Service]) -> str:
    writers = [each.name for each in services if topic in each.publishes]
    readers = [each.name for each in services if topic in each.reads]
    return f"Written by {', '.join(writers) or 'nobody here'}; read by {', '.join(readers) or 'nobody here'}."


def _channel(topic: str, description: str, messages: Iterable[str]) -> Json:
    return {
        "address": topic,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, **_KAFKA}},
    }


def _operations(services: Sequence[Service], names: Mapping[str, Sequence[str]]) -> Json:
    found: Json = {}
    for service in services:
        for topic in service.publishes:
            sent = [name for name in names[topic] if _is_newest(name, names[topic])]
            found[f"{service.name}.send.{topic}"] = _operation("send", service, topic, sent)
        for subscription in service.subscriptions:
            group: Json = {"kafka": {"groupId": {**_TEXT, "const": subscription.consumer}, **_KAFKA}}
            for topic in subscription.topics:
                read = [name for name in names[topic] if name in service.catalogue.names]
                operation = _operation("receive", service, topic, read)
                found[f"{subscription.consumer}.receive.{topic}"] = {**operation, "bindings": group}
                given_up = _operation("send", service, topic_of(topic), [_LETTER])
                found.setdefault(f"{service.name}.send.{topic_of(topic)}", given_up)
    return found


def _is_newest(name: str, on_topic: Iterable[str]) -> bool:
    """Of a type that stands there in several versions, the newest is what is sent."""
    stem, _, version = name.rpartition(".v")
    versions = [int(other.removeprefix(f"{stem}.v")) for other in on_topic if other.startswith(f"{stem}.v")]
    return int(version) == max(versions)


def _operation(action: str, service: Service, topic: str, names: Iterable[str]) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "summary": f"The {service.name} service {'says' if action == 'send' else 'reads'} it.",
        "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in names],
    }


def _messages(types: Mapping[str, type[Event]], names: Mapping[str, Sequence[str]]) -> Json:
    return {name: _message(name, types.get(name)) for on_topic in names.values() for name in on_topic}


def _message(name: str, event: type[Event] | None) -> Json:
    title = name.rpartition(".v")[0].rpartition(".")[2]
    told: Json = {
        "name": name,
        "title": title,
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/CloudEvent"}],
        "correlationId": {"description": "The order's id", "location": "$message.header#/ce_subject"},
    }
    if event is None:
        return {**told, "summary": "An older version, which is still read.", "payload": {"type": "object"}}
    description = inspect.cleandoc(event.__doc__ or "")
    return {**told, "summary": description.partition("\n")[0], "payload": {"$ref": f"{_SCHEMAS}{event.__name__}"}}


def _letter() -> Json:
    return {
        "name": _LETTER,
        "title": "Dead letter",
        "summary": "A record that a consumer gave up: its key, value and headers as they were, and why.",
        "headers": _WHY,
        "payload": {"description": "The value of the original, whatever it is."},
        "bindings": {"kafka": {"key": _TEXT, **_KAFKA}},
    }


def _schemas(types: Mapping[str, type[Event]]) -> Json:
    _, components = msgspec.json.schema_components(types.values(), ref_template=_SCHEMAS + "{name}")
    for each in components.values():
        each["description"] = inspect.cleandoc(each.get("description", ""))
    plain: Json = msgspec.json.decode(msgspec.json.encode(dict(sorted(components.items()))))
    return plain


def _needed(reference: str, schemas: Json) -> set[str]:
    """The schemas that this one leads to, with itself."""
    found: set[str] = set()
    waiting = [reference.removeprefix(_SCHEMAS)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [each.removeprefix(_SCHEMAS) for each in _references(schemas[name])]
    return found


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _references(each)


def _moved(node: Any) -> Any:
    """The same with its references led to `$defs`."""
    if isinstance(node, dict):
        return {name: _moved(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_moved(each) for each in node]
    return node.replace(_SCHEMAS, "#/$defs/", 1) if isinstance(node, str) and node.startswith(_SCHEMAS) else node
