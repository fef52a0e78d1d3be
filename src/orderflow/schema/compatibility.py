"""What may change in the events: each reader of one release must be able to read what the other one writes.

While a deployment rolls, and for as long as topics keep their records, both releases read what both have written. So
two AsyncAPI documents are compared in both directions: message by message, value by value. Readers pass over fields
that they do not know; everything else that a reader's schema does not allow is a break. The rules are those of JSON
Schema 2020-12 for the keywords that our types use; a keyword that is not known must be equal in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

Json = dict[str, Any]
Schema = Mapping[str, Any]

_SCHEMAS = "#/components/schemas/"
_NOTES = frozenset({"title", "description", "examples", "default", "$comment"})
"""What says nothing of the values that are allowed."""
_COUNTERPART = {"integer": "number"}
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_WALKED = frozenset({"type", "const", "enum", "anyOf", "properties", "required", "items", *_AT_LEAST, *_AT_MOST})


class Direction(StrEnum):
    """Who could not read whom."""

    OLD_READS_NEW = "the last release reads what this one writes"
    NEW_READS_OLD = "this release reads what the last one has written"


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a reader cannot read. `pointer` leads into the value (RFC 6901), "" to all of it."""

    direction: Direction
    topic: str
    message: str
    reader: str
    pointer: str
    why: str


class NotADocumentError(Exception):
    """What was given is no AsyncAPI 3 document of events. Its text is fit to be shown to a user."""


def breaks_between(old: Json, new: Json) -> Sequence[Break]:
    """Everything that one release could not read of the other, none of it twice. Raises NotADocumentError."""
    last, this = _Release(old), _Release(new)
    found = [*_unread(Direction.OLD_READS_NEW, this, last), *_unread(Direction.NEW_READS_OLD, last, this)]
    return list(dict.fromkeys(found))


class _Release:
    """Who sends and who reads what, by a document."""

    def __init__(self, document: Json) -> None:
        version = document.get("asyncapi") if isinstance(document, dict) else None
        if not str(version).startswith("3."):
            raise NotADocumentError(f"expected is an AsyncAPI 3 document, and asyncapi is {version!r}")
        try:
            self._messages: Json = document["components"]["messages"]
            self._schemas: Json = document["components"]["schemas"]
            self._operations = [
                (name, each["action"], _last(each["channel"]), {_last(message) for message in each["messages"]})
                for name, each in document["operations"].items()
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise NotADocumentError(
                f"expected is a document that `orderflow schema export` has written, and {error} is not in it"
            ) from error

    def operations(self, action: str) -> Iterator[tuple[str, str, set[str]]]:
        """Name, topic and messages of each."""
        return ((name, topic, messages) for name, does, topic, messages in self._operations if does == action)

    def value_of(self, message: str) -> Schema:
        return self.resolved(self._messages.get(message, {}).get("payload", {}))

    def resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._schemas.get(str(schema["$ref"]).removeprefix(_SCHEMAS), {})
        return schema


def _last(reference: Mapping[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


def _unread(direction: Direction, writer: _Release, reader: _Release) -> Iterator[Break]:
    for name, topic, known in reader.operations("receive"):
        for _, written_to, messages in writer.operations("send"):
            for message in sorted(messages) if written_to == topic else ():
                for pointer, why in _troubles(message, known, writer, reader):
                    who = name.partition(".receive.")[0]
                    yield Break(
                        direction=direction, topic=topic, message=message, reader=who, pointer=pointer, why=why
                    )


def _troubles(message: str, known: set[str], writer: _Release, reader: _Release) -> Iterator[tuple[str, str]]:
    if message not in known:
        yield "", "it does not know this type in this version, and gives it up as a dead letter"
        return
    yield from _Comparison(writer, reader).differences(writer.value_of(message), reader.value_of(message), "")


class _Comparison:
    """Of the values that a writer may send with those that a reader takes."""

    def __init__(self, writer: _Release, reader: _Release) -> None:
        self._writer = writer
        self._reader = reader

    def differences(self, sent: Schema, read: Schema, pointer: str) -> Iterator[tuple[str, str]]:
        """Where a value that fits `sent` may not fit `read`, and why."""
        sent, read = self._writer.resolved(sent), self._reader.resolved(read)
        if "anyOf" in sent:
            for each in sent["anyOf"]:
                yield from self.differences(each, read, pointer)
        elif "anyOf" in read:
            if not any(self._fits(sent, each) for each in read["anyOf"]):
                yield pointer, "it fits none of the forms that are read"
        else:
            yield from self._of_one_form(sent, read, pointer)

    def _fits(self, sent: Schema, read: Schema) -> bool:
        return next(self.differences(sent, read, ""), None) is None

    def _of_one_form(self, sent: Schema, read: Schema, pointer: str) -> Iterator[tuple[str, str]]:
        if "type" in read and not _is_type(sent.get("type"), read["type"]):
            yield pointer, f"it is {_named(sent.get('type'))}, and {_named(read['type'])} is read"
            return
        for why in (*_bounds(sent, read), *_choices(sent, read), *_others(sent, read)):
            yield pointer, why
        yield from self._members(sent, read, pointer)
        if "items" in read:
            yield from self.differences(sent.get("items", {}), read["items"], f"{pointer}/*")

    def _members(self, sent: Schema, read: Schema, pointer: str) -> Iterator[tuple[str, str]]:
        always = set(sent.get("required", ()))
        for name in read.get("required", ()):
            if name not in always:
                may = "can be left out" if name in sent.get("properties", {}) else "is not there"
                yield f"{pointer}/{name}", f"it {may}, and it is required where it is read"
        members: Schema = sent.get("properties", {})
        for name, schema in read.get("properties", {}).items():
            if name in members:
                yield from self.differences(members[name], schema, f"{pointer}/{name}")


def _is_type(sent: object, read: object) -> bool:
    return sent == read or (isinstance(sent, str) and _COUNTERPART.get(sent) == read)


def _named(kind: object) -> str:
    return "of any type" if kind is None else f"of the type {kind}"


def _bounds(sent: Schema, read: Schema) -> Iterator[str]:
    yield from _narrower(sent, read, _AT_LEAST, lambda mine, theirs: mine >= theirs)
    yield from _narrower(sent, read, _AT_MOST, lambda mine, theirs: mine <= theirs)


def _narrower(sent: Schema, read: Schema, keywords: Sequence[str], fits: Callable[[Any, Any], bool]) -> Iterator[str]:
    for keyword in keywords:
        if keyword in read and not (keyword in sent and fits(sent[keyword], read[keyword])):
            yield f"its {keyword} is {sent.get(keyword, 'not given')}, and {read[keyword]} is read"


def _choices(sent: Schema, read: Schema) -> Iterator[str]:
    theirs = [read["const"]] if "const" in read else read.get("enum")
    mine = [sent["const"]] if "const" in sent else sent.get("enum")
    if theirs is None:
        return
    if mine is None:
        yield f"it can be anything, and one of {theirs} is read"
    elif more := [each for each in mine if each not in theirs]:
        yield f"it can be {', '.join(map(str, more))}, which is not read"


def _others(sent: Schema, read: Schema) -> Iterator[str]:
    for keyword in sorted(read.keys() - _WALKED - _NOTES):
        if sent.get(keyword) != read[keyword]:
            yield f"its {keyword} is {sent.get(keyword, 'not given')}, and {read[keyword]} is read"
