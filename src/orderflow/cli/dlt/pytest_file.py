"""The text of a test that makes a parked event fail again. What comes from outside is in it as literals only."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pprint import pformat
from typing import Any

from orderflow.cli.dlt.letter_view import because
from orderflow.cli.errors import CliError
from orderflow.registry import service_names

ROW_TYPE = re.compile(r"(?P<module>orderflow(?:\.[a-z][a-z0-9_]*)+):(?P<name>[A-Z][A-Za-z0-9_]*)")
WIDTH = 110

FILE = '''\
"""An event that the {service} service could not handle, as it was stored.

{why}

Written by `orderflow dlt pytest`, for pytest, or for Python alone. It fails as the event did, and passes once the
code is mended.
"""

from uuid import UUID

{imports}

EVENT = ParkedEvent(
    key={key!r},
    identity={identity!r},
    event_id=UUID({event_id!r}),
    event_type={event_type!r},
    record=ConsumerRecord(
        topic={topic!r},
        partition={partition!r},
        offset={offset!r},
        key={record_key!r},
        value={value!r},
        headers={headers},
        timestamp={timestamp!r},
    ),
    attempts={attempts!r},
    intent={intent!r},
)
ROWS = [{rows}]


def {name}() -> None:
    incoming = from_parked(EVENT, SERVICE.catalogue)
    if incoming.problem is not None:
        raise incoming.problem
    if passed_over(SERVICE, incoming):
        return
    handler = handler_of(SERVICE, incoming.envelope.message)
    touched = set(handler.touches(incoming.envelope.message))
    rows = Rows({{row.ref: row for row in ROWS if row.ref in touched}})
    encoded(handler.decide(rows, incoming.envelope), incoming)


if __name__ == "__main__":
    {name}()
    print("It passes: the event is handled.")
'''


def file_of(reproduction: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the name of its test. Raises CliError: the service's answer is none that can be used."""
    service = reproduction["service"]
    types = [_row_type(row["type"]) for row in reproduction["rows"]]
    if service not in service_names():
        raise CliError(f"{service!r} is no service that this release knows")
    name = f"test_{service}_handles_{_words(reproduction['event_type'])}"
    why = _one_line(because(reproduction))
    written = FILE.format(
        **{field: reproduction[field] for field in _PLAIN},
        service=service,
        why=why or "it waits behind another",
        imports=_imports(service, types),
        record_key=_bytes(reproduction["record_key"]),
        value=_bytes(reproduction["value"]),
        headers=_indented(tuple((header, _bytes(value)) for header, value in reproduction["headers"])),
        rows="".join(
            f"\n    msgspec.convert({_indented(row['values'])}, {name}),"
            for row, (_, name) in zip(reproduction["rows"], types, strict=True)
        )
        + ("\n" if types else ""),
        name=name,
    )
    return written, name


_PLAIN = (
    "key",
    "identity",
    "event_id",
    "event_type",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "attempts",
    "intent",
)


def _row_type(said: str) -> tuple[str, str]:
    """Module and class. Raises CliError: nothing but a class of ours is imported."""
    match = ROW_TYPE.fullmatch(said)
    if match is None:
        raise CliError(f"{said!r} is no type of row that this release knows")
    return match["module"], match["name"]


def _imports(service: str, types: Sequence[tuple[str, str]]) -> str:
    rows: dict[str, set[str]] = {}
    for module, name in types:
        rows.setdefault(module, set()).add(name)
    lines = [
        "from orderflow.messaging.handling import encoded, handler_of, passed_over",
        "from orderflow.messaging.inbox import ParkedEvent",
        "from orderflow.messaging.incoming import from_parked",
        "from orderflow.messaging.rows import Rows",
        "from orderflow.messaging.transport import ConsumerRecord",
        *(f"from {module} import {', '.join(sorted(names))}" for module, names in rows.items()),
        f"from orderflow.{service}.service import SERVICE",
    ]
    return "\n".join((["import msgspec", ""] if types else []) + sorted(lines))


def _bytes(content: Mapping[str, Any]) -> bytes | None:
    if content["text"] is not None:
        return str(content["text"]).encode()
    return None if content["base64"] is None else b64decode(content["base64"])


def _indented(value: object) -> str:
    return pformat(value, width=WIDTH - 8, sort_dicts=False).replace("\n", "\n        ")


def _words(event_type: str) -> str:
    """`orderflow.OrderPlaced.v1` as `order_placed`; whatever else it is, a name."""
    last = re.sub(r"\.v\d+$", "", event_type).rpartition(".")[2]
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower()).strip("_")
    return words[:60] or "the_event"


def _one_line(words: str) -> str:
    """For a docstring: nothing that could end it."""
    return "".join(c if c.isprintable() and c not in '"\\' else " " for c in words)[:WIDTH]
