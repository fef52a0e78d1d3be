"""The command line. Each command is a file of its own, loaded when it is asked for."""

from __future__ import annotations

import click

from orderflow import __version__
from orderflow.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "up": LazyCommand("orderflow.cli.up:up", "Start everything on this machine, and keep it running."),
    "down": LazyCommand("orderflow.cli.up:down", "Stop what `up` started."),
    "status": LazyCommand("orderflow.cli.status:status", "Show what is running, and where."),
    "logs": LazyCommand("orderflow.cli.logs:logs", "Show the logs of the services."),
    "reset": LazyCommand("orderflow.cli.up:reset", "Delete all data in a home."),
    "order": LazyCommand("orderflow.cli.order:order", "Place orders, and see what happened to them."),
    "payment": LazyCommand(
        "orderflow.cli.payment:payment", "Show payments, and settle charges that the bank left open."
    ),
    "console": LazyCommand(
        "orderflow.cli.console:console", "Serve the console page: Flow, Orders, Dead letters, Health."
    ),
    "demo": LazyCommand("orderflow.cli.demo:demo", "Place many orders, follow each to its end, and print a summary."),
    "topic": LazyCommand("orderflow.cli.topic:topic", "Read the events on a topic."),
    "stuck": LazyCommand("orderflow.cli.explain:stuck", "Show late orders, grouped by what holds them up."),
    "health": LazyCommand("orderflow.cli.trouble:health", "Show what is wrong in each service."),
    "dlt": LazyCommand("orderflow.cli.dlt:dlt", "Inspect, rehearse, replay and fix dead letters."),
    "customer": LazyCommand("orderflow.cli.customer:customer", "Export or erase a customer's personal data."),
    "ops": LazyCommand("orderflow.cli.ops:ops", "Show what operators did, and prove the log intact."),
    "outage": LazyCommand("orderflow.cli.trouble:outage", "Show what is judged an outage, and overrule it."),
    "fault": LazyCommand("orderflow.cli.fault:fault", "Make events fail on purpose, on a game day."),
    "outbox": LazyCommand(
        "orderflow.cli.outbox:outbox", "Show events waiting to be published, and republish lost ones."
    ),
    "expired": LazyCommand(
        "orderflow.cli.trouble:expired", "Show records that expired unread, and acknowledge them."
    ),
    "lag": LazyCommand("orderflow.cli.trouble:lag", "Show how far each consumer is behind, and what is stuck."),
    "audit": LazyCommand("orderflow.cli.audit:audit", "Check the five promises across all databases."),
    "simulate": LazyCommand(
        "orderflow.cli.simulate:simulate", "Simulate all services with faults, in worlds drawn from seeds."
    ),
    "chaos": LazyCommand("orderflow.cli.chaos:chaos", "Break everything under load, and judge the outcome."),
    "token": LazyCommand("orderflow.cli.token:token", "Create, list and revoke access tokens."),
    "schema": LazyCommand("orderflow.cli.schema:schema", "Export event schemas, and see what a change would break."),
    "settings": LazyCommand("orderflow.cli.settings:settings", "Show every setting, and where its value comes from."),
    "doctor": LazyCommand("orderflow.cli.doctor:doctor", "Check this machine and the running system."),
    "run": LazyCommand("orderflow.cli.up:run", "Run a single service, for deployments."),
    "migrate": LazyCommand("orderflow.cli.up:migrate", "Create databases, roles and tables on an existing server."),
    "grant": LazyCommand("orderflow.cli.deploy:grant", "Create users and access rights on an existing Kafka."),
    "credentials": LazyCommand(
        "orderflow.cli.deploy:credentials", "Create passwords, certificates and tokens for containers."
    ),
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
    orderflow status                  what is running, and where

    \b
    Exit codes: 0 done; 1 failed, or something was found; 2 wrong usage or settings;
    3 nothing answers; 4 not found; 5 refused; 6 time is up; 130 interrupted.
    Standard error says why in one sentence (as JSON with --json).
    """
