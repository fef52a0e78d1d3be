"""`orderflow customer`: tell what is held of a customer, and forget him."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from orderflow.cli.acting import act
from orderflow.cli.errors import CliError, NotFoundError, RequestRefusedError
from orderflow.cli.http import ServiceClient
from orderflow.cli.lazy import Group
from orderflow.cli.output import text
from orderflow.cli.session import Answers, Session, ask, session_options
from orderflow.settings import Settings

ENTRANCE = "order"
"""The service at which names of customers come in: no other has their keys."""

LETTERS = "/ops/dead-letters"
BANK = "bank_"
NAME_MAX = 100


def customer_name(value: Any) -> str:
    """Raises click.BadParameter."""
    name = str(value)
    if not 1 <= len(name) <= NAME_MAX:
        raise click.BadParameter(f"a customer's name has 1 to {NAME_MAX} characters, and this has {len(name)}")
    return name


@click.group(cls=Group)
def customer() -> None:
    """Export or erase a customer's personal data.

    Customers' names are stored and sent encrypted, each under a key of its own that is kept apart from all data.
    Erasing a customer destroys that key: rows, topics, dead letters and backups then hold a pseudonym that nobody
    can read. Books and audit stay as they are. Both commands need the role approver.

    \b
    orderflow customer export customer-42
    orderflow customer erase customer-42 --yes --reason "asked for by letter of 26 November"
    """


shop_option = click.option(
    "--shop",
    metavar="SHOP",
    help="The customer's shop: that of the token that placed the orders.  [default: none]",
)


@customer.command()
@click.argument("name", type=customer_name, metavar="CUSTOMER_ID")
@shop_option
@click.option(
    "--topics/--no-topics",
    default=True,
    show_default=True,
    help="Also read the topics, from end to end; their records are copies of what the outboxes held.",
)
@session_options
def export(session: Session, name: str, shop: str | None, topics: bool) -> None:
    """Export everything stored about a customer, as JSON: each row and record, by store.

    CUSTOMER_ID is the shop's name for the customer, letter for letter. `stores` says where each part comes from:
    tables of a database (a service's own, its inbox, outbox and dead letters, the bank's book) or a topic of the
    event log, dead-letter topics included. Values are shown as stored, but with the customer's name in place of the
    pseudonym, which `written_as` shows. Logs and metrics hold nothing about customers. Data from before an erasure
    belongs to nobody, and is not found.

    There is no index of customers, so all orders and all records of the topics are searched: that can take a while.

    Exit code: 0 done, 3 a service or the event log did not answer (then nothing is shown), 4 the customer has no
    orders.

    \b
    orderflow customer export customer-42 > customer-42.json
    orderflow customer export customer-42 | jq '.orders[].order.orders[0].total'
    orderflow customer export customer-42 --no-topics | jq .stores
    """
    with session.client(ENTRANCE) as client:
        pages = list(_pages(client, name, shop))
    written_as, orders = pages[-1]["written_as"], [each for page in pages for each in page["orders"]]
    if not orders:
        raise NotFoundError(f"There is no order of a customer {name!r}.")
    held = {order_id: _held(session, order_id) for order_id in orders}
    if topics:
        for order_id, records in asyncio.run(_on_topics(session.running, set(orders))).items():
            held[order_id]["topics"] = records
    pseudonyms = [each for each in written_as if each != name]
    document = _named({"customer_id": name, "stores": _stores(held), "orders": held}, pseudonyms, name)
    session.out.document({**document, "written_as": pseudonyms})


@customer.command()
@click.argument("name", type=customer_name, metavar="CUSTOMER_ID")
@shop_option
@click.option("--yes", is_flag=True, help="Confirm.")
@click.option(
    "--reason", metavar="TEXT", default="", help="Why, without the customer's name; recorded in the operators' log."
)
@session_options
def erase(session: Session, name: str, shop: str | None, yes: bool, reason: str) -> None:
    """Erase a customer for good: destroy the key that encrypts the name.

    CUSTOMER_ID is the shop's name for the customer, letter for letter. From then on, the customer's orders show
    "(erased)" as the name, everywhere and in every backup of the services' databases. Orders, payments and the books
    stay as they are. A customer who orders again gets a new key. Delete the backups of the keys database, too.

    Exit code: 0 done, 1 some orders still hold the name in clear text, from before names were encrypted, 3 the order
    service did not answer, 4 there is no such customer, 5 not confirmed.

    \b
    orderflow customer export customer-42 > customer-42.json
    orderflow customer erase customer-42 --yes --reason "asked for by letter of 26 November"
    """
    if not (yes and reason.strip()):
        raise RequestRefusedError(
            "This erases the customer for good: nobody can restore the name. To see first what is stored, run: "
            "orderflow customer export. To confirm, add: --yes --reason TEXT (without the name)"
        )
    with session.client(ENTRANCE) as client:
        body = {"customer_id": name, "shop": shop, "reason": reason, "confirmed": True}
        erased = act(client, "POST", "/ops/customers/erase", body)
        left = [each for page in _pages(client, name, shop) for each in page["orders"]]
    told = text(f"The customer is forgotten: {erased['pseudonym']} no longer names anyone.")
    session.out.answer({**erased, "left_in_clear_text": left}, [told])
    if left:
        raise CliError(
            f"{len(left)} orders from before names were encrypted still name the customer in clear text, for "
            f"example {left[0]}"
        )


def _pages(client: ServiceClient, name: str, shop: str | None) -> Iterator[Any]:
    """What the entrance finds of his orders, answer by answer. Raises CliError."""
    after: str | None = None
    while True:
        page = act(client, "POST", "/ops/customers/orders", {"customer_id": name, "shop": shop, "after": after})
        yield page
        after = page["next"]
        if after is None:
            return


def _held(session: Session, order_id: str) -> dict[str, Any]:
    """By service. Raises UnreachableError: one did not answer."""
    records = ask(session, lambda client: client.get(f"/ops/orders/{order_id}/records"))
    records.require_all()
    letters = ask(session, lambda client: _letters(client, order_id))
    letters.require_all()
    return {
        name: {**(found or {}).get("records", {}), **_some(letters, name)}
        for name, found in records.found.items()
        if found or letters.found[name]
    }


async def _on_topics(settings: Settings, orders: Collection[str]) -> dict[str, dict[str, list[Any]]]:
    """By order and topic: the records of these orders, dead-letter topics included. Raises UnreachableError."""
    from orderflow.cli.topic import document, merged, open_log, spans
    from orderflow.core.dead_letters import FLOW_STATUS, topic_of
    from orderflow.core.transport import TopicMissingError
    from orderflow.local.services import definitions

    published = dict.fromkeys(topic for each in definitions().values() for topic in (*each.publishes, FLOW_STATUS))
    found: dict[str, dict[str, list[Any]]] = {order_id: {} for order_id in orders}
    async with open_log(settings) as log:
        for topic in (name for each in published for name in (each, topic_of(each))):
            with suppress(TopicMissingError):
                everything = await spans(log, topic, lambda first, _: first)
                async for record in merged(log, topic, everything):
                    key = (record.key or b"").decode("utf-8", "replace")
                    if key in found:
                        found[key].setdefault(topic, []).append(document(record))
    return found


def _stores(held: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, str]:
    """By the path of a part below an order: where it is stored."""
    parts = dict.fromkeys((owner, part) for each in held.values() for owner, parts in each.items() for part in parts)
    return {f"{owner}.{part}": _store(owner, part) for owner, part in parts}


def _store(owner: str, part: str) -> str:
    if owner == "topics":
        return f"topic {part} of the event log"
    if part.startswith(BANK):
        return f"table {part} of the bank's database (orderflow_bank, where nobody says another)"
    table = "parked_events" if part == "dead_letters" else part
    return f"table {table} of the database of {owner} (orderflow_{owner}, where nobody says another)"


def _some(letters: Answers, name: str) -> dict[str, Any]:
    return {"dead_letters": letters.found[name]} if letters.found[name] else {}


def _letters(client: ServiceClient, order_id: str) -> Sequence[Any]:
    """What a service could not handle of the order, or waits there, with the records."""
    page = client.get(LETTERS, {"key": order_id, "state": "all", "limit": 1000})
    return [client.get(f"{LETTERS}/{letter['position']}") for letter in page["dead_letters"]]


def _named(document: Any, pseudonyms: Sequence[str], name: str) -> Any:
    """With the name in place of each pseudonym, wherever in a text it stands."""
    text = json.dumps(document)
    for pseudonym in pseudonyms:
        text = text.replace(pseudonym, json.dumps(name)[1:-1])
    return json.loads(text)
