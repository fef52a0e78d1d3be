"""Actions that change something: who takes them, and what must be confirmed first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from orderflow.cli.errors import ProposedError
from orderflow.cli.http import ServiceClient
from orderflow.local.home import person_here

OPERATOR = "x-orderflow-operator"
WAIT_S = 60.0
ACCEPTED = 202


def act(client: ServiceClient, method: str, path: str, body: object) -> Any:
    """Ask for a change; the answer's JSON. Raises CliError; ProposedError: it takes two, and is not done yet."""
    answer = client.ask(method, path, body=body, headers={OPERATOR: person_here()}, wait_s=WAIT_S)
    if answer.status == ACCEPTED:
        raise ProposedError(
            f"This takes two approvers, so nothing is done yet: it is proposed until {answer.body['until']} as "
            f"{answer.body['id']}. Another approver can request the same, or run: "
            f"orderflow ops approve {answer.body['id']} --yes --reason TEXT"
        )
    return answer.body


def confirm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --yes and --reason."""
    yes = click.option("--yes", is_flag=True, help="Confirm, where the service requires it.")
    reason = click.option("--reason", metavar="TEXT", default="", help="Why; recorded in the operators' log.")
    return yes(reason(command))
