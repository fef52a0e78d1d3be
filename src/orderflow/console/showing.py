"""How values are shown: what every template may use. What comes from outside is text, and looks like text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from orderflow.events.currencies import KNOWN_CURRENCIES

HERE = Path(__file__).parent
SHORT = 8
TEXT_MAX = 20_000
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{EN DASH}"


def plain(value: object, limit: int = TEXT_MAX) -> str:
    """Text from outside: what would move, hide or reverse it is shown as a code; a long one is cut, and says so."""
    text = str(value)
    cut = f"… ({len(text):,} characters)" if len(text) > limit else ""
    kept = text[:limit]
    if kept.isprintable():
        return kept + cut
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in kept) + cut


def pretty(value: object) -> str:
    """JSON, set out in lines; text that is no JSON as it is."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
        return plain(json.dumps(found, indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return plain(value)


def money(amount: int, currency: str) -> str:
    """1234567 EUR → `12 345.67 EUR`."""
    digits = KNOWN_CURRENCIES.get(currency, 0)
    whole, part = divmod(abs(amount), 10**digits)
    sign = MINUS if amount < 0 else ""
    shown = f"{whole:,}".replace(",", NARROW_SPACE)
    return f"{sign}{shown}{f'.{part:0{digits}d}' if digits else ''} {plain(currency)}"


def number(value: float | None) -> str:
    """`1 234`; a fraction only where the number is small; an en dash where nobody knows."""
    if value is None:
        return UNKNOWN
    if value and abs(value) < 10 and value != int(value):
        return f"{value:.1f}"
    return f"{round(value):,}".replace(",", NARROW_SPACE)


def duration(ms: float | None) -> str:
    """`35 ms`, `1.2 s`, `4 min`, `3 h 5 min`."""
    if ms is None:
        return UNKNOWN
    if ms < 1_000:
        return f"{round(ms)} ms"
    seconds = ms / 1000
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in UNITS:
        if seconds >= size:
            rest = int(seconds % size) // (UNITS[UNITS.index((size, unit)) + 1][0] if size > 1 else 1)
            more = f" {rest} {UNITS[UNITS.index((size, unit)) + 1][1]}" if size > 60 and rest else ""
            return f"{int(seconds // size)} {unit}{more}"
    return f"{seconds:.0f} s"


def moment(value: object) -> datetime:
    """Of what the services send: a datetime, a text of RFC 3339, or ms since the epoch."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC)
    return datetime.fromisoformat(str(value))


def exact(value: object) -> str:
    return f"{moment(value).astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def clock(value: object) -> str:
    """`12:27:40.112`"""
    return f"{moment(value).astimezone(UTC):%H:%M:%S.%f}"[:-3]


def ago(value: object, now: datetime | None = None) -> Markup:
    """A time as a distance; the exact one is its title. The script of the page keeps it current."""
    at = moment(value)
    spent_ms = ((now or datetime.now(UTC)) - at).total_seconds() * 1000
    shown = "just now" if spent_ms < 1_000 else f"{duration(spent_ms)} ago"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), exact(at), shown)


def short(value: object) -> str:
    """The end of an id: the beginnings of ids of one minute are alike."""
    text = str(value)
    return text[-SHORT:] if len(text) == 36 else plain(text, 60)


def kind(event_type: str) -> str:
    """`orderflow.OrderPlaced.v1` → `OrderPlaced`."""
    name = event_type.removeprefix("orderflow.")
    head, _, version = name.rpartition(".v")
    return plain(head if head and version.isdigit() else name, 80) or "undecodable"


def sentence(text: str) -> str:
    """`it moves money` → `It moves money.`"""
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1:] in {'.', '!', '?'} else '.'}"


def tone(what: str) -> str:
    """Of a moment of the timeline."""
    if "gave up" in what or " dead: " in what or what.startswith("FAILED"):
        return "bad"
    if "parked" in what or "held" in what or "refund" in what:
        return "warn"
    return "good" if what.startswith("COMPLETED") else "info" if what.startswith("PAID") else "quiet"


def _asset_versions() -> Mapping[str, str]:
    files = (HERE / "static").rglob("*.*")
    return {
        path.relative_to(HERE / "static").as_posix(): sha256(path.read_bytes()).hexdigest()[:12] for path in files
    }


def environment() -> Environment:
    """Templates with these filters. Everything is escaped; a name that is missing is an error."""
    made = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for each in (ago, clock, duration, exact, kind, moment, money, number, plain, pretty, sentence, short, tone):
        made.filters[each.__name__] = each
    versions = _asset_versions()

    def asset(name: str) -> str:
        return f"/static/{name}?v={versions[name]}"

    made.globals.update(asset=asset)
    made.tests["text"] = lambda value: isinstance(value, str)
    return made
