"""The command line. Each command is a file of its own, loaded when it is asked for."""

from __future__ import annotations

import click

from orderflow import __version__
from orderflow.cli.lazy import LazyGroup, Line

COMMANDS = {
    "up": Line("orderflow.cli.up:up", "Start everything on this machine, and keep it running."),
    "down": Line("orderflow.cli.up:down", "Stop what `up` started."),
    "status": Line("orderflow.cli.status:status", "What runs where."),
    "logs": Line("orderflow.cli.logs:logs", "Show the logs of the services."),
    "reset": Line("orderflow.cli.up:reset", "Delete all data of a home."),
    "order": Line("orderflow.cli.order:order", "Place orders, and see what became of them."),
    "payment": Line("orderflow.cli.payment:payment", "See payments, and settle a charge that the bank leaves open."),
    "demo": Line("orderflow.cli.demo:demo", "Place many orders, follow them to their end, and sum up."),
    "topic": Line("orderflow.cli.topic:topic", "Read the events on a topic."),
    "stuck": Line("orderflow.cli.explain:stuck", "Which orders are late, by what holds them up."),
    "health": Line("orderflow.cli.trouble:health", "What is wrong, in every service."),
    "dlt": Line("orderflow.cli.dlt:dlt", "See, rehearse, replay and mend the events that were given up."),
    "outage": Line("orderflow.cli.trouble:outage", "See what is taken for an outage, and overrule it."),
    "fault": Line("orderflow.cli.fault:fault", "Make events fail on purpose, on a game day."),
    "outbox": Line("orderflow.cli.outbox:outbox", "See what waits to be published."),
    "expired": Line("orderflow.cli.trouble:expired", "See records that expired unread, and acknowledge them."),
    "lag": Line("orderflow.cli.trouble:lag", "See how far the services are behind, and what is stuck."),
    "audit": Line("orderflow.cli.audit:audit", "Check the five promises over all databases."),
    "simulate": Line("orderflow.cli.simulate:simulate", "Run all services in worlds that seeds decide, with faults."),
    "chaos": Line("orderflow.cli.chaos:chaos", "Break everything under load, and judge what came of it."),
    "schema": Line(
        "orderflow.cli.schema:schema", "The events as AsyncAPI and JSON Schema, and what a change breaks."
    ),
    "settings": Line("orderflow.cli.settings:settings", "Show every setting, and where its value came from."),
    "doctor": Line("orderflow.cli.doctor:doctor", "Check this machine and the running system."),
    "run": Line("orderflow.cli.up:run", "Run one service alone, for deployment."),
    "migrate": Line("orderflow.cli.up:migrate", "Make databases, roles and tables on a server that exists."),
}


@click.group(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="orderflow")
def main() -> None:
    """An event-driven order-processing platform: nothing lost, nothing twice, the books balance.

    \b
    orderflow up                      start everything on this machine
    orderflow order place --wait 10   place an order, and wait for its end
    orderflow demo --orders 500       a realistic mix of orders, and a summary
    orderflow status                  what runs where

    \b
    Exit codes: 0 done; 1 failed, or something was found; 2 wrong usage or settings;
    3 nothing answers; 4 not found; 5 refused; 6 time is up; 130 interrupted.
    Standard error says why in one sentence (as JSON with --json).
    """
