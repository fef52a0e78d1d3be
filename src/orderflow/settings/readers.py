"""How the text of a setting becomes its value, and what is said when it cannot. No secret shows itself."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final
from urllib.parse import quote, urlsplit, urlunsplit

from orderflow.core import crash_points


class SettingsError(Exception):
    """Names the key, the value and what was wanted. Its text is fit to be shown to a user."""


def database_of(server_url: str, database: str) -> str:
    """`server_url` with its user and database replaced by `database`; password, hosts and options stay."""
    parts = urlsplit(server_url)
    user_info, _, hosts = parts.netloc.rpartition("@")
    _, colon, password = user_info.partition(":")
    netloc = f"{quote(database)}{colon}{password}@{hosts}"
    return urlunsplit((parts.scheme, netloc, f"/{quote(database)}", parts.query, ""))


def with_password(url: str, password: Secret | None, *, instead: bool = False) -> str:
    """The URL with this password, if it has none (or `instead` of its own)."""
    parts = urlsplit(url)
    user_info, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = user_info.partition(":")
    if password is None or not at or (colon and not instead):
        return url
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password.reveal(), safe='')}@{hosts}"))


_USER_INFO = re.compile(r"^(?P<front>[a-z][a-z0-9+.-]*://[^:@/?#]*):.*@(?P<tail>[^@]*)$", re.IGNORECASE)
_PARAMETER = re.compile(r"(?<=password=)[^&\s]*", re.IGNORECASE)
HIDDEN = "***"


@final
class Secret:
    """Holds text; `reveal()` is the only way to it. Its repr and str show `shown`, or it without its password."""

    __slots__ = ("_shown", "_value")

    def __init__(self, value: str, shown: str | None = None) -> None:
        self._value = value
        self._shown = hide_password(value) if shown is None else shown

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not pickled")


def hide_password(url: str) -> str:
    """The URL with its password (in the user info, or a `password=` parameter) replaced by ***."""
    match = _USER_INFO.match(url)
    if match:
        url = f"{match['front']}:{HIDDEN}@{match['tail']}"
    return _PARAMETER.sub(HIDDEN, url)


_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_FILE_MAX = 64 * 1024
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]")
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True, slots=True)
class ValueReader:
    """`read` raises ValueError for what is not wanted; `expected` finishes the sentence "wanted: …".

    What is `hidden` is not repeated there. A `secret` can be given by a file.
    """

    expected: str
    read: Callable[[object], object]
    hidden: bool = False
    secret: bool = False


class SettingInfo(NamedTuple):
    """How a setting's text is read, and what the setting means."""

    reader: ValueReader
    meaning: str


INFO = "info"
"""Where the metadata of a field says this."""


def setting(default: object, reader: ValueReader, meaning: str) -> Any:
    """A field of `Settings` with its default."""
    return field(default=default, metadata={INFO: SettingInfo(reader, meaning)})


def whole(low: int, high: int) -> ValueReader:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError  # noqa: TRY004  (every refusal is one kind of error)
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return ValueReader(f"a whole number from {low} to {high}", read)


def switch() -> ValueReader:
    def read(value: object) -> bool:
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise ValueError
        return text in _TRUE

    return ValueReader("true or false", read)


def choice(*names: str) -> ValueReader:
    """One of these, in capitals or not."""
    spelt = {name.lower(): name for name in names}

    def read(value: object) -> str:
        text = str(value).strip().lower()
        if text not in spelt:
            raise ValueError
        return spelt[text]

    return ValueReader(" or ".join([", ".join(names[:-1]), names[-1]]), read)


def text(expected: str) -> ValueReader:
    def read(value: object) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError
        return value.strip()

    return ValueReader(expected, read)


def name_prefix() -> ValueReader:
    """As Kafka allows in the names of topics; at the end of the longest of ours there is room for it."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not _PREFIX.fullmatch(value.strip()):
            raise ValueError
        return value.strip()

    return ValueReader("at most 100 letters, digits, dots, underscores and hyphens, such as shop1.", read)


def addresses() -> ValueReader:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  (every refusal is one kind of error)
        each = [part.strip() for part in value.split(",")]
        for part in each:
            host, _, port = part.rpartition(":")
            if not host or not part.isprintable() or " " in part or not 0 < int(port) < 65536:
                raise ValueError
        return ",".join(each)

    return ValueReader("HOST:PORT[,HOST:PORT]", read)


def host_names() -> ValueReader:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  (every refusal is one kind of error)
        each = [part.strip().lower().rstrip(".") for part in value.split(",") if part.strip()]
        if not all(_HOST_NAME.fullmatch(part) for part in each):
            raise ValueError
        return ",".join(each)

    return ValueReader("NAME[,NAME], without ports, such as orders.example,order", read)


def bearer() -> ValueReader:
    """RFC 6750, 2.1: what can stand in the header."""

    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        text = str(value).strip()
        if not _BEARER.fullmatch(text):
            raise ValueError
        return Secret(text, shown=HIDDEN)

    return ValueReader("a token such as `orderflow token create` shows", read, hidden=True, secret=True)


def path(expected: str) -> ValueReader:
    def read(value: object) -> Path:
        if not isinstance(value, str | Path) or "\0" in str(value):
            raise ValueError
        return Path(value).expanduser().absolute()

    return ValueReader(expected, read)


def http_url() -> ValueReader:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  (every refusal is one kind of error)
        parts = urlsplit(value.strip())
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError
        return value.strip().rstrip("/")

    return ValueReader("a URL such as http://127.0.0.1:8001", read)


def otlp_url() -> ValueReader:
    """What a receiver wants to know of us goes into OTEL_EXPORTER_OTLP_HEADERS: no password stands in this one."""
    plain = http_url()

    def read(value: object) -> object:
        url = plain.read(value)
        if "@" in urlsplit(str(url)).netloc:
            raise ValueError
        return url

    return ValueReader("a URL such as http://127.0.0.1:4318, without a password", read)


def share() -> ValueReader:
    """Kept as the text that was given."""

    def read(value: object) -> str:
        text = str(value).strip()
        if isinstance(value, bool) or not 0 <= float(text) <= 1:
            raise ValueError
        return text

    return ValueReader("a number from 0 to 1, such as 0.05", read)


def postgres_url(expected: str) -> ValueReader:
    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  (every refusal is one kind of error)
        if urlsplit(value.strip()).scheme not in {"postgresql", "postgres"}:
            raise ValueError
        return Secret(value.strip())

    return ValueReader(expected, read, secret=True)


def crash_at(services: Callable[[], Sequence[str]]) -> ValueReader:
    def read(value: object) -> str:
        text = str(value).strip()
        crash_points.parse(text, services())
        return text

    return ValueReader("never, or [SERVICE:]POINT[@N][,...] such as payment:relay.read@2 (docs/guarantees.md)", read)


def webhook_url() -> ValueReader:
    """Its path and query often are the credential, so only the receiver's name is shown."""

    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        text = str(value).strip()
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0 or not text.isprintable():
            raise ValueError
        place = parts.netloc.rpartition("@")[2]
        return Secret(text, shown=f"{parts.scheme}://{place}/{HIDDEN}")

    return ValueReader("an http or https URL such as https://alerts.example/hook", read, hidden=True, secret=True)


def webhook_secret() -> ValueReader:
    """A symmetric key as the Standard Webhooks specification has it: 24 to 64 bytes in base64."""

    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        prefix, _, encoded = str(value).strip().partition("_")
        if prefix != "whsec" or not 24 <= len(b64decode(encoded, validate=True)) <= 64:
            raise ValueError
        return Secret(str(value).strip(), shown=f"whsec_{HIDDEN}")

    return ValueReader("whsec_ and 24 to 64 bytes in base64", read, hidden=True, secret=True)


MASTER_KEY_SIZE = 32


def master_key() -> ValueReader:
    """A key of 32 bytes in base64, of either alphabet, padded or not."""

    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        text = str(value).strip()
        if len(master_key_of(text)) != MASTER_KEY_SIZE:
            raise ValueError
        return Secret(text, shown=HIDDEN)

    return ValueReader("32 bytes in base64, as `openssl rand -base64 32` makes them", read, hidden=True, secret=True)


def master_key_of(text: str) -> bytes:
    """Raises ValueError: it is not base64."""
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    return b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def password() -> ValueReader:
    def read(value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str) or not value or not value.isprintable():
            raise ValueError
        return Secret(value, shown=HIDDEN)

    return ValueReader("a password of printable characters", read, hidden=True, secret=True)


def in_file(reader: ValueReader) -> ValueReader:
    """The same from a file, whose last line may end. Reading raises OSError."""

    def read(value: object) -> object:
        with Path(str(value)).expanduser().open("rb") as file:
            held = file.read(_FILE_MAX).decode()
        return reader.read(held.removesuffix("\n").removesuffix("\r"))

    return ValueReader(f"a file that holds {reader.expected}", read)
