"""What is made of the catalogue of signals: a page of the documents, Prometheus' rules, and a dashboard for Grafana.

python -m scripts.signals            say which of them is not as the catalogue has it; exit code 1 then
python -m scripts.signals --write    write them
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from orderflow.core import telemetry
from orderflow.observability.catalogue import METRICS, SPANS, SpanInfo
from scripts.alerts import ALERTS, LOG_LINES, PANELS, RECORDS, AlertInfo, PanelInfo
from scripts.check import say

PROJECT = Path(__file__).resolve().parent.parent
RUNBOOK = "docs/runbook.md"
MADE = "Made by `python -m scripts.signals --write` from `observability/catalogue.py` and `scripts/alerts.py`."
WIDTH, HEIGHT = 8, 7
_ABOUT = {"handle {}": "TYPE", "ask {}": "KIND"}


def files() -> Mapping[str, str]:
    """By path: what each has to hold."""
    return {
        "docs/signals.md": page(),
        "deploy/prometheus/rules.yml": rules(),
        "deploy/grafana/orderflow.json": json.dumps(dashboard(), indent=2) + "\n",
    }


def page() -> str:
    """Everything that can be seen, for people."""
    return "\n".join([*_signals(), *_metrics(), *_spans(), *_alerts()]) + "\n"


def _signals() -> Iterator[str]:
    yield "# Signals"
    yield ""
    yield f"Everything that a running system reports. {MADE}"
    yield ""
    yield "## What the core reports, and its log lines"
    yield ""
    yield "Each log line is a JSON object with `time`, `level`, `service`, `action`, and for an order its `order_id`."
    yield ""
    yield "| signal | meaning | log line (`action`), level | span |"
    yield "|---|---|---|---|"
    for signal in get_args(telemetry.Signal):
        lines = [f"`{each.action}`, {each.level}" for each in LOG_LINES if each.signal == signal.__name__]
        spans = [_name(each) for each in SPANS if each.signal == signal.__name__]
        yield f"| {signal.__name__} | {_sentence(signal)} | {'<br>'.join(lines)} | {'<br>'.join(spans)} |"
    yield ""


def _sentence(signal: type) -> str:
    text = " ".join(inspect.cleandoc(signal.__doc__ or "").split())
    return text.replace("|", "\\|")


def _metrics() -> Iterator[str]:
    yield "## Metrics"
    yield ""
    yield "At `/metrics` of each service, in Prometheus' text format, with the process metrics (`process_...`)."
    yield "A gauge whose value is unknown, for example while its database is away, is left out."
    yield ""
    yield "| metric | kind | meaning | labels |"
    yield "|---|---|---|---|"
    for each in METRICS:
        yield f"| `{each.exposed}` | {each.kind} | {each.meaning} | {', '.join(each.labels)} |"
    yield ""


def _spans() -> Iterator[str]:
    yield "## Spans"
    yield ""
    yield "Sent as [traces](operations.md#traces) if `ORDERFLOW_OTLP_ENDPOINT` is set."
    yield ""
    yield "| span | kind | made from | meaning | attributes |"
    yield "|---|---|---|---|---|"
    for each in SPANS:
        attributes = ", ".join(f"`{name}`" for name in each.attributes)
        yield f"| {_name(each)} | {each.kind} | {each.signal or 'a request'} | {each.meaning} | {attributes} |"
    yield ""


def _name(span: SpanInfo) -> str:
    about = ("METHOD", "ROUTE") if span.kind == "server" else (_ABOUT.get(span.name, "TOPIC"),)
    return f"`{span.name.format(*about)}`"


def _alerts() -> Iterator[str]:
    yield "## Alerts"
    yield ""
    yield "In [rules.yml](../deploy/prometheus/rules.yml), symptoms first; `page` wakes someone, `ticket` can wait."
    yield ""
    yield "| alert | severity | for | message | what to do |"
    yield "|---|---|---|---|---|"
    for each in ALERTS:
        said = each.summary.replace("{{ $labels.", "*").replace(" }}", "*").replace("{{ $value", "*n")
        yield f"| {each.name} | {each.severity} | {each.lasting} | {said} | [runbook](runbook.md#{each.runbook}) |"


def rules() -> str:
    """Recording and alerting rules. JSON is YAML: each value is written as JSON, so that nothing needs quoting."""
    lines = [f"# {MADE}", "groups:", "- name: orderflow-records", "  rules:"]
    for each in RECORDS:
        lines += [f"  - record: {each.name}", f"    expr: {json.dumps(each.expression)}"]
    lines += ["- name: orderflow-alerts", "  rules:"]
    for alert in ALERTS:
        lines += _rule(alert)
    return "\n".join(lines) + "\n"


def _rule(alert: AlertInfo) -> Sequence[str]:
    return (
        f"  - alert: {alert.name}",
        f"    expr: {json.dumps(alert.expression)}",
        f"    for: {alert.lasting}",
        f"    labels: {{severity: {alert.severity}}}",
        "    annotations:",
        f"      summary: {json.dumps(alert.summary)}",
        f"      runbook: {RUNBOOK}#{alert.runbook}",
    )


def dashboard() -> dict[str, Any]:
    """For Grafana 10 and later, by its own schema (schemaVersion 39); the data source is chosen at the top of it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in PANELS:
        panels.append(_row(title, len(panels) + 1, _place(0, top, 24, 1)))
        for number, panel in enumerate(row):
            x, y = number % 3 * WIDTH, top + 1 + number // 3 * HEIGHT
            panels.append(_panel(panel, len(panels) + 1, _place(x, y, WIDTH, HEIGHT)))
        top += 1 + -(-len(row) // 3) * HEIGHT
    return {
        "title": "Orderflow",
        "uid": "orderflow",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _row(title: str, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: PanelInfo, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend, "datasource": source}
            for at, (expression, legend) in enumerate(panel.series)
        ],
    }


def main(arguments: Sequence[str]) -> int:
    if "--write" in arguments:
        for path, text in files().items():
            (PROJECT / path).parent.mkdir(parents=True, exist_ok=True)
            (PROJECT / path).write_text(text, encoding="utf-8")
        return 0
    stale = [path for path, text in files().items() if not _holds(PROJECT / path, text)]
    for path in stale:
        say(f"{path} is not as the catalogue has it: write it anew with python -m scripts.signals --write")
    return 1 if stale else 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
