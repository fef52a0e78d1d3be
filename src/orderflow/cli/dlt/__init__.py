"""`orderflow dlt`: the events that were given up, and how to fix them."""

from __future__ import annotations

import click

from orderflow.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "list": LazyCommand("orderflow.cli.dlt.show:list_letters", "List dead events, and those that wait."),
    "groups": LazyCommand("orderflow.cli.dlt.show:groups", "Show dead events grouped by cause."),
    "note": LazyCommand("orderflow.cli.dlt.show:note", "Attach a note to a group."),
    "show": LazyCommand(
        "orderflow.cli.dlt.show:show", "Show one event: why it failed, its record, history and order."
    ),
    "rehearse": LazyCommand("orderflow.cli.dlt.replay:rehearse", "Show what a replay would do, without doing it."),
    "replay": LazyCommand("orderflow.cli.dlt.replay:replay", "Send events through their consumer again."),
    "replays": LazyCommand("orderflow.cli.dlt.replay:replays", "Show the state of recent replays."),
    "pause": LazyCommand("orderflow.cli.dlt.replay:pause", "Pause a replay."),
    "resume": LazyCommand("orderflow.cli.dlt.replay:resume", "Resume a replay that was paused or stopped."),
    "edit": LazyCommand("orderflow.cli.dlt.edit:edit", "Correct the value of an event; the original is kept."),
    "discard": LazyCommand("orderflow.cli.dlt.edit:discard", "Give up an event for good."),
    "log": LazyCommand("orderflow.cli.dlt.show:log", "Show who did what, when and why."),
    "pytest": LazyCommand("orderflow.cli.dlt.reproduce:reproduce", "Write a test that fails as the event did."),
    "check": LazyCommand("orderflow.cli.dlt.check:check", "Check that this release can read every stuck event."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def dlt() -> None:
    """Dead letters, the events that were given up: inspect, rehearse, replay and fix them.

    A consumer gives up an event that it cannot read or that has failed too often. Later events of the same order
    stay held at that consumer; every other order flows. The record, with its bytes and the reason, is also on the
    topic TOPIC.DLT. All services are asked at once.

    \b
    orderflow dlt groups                                what failed, by cause
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt rehearse --group 3f2a9c41d0e7         what a replay would do
    orderflow dlt replay --group 3f2a9c41d0e7           do it: 1, 2, 5, 10, ... at a time
    orderflow dlt list                                  what is left
    """
