"""Bugs in code that the simulator does not run: the log in PostgreSQL, Kafka, HTTP, the audit itself."""

# what is replaced is as long as it is

from __future__ import annotations

from tests.zoo.bug import Bug

SQL = "core/postgres/sql/queries.sql"
LOG = "core/postgres_log"

BUGS = (
    Bug(
        "log-looks-only-when-told",
        1,
        "A member of the log in PostgreSQL looks for records only when it is notified.",
        f"{LOG}/consumer.py",
        "            held.end = max(held.end, end)",
        "            held.end = max(held.end, end if held not in before.values() else 0)",
        "tests/integration/test_competitors.py -k told",
    ),
    Bug(
        "lease-renewed-too-late",
        4,
        "A member of the log in PostgreSQL renews its lease only after it has expired.",
        f"{LOG}/consumer.py",
        "self._renew_every_s = session_timeout_s / 3",
        "self._renew_every_s = session_timeout_s * 1.5",
        "tests/integration/test_competitors.py -k lease",
    ),
    Bug(
        "fenced-member-commits-in-memory",
        1,
        "The twin of the log lets a fenced member commit offsets.",
        "core/testing/log.py",
        "            if place in member.positions:\n",
        "            if True:\n",
        "tests/conformance/transport/test_groups.py -k memory",
    ),
    Bug(
        "regained-at-the-old-position",
        1,
        "A partition that was lost and regained continues from the old position.",
        f"{LOG}/consumer.py",
        "if held is None or held.generation != generation:",
        "if held is None:",
        "tests/unit/core/test_log_members.py",
    ),
    Bug(
        "upcasters-last-first",
        3,
        "The upcasters of an old event version are applied in the wrong order.",
        "core/messages.py",
        "            for upcaster in upcasters:\n                fields",
        "            for upcaster in reversed(upcasters):\n                fields",
        "tests/unit/core/test_upcasters.py",
    ),
    Bug(
        "one-sku-in-two-lines",
        5,
        "An order with two lines for the same SKU is accepted.",
        "events/order.py",
        "            if item.sku in seen:",
        "            if item.sku in seen and not items:",
        "tests/unit/order",
    ),
    Bug(
        "fresh-rows-outlive-the-slot",
        4,
        "The relay keeps its fresh records when its slots change.",
        "core/postgres/outbox.py",
        "        if owned != self.owned:\n            self._fresh.clear()",
        "        if owned != self.owned:\n            pass",
        "tests/integration/test_competitors.py -k remembers",
    ),
    Bug(
        "wait-hears-only-of-completed",
        1,
        "A caller that waits for an order is not answered when another process fails it.",
        "services/order/sql/queries.sql",
        "WHERE order_id = ANY ($1::uuid[]) AND status IN ('COMPLETED', 'FAILED')",
        "WHERE order_id = ANY ($1::uuid[]) AND status = 'COMPLETED'",
        "tests/integration/test_competitors.py -k waits",
    ),
    Bug(
        "idempotency-key-forgotten-early",
        2,
        "Idempotency keys are forgotten long before they expire.",
        "services/order/storage.py",
        "orders.purge_keys(context.config.idempotency_keep_s, AT_ONCE)",
        "orders.purge_keys(context.config.idempotency_keep_s / 1000, AT_ONCE)",
        "tests/integration/test_order_service.py -k upkeep",
    ),
    Bug(
        "audit-forgets-refunds",
        5,
        "The audit does not compare the refunds with the bank's.",
        "audit/orders.py",
        "yield from _refunds_agree(books, told, quiet=quiet)",
        "yield from ()",
        "tests/unit/test_audit_promises.py",
    ),
    Bug(
        "inbox-takes-it-twice",
        2,
        "An inbox row that already exists is ignored silently.",
        "core/postgres/sql/queries.sql",
        "AS entry (key, identity, event_id, state);\n\n-- name: replace_inbox",
        "AS entry (key, identity, event_id, state)\nON CONFLICT DO NOTHING;\n\n-- name: replace_inbox",
        "tests/conformance/test_store_inbox.py",
    ),
    Bug(
        "taken-back-is-committed",
        1,
        "A transaction that must roll back is committed.",
        "core/postgres/transaction.py",
        "            if end is End.ROLLBACK:\n                return\n",
        "",
        "tests/conformance/test_store_transactions.py",
    ),
    Bug(
        "look-marks-all-before",
        1,
        "Reading the outbox marks all rows up to the last sent one as sent, even those committed meanwhile.",
        SQL,
        "    DELETE FROM outbox_pending WHERE id = ANY ($3::text::bigint[])\n)",
        "    DELETE FROM outbox_pending WHERE id <= (SELECT max(n) FROM unnest($3::text::bigint[]) AS n)\n)",
        "tests/conformance/test_store_outbox.py",
    ),
    Bug(
        "unsent-out-of-order",
        4,
        "Unsent rows are read in no order.",
        SQL,
        "id <> ALL ($3::bigint[])\nORDER BY id LIMIT $2;\n\n-- name: outbox_mark_and_look",
        "id <> ALL ($3::bigint[])\nORDER BY id DESC LIMIT $2;\n\n-- name: outbox_mark_and_look",
        "tests/conformance/test_store_outbox.py",
    ),
)
