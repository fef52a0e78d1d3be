"""Where settings come from: command line over environment over file over what the home runs on."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orderflow.registry import RESERVED
from orderflow.settings.readers import (
    HIDDEN,
    SettingsError,
    ValueReader,
    hide_password,
    http_url,
    in_file,
    password,
    postgres_url,
    text,
    whole,
)

PREFIX = "ORDERFLOW_"
FILE_NAME = "orderflow.toml"
MARKER_NAME = "home.json"
REMEMBERED = "what the home runs on"
TRANSPORTS = ("postgres", "kafka")
_SHOWN_CHARACTERS = 120
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_RATIO = "OTEL_TRACES_SAMPLER_ARG"
IN_FILE = "_file"
_OWN = re.compile(
    r"([a-z][a-z0-9]*)_(database_password|database_url|kafka_password|kafka_username|ops_port|ops_url|port|url)"
)
_OWN_READERS: Mapping[str, ValueReader] = {
    "database_password": password(),
    "database_url": postgres_url("a URL such as postgresql://user:password@host:5432/database"),
    "kafka_password": password(),
    "kafka_username": text("a name"),
    "ops_port": whole(0, 65535),
    "ops_url": http_url(),
    "port": whole(0, 65535),
    "url": http_url(),
}


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A value that was given, and by whom."""

    value: object
    source: str


def collect(
    readers: Mapping[str, ValueReader],
    environ: Mapping[str, str],
    given: Mapping[str, object],
    home: Path,
    *,
    remember: bool,
    piped: Mapping[str, object],
) -> dict[str, GivenValue]:
    """Every setting that somebody gave, what the home remembers (with `remember`), and `home`. What was `piped` wins.

    Among them those of one service, such as `<name>_database_url`, also where it is not registered.
    Raises SettingsError, also when what was given contradicts what is remembered.
    """
    found = dict(_from_pipe(readers, piped))
    for name, item in _from_command_line(readers, given):
        found.setdefault(name, item)
    for name, item in _from_environment(readers, environ):
        found.setdefault(name, item)
    for name, item in _from_standard(readers, environ):
        found.setdefault(name, item)
    found.setdefault("home", GivenValue(home, "default"))
    folder = found["home"].value
    assert isinstance(folder, Path)
    for name, item in _from_file(readers, folder / FILE_NAME):
        found.setdefault(name, item)
    for name, item in _from_home(folder / MARKER_NAME) if remember else ():
        if name == "transport" and found.get(name, item).value != item.value:
            raise SettingsError(
                f"transport is {found[name].value} (from {found[name].source}), but the home {folder} runs on "
                f"{item.value}, whose events would not be seen. Remove that setting, or use another home; "
                "`orderflow up` can move a home to another transport"
            )
        found.setdefault(name, item)
    return found


def _from_home(marker: Path) -> Iterator[tuple[str, GivenValue]]:
    """The transport that `up` has noted, and where its broker stands. One that cannot be read says nothing."""
    try:
        noted = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    # Release 0.1.0 wrote "carrier".
    event_log = noted.get("event_log", noted.get("carrier")) if isinstance(noted, dict) else None
    if not isinstance(event_log, dict) or event_log.get("transport") not in TRANSPORTS:
        return
    yield "transport", GivenValue(event_log["transport"], REMEMBERED)
    where = event_log.get("bootstrap") or noted.get("broker")
    if event_log["transport"] == "kafka" and isinstance(where, str):
        yield "kafka_bootstrap", GivenValue(where, REMEMBERED)


def _from_pipe(readers: Mapping[str, ValueReader], piped: Mapping[str, object]) -> Iterator[tuple[str, GivenValue]]:
    for name, value in piped.items():
        reader = _reader(readers, name)
        if reader is None:
            raise SettingsError(f"standard input: {_unknown(name, readers)}")
        yield name, GivenValue(_read(reader, f"{name} of standard input", value), "standard input")


def _from_command_line(
    readers: Mapping[str, ValueReader], given: Mapping[str, object]
) -> Iterator[tuple[str, GivenValue]]:
    for name, value in given.items():
        if value is None:
            continue
        reader = _reader(readers, name)
        if reader is None:
            raise SettingsError(_unknown(name, readers))
        shown = f"--{name.replace('_', '-')}"
        yield name, GivenValue(_read(reader, shown, value), f"command line {shown}")


def _from_environment(
    readers: Mapping[str, ValueReader], environ: Mapping[str, str]
) -> Iterator[tuple[str, GivenValue]]:
    by_name: dict[str, str] = {}
    for key, value in environ.items():
        if not key.upper().startswith(PREFIX):
            continue
        known = _known(readers, key[len(PREFIX) :].lower()) if key.isupper() else None
        if known is None:
            raise SettingsError(_unknown(key, [PREFIX + each.upper() for each in readers]))
        if value != "":
            _once(by_name, known[0], key)
            yield known[0], GivenValue(_read(known[1], key, value), f"environment {key}")


def _from_standard(
    readers: Mapping[str, ValueReader], environ: Mapping[str, str]
) -> Iterator[tuple[str, GivenValue]]:
    """What OpenTelemetry's own variables say (opentelemetry.io, "General SDK Configuration")."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    names = {"otlp_endpoint": _ENDPOINT}
    if environ.get("OTEL_TRACES_SAMPLER") == "parentbased_traceidratio":
        names["otlp_sample_ratio"] = _RATIO
    for name, key in names.items():
        if name in readers and environ.get(key):
            yield name, GivenValue(_read(readers[name], key, environ[key]), f"environment {key}")


def _from_file(readers: Mapping[str, ValueReader], path: Path) -> Iterator[tuple[str, GivenValue]]:
    by_name: dict[str, str] = {}
    for name, value in _load(path).items():
        if name == "home":
            raise SettingsError(f"{path}: home cannot be set in a file inside it; use {PREFIX}HOME")
        known = _known(readers, name)
        if known is None:
            raise SettingsError(f"{path}: {_unknown(name, readers)}")
        _once(by_name, known[0], name)
        yield known[0], GivenValue(_read(known[1], f"{path}: {name}", value), f"file {path}")


def _once(by_name: dict[str, str], name: str, key: str) -> None:
    """Raises SettingsError: a secret is given by itself and by a file, and nobody knows which of them counts."""
    if (other := by_name.setdefault(name, key)) != key:
        raise SettingsError(f"{min(key, other)} and {max(key, other)} are both set; remove one of them")


def _known(readers: Mapping[str, ValueReader], name: str) -> tuple[str, ValueReader] | None:
    """The setting that a name means, and what reads it: a secret NAME can also be given by a file, as NAME_file."""
    if (reader := _reader(readers, name)) is not None:
        return name, reader
    whose = name.removesuffix(IN_FILE)
    reader = _reader(readers, whose) if whose != name else None
    return (whose, in_file(reader)) if reader is not None and reader.secret else None


def _reader(readers: Mapping[str, ValueReader], name: str) -> ValueReader | None:
    """Of a setting, or of one for a service that is not registered, whose name is no misspelt name of another."""
    if name in readers or (own := _OWN.fullmatch(name)) is None:
        return readers.get(name)
    if own[1] in RESERVED:
        return None
    ours = [each[: -len(own[2]) - 1] for each in readers if each.endswith(f"_{own[2]}")]
    return None if difflib.get_close_matches(own[1], ours, n=1) else _OWN_READERS[own[2]]


def _load(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error


def _read(reader: ValueReader, shown_name: str, value: object) -> object:
    try:
        return reader.read(value)
    except OSError as error:
        raise SettingsError(f"{shown_name}: {value} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        shown = HIDDEN if reader.hidden else hide_password(str(value))[:_SHOWN_CHARACTERS]
        raise SettingsError(f"{shown_name} is {shown!r}; expected: {reader.expected}") from error


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else "; see `orderflow settings`")
