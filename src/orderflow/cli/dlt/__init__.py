"""`orderflow dlt`: the events that were given up, and how to mend them."""

from __future__ import annotations

import click

from orderflow.cli.lazy import LazyGroup, Line

COMMANDS = {
    "list": Line("orderflow.cli.dlt.show:list_letters", "List what was given up, or waits."),
    "groups": Line("orderflow.cli.dlt.show:groups", "The same by cause: what failed alike."),
    "note": Line("orderflow.cli.dlt.show:note", "Note what is known of a group."),
    "show": Line("orderflow.cli.dlt.show:show", "Show one event: why, its record, its history, its order."),
    "rehearse": Line("orderflow.cli.dlt.replay:rehearse", "What a replay would do, without doing it."),
    "replay": Line("orderflow.cli.dlt.replay:replay", "Send events through their consumer again."),
    "replays": Line("orderflow.cli.dlt.replay:replays", "How the latest replays stand."),
    "pause": Line("orderflow.cli.dlt.replay:pause", "Hold a replay."),
    "resume": Line("orderflow.cli.dlt.replay:resume", "Go on with a replay that was paused or stopped."),
    "edit": Line("orderflow.cli.dlt.edit:edit", "Correct the value of an event; the original is kept."),
    "discard": Line("orderflow.cli.dlt.edit:discard", "Give an event up for good."),
    "log": Line("orderflow.cli.dlt.show:log", "Who did what, when and why."),
    "pytest": Line("orderflow.cli.dlt.reproduce:reproduce", "Write a test that fails as the event does."),
    "check": Line("orderflow.cli.dlt.check:check", "Whether this release can read every parked event."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def dlt() -> None:
    """The events that were given up (dead letters): see them, rehearse, replay, mend.

    A consumer gives an event up when it cannot be read, or has failed too often. The later events of that
    order stay held at that consumer; every other order flows. The record, with its bytes and the reason,
    is also on the topic TOPIC.DLT. Every service is asked at once.

    \b
    orderflow dlt groups                                what failed, by cause
    orderflow dlt show 8ec9495d-610d-5954-a202-3d44caf9480b
    orderflow dlt rehearse --group 3f2a9c41d0e7         what a replay would do
    orderflow dlt replay --group 3f2a9c41d0e7           do it: 1, 2, 5, 10, ... at a time
    orderflow dlt list                                  what is left
    """
