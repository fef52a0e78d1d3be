"""`orderflow order watch`: every step of an order, as it happens."""

from __future__ import annotations

from typing import Any

from orderflow.cli.bars import heartbeat
from orderflow.cli.follow import until_end
from orderflow.cli.http import ServiceClient
from orderflow.cli.order_view import step_line, stuck
from orderflow.cli.output import Output, text


def watch_order(client: ServiceClient, out: Output, order_id: str, timeout_s: float) -> dict[str, Any]:
    """Show what happens to the order; returns it as it was at the end. Raises CliError."""
    told = _Teller(out, order_id)
    last: dict[str, Any] = {}
    with heartbeat(lambda: f"it is {last['status']}" if last else "", hidden=out.as_json):
        for order in until_end(client, order_id, timeout_s):
            told.tell(order)
            last = order or last
    return last


class _Teller:
    """Says each thing once."""

    def __init__(self, out: Output, order_id: str) -> None:
        self._out = out
        self._order_id = order_id
        self._steps = 0
        self._stuck: dict[str, Any] = {}
        self._away = False

    def tell(self, order: dict[str, Any] | None) -> None:
        if order is None:
            self._tell_away()
            return
        self._away = False
        for step in order["history"][self._steps :]:
            self._tell_step(step, order)
        self._steps = max(self._steps, len(order["history"]))
        if order["stuck"] != self._stuck:
            self._stuck = order["stuck"]
            self._tell_stuck(order)

    def _tell_step(self, step: dict[str, Any], order: dict[str, Any]) -> None:
        if self._out.as_json:
            self._out.line({"id": self._order_id, **step})
        else:
            line = step_line(step, order["history"][0]["at"])
            if step["status"] == "FAILED" and not step.get("refund"):
                line.append_text(text(f" ({order['reason']})"))
            self._out.show(line)

    def _tell_stuck(self, order: dict[str, Any]) -> None:
        if self._out.as_json:
            self._out.line({"id": self._order_id, "stuck": self._stuck})
        elif self._stuck:
            self._out.show(*stuck(order))
        else:
            self._out.show(text("It is stuck no longer.", "green"))

    def _tell_away(self) -> None:
        if not self._away and not self._out.as_json:
            self._out.show(text("The order service does not answer; trying again", "yellow"))
        self._away = True
