"""`orderflow dlt`: the events that were given up, and how to mend them."""

from __future__ import annotations

import click

from orderflow.cli.lazy import LazyGroup, Line

COMMANDS = {
    "list": Line("orderflow.cli.dlt.show:list_letters", "List dead events, and those that wait."),
    "groups": Line("orderflow.cli.dlt.show:groups", "Show dead events grouped by cause."),
    "note": Line("orderflow.cli.dlt.show:note", "Attach a note to a group."),
    "show": Line("orderflow.cli.dlt.show:show", "Show one event: why it failed, its record, history and order."),
    "rehearse": Line("orderflow.cli.dlt.replay:rehearse", "Show what a replay would do, without doing it."),
    "replay": Line("orderflow.cli.dlt.replay:replay", "Send events through their consumer again."),
    "replays": Line("orderflow.cli.dlt.replay:replays", "Show the state of recent replays."),
    "pause": Line("orderflow.cli.dlt.replay:pause", "Pause a replay."),
    "resume": Line("orderflow.cli.dlt.replay:resume", "Resume a replay that was paused or stopped."),
    "edit": Line("orderflow.cli.dlt.edit:edit", "Correct the value of an event; the original is kept."),
    "discard": Line("orderflow.cli.dlt.edit:discard", "Give up an event for good."),
    "log": Line("orderflow.cli.dlt.show:log", "Show who did what, when and why."),
    "pytest": Line("orderflow.cli.dlt.reproduce:reproduce", "Write a test that fails as the event did."),
    "check": Line("orderflow.cli.dlt.check:check", "Check that this release can read every stuck event."),
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
