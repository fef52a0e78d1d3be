"""Bugs in what guards the doors, in the log of who did what, in what takes two persons, and in personal data."""

# ruff: noqa: E501  # what is replaced is as long as it is

from __future__ import annotations

from tests.zoo.bug import Bug

CHAIN = "core/postgres/sql/migrations/0010_chained_log.sql"
PROPOSALS = "http/operators/proposals.py"
LOG_WRITTEN = (
    '                await self._execute(self._queries["log_actions"], *recovery.log_entries(changes.log))\n'
)

BUGS = (
    Bug(
        "act-committed-before-its-row",
        3,
        "An act is committed, and its row of the operators' log is written by a transaction after that.",
        "core/postgres/transaction.py",
        LOG_WRITTEN,
        '                await self._open.execute("COMMIT")\n                await self._open.execute("BEGIN")\n'
        + LOG_WRITTEN,
        "tests/conformance/test_store_log.py",
    ),
    Bug(
        "republished-beside-its-row",
        3,
        "Publishing again is logged by a transaction after it.",
        "core/postgres/store.py",
        '                await connection.execute(self._queries["log_actions"], *log_entries([entry]))\n',
        "        if found:\n            await self.recovery.log(entry)\n",
        "tests/conformance/test_store_log.py",
    ),
    Bug(
        "link-without-the-actor",
        3,
        "The hash of a row of the operators' log does not cover who acted.",
        CHAIN,
        "* 1000000)::bigint::text, entry.who, entry.action,",
        "* 1000000)::bigint::text, entry.action,",
        "tests/integration/test_operators_log.py",
    ),
    Bug(
        "proof-without-the-actor",
        3,
        "Who proves the log does not look at who acted.",
        "core/operations/hash_chain.py",
        "str(at_us), action.who, action.action,",
        "str(at_us), action.action,",
        "tests/integration/test_operators_log.py",
    ),
    Bug(
        "link-to-nothing",
        3,
        "A row of the operators' log is not linked to the one before it.",
        CHAIN,
        "operator_action_hash(coalesce(v_hash, decode(repeat('00', 32), 'hex')), NEW)",
        "operator_action_hash(decode(repeat('00', 32), 'hex'), NEW)",
        "tests/integration/test_operators_log.py",
    ),
    Bug(
        "proposer-approves-by-id",
        3,
        "Who has proposed something may approve it by its id.",
        PROPOSALS,
        "        if proposal.who == act.caller.name:\n            raise ProblemError(409",
        "        if proposal.who == act.who:\n            raise ProblemError(409",
        "tests/integration/test_two_persons.py",
    ),
    Bug(
        "proposer-asks-twice",
        3,
        "Who asks twice for what takes two persons has it done.",
        PROPOSALS,
        "        if proposal.who == act.caller.name:\n            return Reply(ACCEPTED, body=proposal)\n",
        "        if proposal.id == wanted.id:\n            return Reply(ACCEPTED, body=proposal)\n",
        "tests/integration/test_two_persons.py",
    ),
    Bug(
        "proposal-closed-by-its-maker",
        3,
        "The store lets a proposal be carried out by the one who has made it.",
        "core/postgres/sql/queries.sql",
        "AND until > now() AND proposals.who <> approved.who\n",
        "AND until > now()\n",
        "tests/conformance/test_store_proposals.py",
    ),
    Bug(
        "approver-alone",
        3,
        "With two persons a command that takes an approver is carried in for one.",
        "core/engine.py",
        "if self._config.two_person and command.PERMISSION == APPROVE:",
        "if self._config.two_person and act is None and command.PERMISSION == APPROVE:",
        "tests/integration/test_two_persons.py",
    ),
    Bug(
        "roles-at-the-door-alone",
        3,
        "Whether a caller may give a command is asked by HTTP, and not where it is carried in.",
        "core/engine.py",
        "        command.PERMISSION.require(by.caller if isinstance(by, Act) else by)\n",
        "",
        "tests/unit/core/recovery/test_access.py",
    ),
    Bug(
        "repair-for-everybody",
        3,
        "Whether a caller may repair is asked by HTTP, and not where the repair is carried in.",
        "core/operations/repairing.py",
        "        command.PERMISSION.require(act.caller)\n",
        "",
        "tests/unit/core/recovery/test_access.py",
    ),
    Bug(
        "note-for-everybody",
        3,
        "Whether a caller may note what is known of dead letters is asked by HTTP alone.",
        "core/operations/recovery.py",
        '        """Say what is known of a group."""\n        OPERATE.require(act.caller)\n',
        '        """Say what is known of a group."""\n',
        "tests/unit/core/recovery/test_access.py",
    ),
    Bug(
        "rebound-name-is-served",
        3,
        "A request that calls this machine by another's name is served.",
        "http/gate.py",
        "        if name in self._names or _is_at(name, ends.ours):",
        "        if name in self._names or _is_at(name, ends.ours) or is_loopback(ends.ours):",
        "tests/integration/test_access.py -k page_on_this_machine",
    ),
    Bug(
        "name-sent-in-clear",
        3,
        "A new order has the customer's name in clear text.",
        "services/order/api.py",
        "            customer_id=customer,\n            currency=order.currency,",
        "            customer_id=order.customer_id,\n            currency=order.currency,",
        "tests/integration/test_privacy.py",
    ),
    Bug(
        "erase-keeps-the-key",
        3,
        "A customer is noted as forgotten, and his key stays.",
        "privacy/sql/queries.sql",
        "    DELETE FROM customer_keys WHERE lookup = $1::bytea RETURNING id\n",
        "    SELECT id FROM customer_keys WHERE lookup = $1::bytea\n",
        "tests/integration/test_privacy.py",
    ),
    Bug(
        "forgotten-by-one-process",
        3,
        "Only the process that has erased a customer forgets his name.",
        "privacy/customers.py",
        "            for text in [text for text in self._persons if key_id_of(text) in self._gone]:\n                self._pseudonyms.pop(self._persons.pop(text), None)",
        "            pass",
        "tests/integration/test_privacy.py",
    ),
    Bug(
        "names-for-viewers",
        3,
        "A viewer's answers keep what they tell of customers.",
        "http/personal.py",
        "name: _emptied(each) if name in personal else",
        "name: each if name in personal else",
        "tests/integration/test_access.py -k viewer",
    ),
    Bug(
        "slow-reader-for-ever",
        4,
        "A client that does not take its answer keeps its connection.",
        "http/protocol.py",
        "        if is_unread and self._unwritten - left >= limits.write_s * limits.write_rate_min:",
        "        if is_unread:",
        "tests/integration/test_http_timeouts.py -k write",
    ),
)
