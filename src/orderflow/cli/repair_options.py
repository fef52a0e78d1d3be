"""The options of `orderflow audit --repair`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from orderflow.cli.values import order_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRequest:
    """Which findings are meant (empty: all), and what the person has said: that it is meant, and why."""

    kinds: tuple[str, ...] = ()
    orders: tuple[str, ...] = ()
    yes: bool = False
    reason: str = ""


def repair_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --repair and what goes with it; the command gets `asked`, which is None where no repair is wanted."""

    @functools.wraps(command)
    def with_asked(*given: Any, repair: bool, **options: Any) -> None:
        names = ("yes", "reason", "kinds", "orders")
        said = {name: options.pop(name) for name in names}
        if not repair and any(said.values()):
            raise click.UsageError("--yes, --reason, --only and --order go with --repair")
        if repair and options.get("every_s") is not None:
            raise click.UsageError("Either --watch or --repair")
        command(*given, asked=RepairRequest(**said) if repair else None, **options)

    for option in (
        click.option("--order", "orders", metavar="ORDER_ID", type=order_id, multiple=True, help="Only this order."),
        click.option("--only", "kinds", metavar="KIND", multiple=True, help="Repair only findings of this kind."),
        click.option("--reason", metavar="TEXT", default="", help="Why; recorded in the operators' log."),
        click.option("--yes", is_flag=True, help="Carry out the repair without asking."),
        click.option("--repair", is_flag=True, help="Plan and carry out what the services can repair themselves."),
    ):
        with_asked = option(with_asked)
    return with_asked
